"""Word, PowerPoint, Excel and EPUB files: what is read, and what hostile or broken ones cost."""

from __future__ import annotations

import datetime
import importlib.util
import io
import sys
import zipfile
from typing import Any

import pytest
from fixtures.documents import outline, written

from smart_retrieval.documents.read import ReadOptions, read_file
from smart_retrieval.errors import MissingExtraError
from smart_retrieval.files import UnreadableFileError

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
CONTAINER = '<container><rootfiles><rootfile full-path="OEBPS/a.opf"/></rootfiles></container>'


def zipped(parts: dict[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return out.getvalue()


def paragraph(text: str, style: str = "") -> str:
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{properties}<w:r><w:t>{text}</w:t></w:r></w:p>"


def docx(body: str, head: str = "", **more: str) -> bytes:
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="berschrift{level}"><w:name w:val="heading {level}"/></w:style>'
        for level in (1, 2)
    )
    return zipped(
        {
            "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
            "_rels/.rels": f'<Relationships xmlns="{RELATIONS}"><Relationship Id="a" Type="{OFFICE}/officeDocument" '
            'Target="word/document.xml"/></Relationships>',
            "word/_rels/document.xml.rels": f'<Relationships xmlns="{RELATIONS}"><Relationship Id="b" '
            f'Type="{OFFICE}/styles" Target="styles.xml"/></Relationships>',
            "word/styles.xml": f"<w:styles {W}>{styles}</w:styles>",
            "word/document.xml": f"{head}<w:document {W}><w:body>{body}</w:body></w:document>",
            **more,
        }
    )


def test_word_headings_paragraphs_and_tables(read: Any) -> None:
    pytest.importorskip("mammoth")
    cells = "".join(f"<w:tc>{paragraph(text)}</w:tc>" for text in ("left", "right"))
    body = (
        paragraph("Before &lt;script&gt;.")
        + paragraph("Pumps", "berschrift1")  # the style's id is in the user's language, its name never
        + paragraph("Prime the pump.")
        + paragraph("Old pumps", "berschrift2")
        + f"<w:tbl><w:tr>{cells}</w:tr></w:tbl>"
    )
    core = (
        '<p xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Manual</dc:title><dc:creator>Ann</dc:creator>'
        "<dc:creator>Bob</dc:creator></p>"
    )
    found = read("a.docx", docx(body, **{"docProps/core.xml": core}))
    assert outline(found) == [
        ((), "Before <script>."),
        (("Pumps",), "Prime the pump."),
        (("Pumps", "Old pumps"), "left | right"),
    ]
    assert found.metadata == {"title": "Manual", "author": ["Ann", "Bob"]}


def test_powerpoint_slides_are_pages(tmp_path: Any) -> None:
    pptx = pytest.importorskip("pptx")
    show = pptx.Presentation()
    slide = show.slides.add_slide(show.slide_layouts[1])
    slide.shapes.title.text, slide.placeholders[1].text = "Pumps", "Prime it\nfirst"
    slide.notes_slide.notes_text_frame.text = "say hello"
    slide = show.slides.add_slide(show.slide_layouts[6])
    table = slide.shapes.add_table(1, 2, 0, 0, 9, 9).table
    table.cell(0, 0).text, table.cell(0, 1).text = "left", "right"
    slide.shapes.add_group_shape().shapes.add_textbox(0, 0, 9, 9).text_frame.text = "in a group"
    show.save(tmp_path / "a.pptx")
    found = read_file(tmp_path / "a.pptx")
    assert outline(found) == [
        (("Pumps",), "Prime it\nfirst\n\nNotes: say hello"),
        (("Slide 2",), "left | right\n\nin a group"),
    ]
    assert [section.page for section in found.sections] == [1, 2]


def test_excel_sheets_are_pages_and_rows_say_their_columns(tmp_path: Any) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    first = book.active
    first.title = "People"
    for row in (["Name", "Born", "Score"], ["Ada", datetime.date(1815, 12, 10), 1.1], [], ["Bob", None, 3]):
        first.append(row)
    far = book.create_sheet("Far")
    far["A1"], far["XFD1048576"] = "near", "corner"
    book.save(tmp_path / "a.xlsx")
    found = read_file(tmp_path / "a.xlsx")
    assert outline(found) == [
        (("People",), "Name | Born | Score\n\nName: Ada | Born: 1815-12-10 | Score: 1.1\n\nName: Bob | Score: 3"),
        (("Far",), "near\n\ncorner"),
    ]
    assert [section.page for section in found.sections] == [1, 2]


def book_of(chapters: dict[str, str | bytes], spine: str, **more: str) -> bytes:
    items = "".join(f'<item id="{name}" href="{name}"/>' for name in chapters)
    opf = (
        '<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:title>A book</dc:title><dc:language>en</dc:language></metadata><manifest>{items}</manifest>"
        f"<spine>{spine}</spine></package>"
    )
    parts = {f"OEBPS/{name}": text for name, text in chapters.items()}
    return zipped({"META-INF/container.xml": CONTAINER, "OEBPS/a.opf": opf, **parts, **more})


CHAPTERS: dict[str, str | bytes] = {
    "two.xhtml": "<html><head><title>no</title></head><body><h1>Two</h1><p>Second.</p></body></html>",
    "one.xml": '<!DOCTYPE html PUBLIC "a" "b"><html><body><h1>One</h1><p>First &eacute; &lt;i&gt;.</p></body></html>',
}


def test_books_are_read_in_their_own_order(read: Any) -> None:
    spine = '<itemref idref="one.xml"/><itemref idref="two.xhtml"/><itemref idref="one.xml"/>'
    found = read("a.epub", book_of(CHAPTERS, spine))
    assert outline(found) == [(("One",), "First é <i>."), (("Two",), "Second.")]
    assert found.metadata == {"title": "A book", "language": "en"}


@pytest.mark.parametrize("name", ["a.docx", "a.pptx", "a.xlsx", "a.epub"])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty, which"),
        (b"plain text", "not a readable archive"),
        (b"\xd0\xcf\x11\xe0" + b"\0" * 600, "encrypted, or of Office 97"),
        (zipped({"a.txt": "nothing of its kind"}), "not a readable"),
        (docx(paragraph("x" * 500))[:-30], "not a readable archive"),
        (zipped({"word/a.bin": b"\0" * 3_000_000}), "unpacks to more"),
        (zipped({"word/a.xml": b" " * 400_000}), "unpacks to more"),
        (zipped({f"{number}": "" for number in range(20_001)}), "unpacks to more"),
    ],
    ids=["empty", "text", "old", "other", "cut", "bomb", "text bomb", "parts"],
)
def test_what_cannot_be_read_is_named(tmp_path: Any, name: str, data: bytes, reason: str) -> None:
    options = ReadOptions(max_bytes=300_000)
    if reason == "unpacks to more" and len(data) > options.max_bytes:
        options = ReadOptions(max_bytes=3_000_000)
    with pytest.raises(UnreadableFileError, match=reason):
        read_file(written(tmp_path, name, data), options)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_not_expanded(tmp_path: Any, encoding: str) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    part = f"{bomb}]><w:document {W}><w:body>{paragraph('&i;')}</w:body></w:document>".encode(encoding)
    parts = {"word/document.xml": part}
    with pytest.raises(UnreadableFileError, match="entities"):
        read_file(written(tmp_path, "a.docx", zipped(parts)))
    opf = f"{bomb}]><package><a>&i;</a></package>".encode(encoding)
    with pytest.raises(UnreadableFileError):
        read_file(written(tmp_path, "a.epub", zipped({"META-INF/container.xml": CONTAINER, "OEBPS/a.opf": opf})))


def test_chapters_in_the_encoding_they_name_and_in_none(read: Any) -> None:
    greek = '<?xml version="1.0" encoding="ISO-8859-7"?><html><body><p>Αντλία και βαλβίδα</p></body></html>'
    chapters: dict[str, str | bytes] = {"a.xhtml": greek.encode("iso8859-7")}
    found = read("a.epub", book_of(chapters, '<itemref idref="a.xhtml"/>'))
    assert ([section.text for section in found.sections], found.notes) == (["Αντλία και βαλβίδα"], [])
    chapters["a.xhtml"] = "<p>Насос и клапан открыты</p>".encode("cp1251")
    found = read("b.epub", book_of(chapters, '<itemref idref="a.xhtml"/>'))
    assert [section.text for section in found.sections] == ["Насос и клапан открыты"]
    assert len(found.notes) == 1
    assert found.notes[0].startswith("encoding guessed: ")  # kz1048 has these letters, too


def test_deep_nesting_costs_that_file_only(tmp_path: Any) -> None:
    pytest.importorskip("mammoth")
    body = "<w:sdt><w:sdtContent>" * 20_000 + paragraph("deep") + "</w:sdtContent></w:sdt>" * 20_000
    with pytest.raises(UnreadableFileError):
        read_file(written(tmp_path, "a.docx", docx(body)))


def test_locked_books_and_missing_chapters(tmp_path: Any, read: Any) -> None:
    spine = '<itemref idref="one.xml"/><itemref idref="two.xhtml"/>'
    locked = '<encryption><CipherReference URI="OEBPS/one.xml"/></encryption>'
    with pytest.raises(UnreadableFileError, match="encrypted"):
        read_file(written(tmp_path, "a.epub", book_of(CHAPTERS, spine, **{"META-INF/encryption.xml": locked})))
    data = io.BytesIO(book_of(CHAPTERS, spine).replace(b"OEBPS/two.xhtml", b"OEBPS/xxx.xhtml"))
    assert read("b.epub", data.getvalue()).notes == ["chapter missing: OEBPS/two.xhtml"]


@pytest.mark.parametrize(("module", "name"), [("mammoth", "a.docx"), ("pptx", "a.pptx"), ("openpyxl", "a.xlsx")])
def test_a_missing_library_names_the_extra(tmp_path: Any, monkeypatch: Any, module: str, name: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    parts = dict.fromkeys(("word/a", "ppt/a", "xl/a"), "")
    with pytest.raises(MissingExtraError, match=r"smart-retrieval\[office\]"):
        read_file(written(tmp_path, name, zipped(parts)))


def test_office_libraries_run_in_the_guarded_child(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "mammoth", None)  # cannot be imported here, and need not
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert "kept" in read_file(written(tmp_path, "a.docx", docx(paragraph("kept")))).sections[0].text
