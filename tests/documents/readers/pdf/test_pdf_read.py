"""PDF text: paragraphs, pages, outline; and every way a PDF can be unreadable."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from fixtures.tiny_pdf import Text, lines, tiny_pdf

from smart_retrieval.documents.passages import split
from smart_retrieval.documents.read import ReadOptions, read_file, read_files
from smart_retrieval.documents.sections import Document
from smart_retrieval.documents.walk import scan
from smart_retrieval.errors import MissingExtraError
from smart_retrieval.files import SkipLog, UnreadableFileError

pypdfium2 = pytest.importorskip("pypdfium2")

WORDS = ("whales", "tax", "rust", "violins", "volcanoes", "glass")
BODY = (
    "Logs grow without end unless some programme rotates them regu-",
    "larly, which means that old files are renamed and well-",
    "Known tools compress them.",
    "The second paragraph begins after a short line that ends a sentence.",
)


def read(folder: Path, data: bytes, **options: Any) -> Document:
    path = folder / "a.pdf"
    path.write_bytes(data)
    return read_file(path, ReadOptions(**options))


def test_lines_are_joined_and_divided_words_made_whole(tmp_path: Path) -> None:
    page = [*lines(*BODY), Text("After a gap.", 500), Text("A large title", 400, size=24), Text("Beneath.", 380)]
    document = read(tmp_path, tiny_pdf([page], info={"Title": "On logs", "CreationDate": "D:20240305"}))
    assert document.metadata == {"pages": 1, "title": "On logs", "created": "2024-03-05"}
    assert document.sections[0].page == 1
    assert document.sections[0].text.split("\n\n") == [
        "Logs grow without end unless some programme rotates them regularly, which means that old files are renamed "
        "and well-Known tools compress them.",
        BODY[3],
        "After a gap.",
        "A large title",
        "Beneath.",
    ]


def test_outline_becomes_headings_and_pages_are_kept(tmp_path: Path) -> None:
    pages = [
        lines("Preface text.", "1 Growth", "They grow."),
        lines("They grow on."),
        [],
        lines("2 Rotation of", "logs", "They rotate."),
    ]
    outline = [("Growth", 0), ("Rotation of logs", 3), ("Not on the page", 3)]
    document = read(tmp_path, tiny_pdf(pages, outline))
    assert [(part.page, part.heading, part.text) for part in document.sections] == [
        (1, (), "Preface text."),
        (1, ("1 Growth",), "They grow."),
        (2, ("1 Growth",), "They grow on."),
        (4, (), "2 Rotation of logs"),
        (4, ("Not on the page",), "They rotate."),
    ]
    assert document.notes == ["1 of 4 pages hold no text (scanned or drawn)"]
    passages = list(
        split(document.sections, max_tokens=50, count_tokens=lambda text: len(text.split()), source="a.pdf")
    )
    assert [(part.page, part.text) for part in passages][:2] == [
        (1, "Preface text."),
        (1, "They grow.\n\nThey grow on."),
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"not a pdf", "not a readable PDF"),
        (tiny_pdf([lines("x")])[:60], "not a readable PDF"),
        (tiny_pdf([]), "a PDF without pages"),
        (tiny_pdf([lines("secret")], password="pw"), "encrypted, needs a password"),
    ],
)
def test_unreadable_pdfs_are_named(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableFileError, match=rf"a\.pdf: {reason}"):
        read(tmp_path, data)


def test_too_many_pages_or_bytes(tmp_path: Path) -> None:
    data = tiny_pdf([lines("x")] * 3)
    with pytest.raises(UnreadableFileError, match=r"more than 2 pages \(3\)"):
        read(tmp_path, data, max_pages=2)
    with pytest.raises(UnreadableFileError, match="larger than the limit"):
        read(tmp_path, data, max_bytes=100)
    assert len(read(tmp_path, data, max_pages=3).sections) == 3


def test_encrypted_without_a_password_opens(tmp_path: Path) -> None:
    assert read(tmp_path, tiny_pdf([lines("Open to all.")], password="")).sections[0].text == "Open to all."


def test_damaged_bytes_never_stop_a_run(tmp_path: Path) -> None:
    data = tiny_pdf([lines(*BODY), lines("two")], [("Growth", 0)])
    for position in range(0, len(data), 97):
        damaged = data[:position] + b"\xff<<" + data[position + 3 :]
        try:
            read(tmp_path, damaged)
        except UnreadableFileError:
            continue


def test_a_missing_extra_is_one_reason_for_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.pdf", "b.pdf"):
        (tmp_path / name).write_bytes(tiny_pdf([lines("x")]))
    (tmp_path / "c.txt").write_text("text")
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(MissingExtraError, match=r"smart-retrieval\[pdf\]"):
        read_file(tmp_path / "a.pdf")
    log = SkipLog()
    assert [file.relative for file, _ in read_files(scan(tmp_path), log)] == ["c.txt"]
    assert (len(log.counts), log.failed, len(log)) == (1, 2, 2)
    assert "smart-retrieval[pdf]" in next(iter(log.counts))


@pytest.mark.parametrize("title", ["Chapter {}", "Experiment {}", "{}. Results", "Q{} figures"])
def test_headings_that_differ_in_a_number_stay(tmp_path: Path, title: str) -> None:
    pages = [lines(title.format(number), f"Text about {word}.") for number, word in enumerate(WORDS, 1)]
    texts = [part.text.replace("\n", " ") for part in read(tmp_path, tiny_pdf(pages)).sections]
    assert texts == [f"{title.format(number)} Text about {word}." for number, word in enumerate(WORDS, 1)]


def test_running_lines_and_page_numbers_go_after_the_first_page(tmp_path: Path) -> None:
    pages = [
        [Text("Annual Report", 760), Text(f"Text about {word}.", 700), Text(f"Page {number} of 6", 40, 270)]
        for number, word in enumerate(WORDS, 1)
    ]
    texts = [part.text for part in read(tmp_path, tiny_pdf(pages)).sections]
    assert texts[0] == "Annual Report\n\nText about whales.\n\nPage 1 of 6"
    assert texts[1:] == [f"Text about {word}." for word in WORDS[1:]]


def test_a_word_divided_between_two_pages_stands_on_the_first(tmp_path: Path) -> None:
    texts = [
        part.text for part in read(tmp_path, tiny_pdf([lines("Old files are re-"), lines("named daily.")])).sections
    ]
    assert texts == ["Old files are renamed", "daily."]
    texts = [part.text for part in read(tmp_path, tiny_pdf([lines("From A to Well-"), lines("Known.")])).sections]
    assert texts == ["From A to Well-", "Known."]


def test_columns_are_read_one_after_the_other_whatever_the_order_in_the_file(tmp_path: Path) -> None:
    left = [
        "The left column talks about",
        "apples and how they are",
        "stored in cold cellars re-",
        "mote from any light",
    ]
    right = ["while the right one describes", "submarines with engines that", "run on diesel and on", "batteries below"]
    title = Text("A title that goes across both columns of the page", 740)
    first = [Text(text, 700 - 14 * row) for row, text in enumerate(left)]
    second = [Text(text, 700 - 14 * row, 240) for row, text in enumerate(right)]
    across = [line for pair in zip(first, second, strict=True) for line in pair]
    for order in ([title, *first, *second], [title, *across], [*reversed(across), title], [*second, *first, title]):
        text = " ".join(read(tmp_path, tiny_pdf([order])).sections[0].text.split())
        assert text == f"{title.text} {' '.join(left)} {' '.join(right)}".replace("re- mote", "remote"), order


@pytest.mark.parametrize("by_column", [False, True])
def test_rows_of_a_table_stay_together(tmp_path: Path, by_column: bool) -> None:
    rows = [
        ("Name", "Weight", "Colour"),
        ("Apple tree", "120 kg", "Green"),
        ("Pear", "150 kg", "Yellow"),
        ("Plum", "40 kg", "Blue"),
    ]
    cells = [
        Text(text, 700 - 16 * row, 50 + 150 * at) for row, cells in enumerate(rows) for at, text in enumerate(cells)
    ]
    if by_column:
        cells.sort(key=lambda cell: cell.x)
    text = read(tmp_path, tiny_pdf([cells])).sections[0].text
    assert text.split("\n") == [" ".join(row) for row in rows]


def test_cells_of_several_lines_stay_in_their_row(tmp_path: Path) -> None:
    cells = []
    for row, (name, note) in enumerate(
        [("the first pump", "is old and"), ("the next pump", "is new and"), ("a third one", "is gone and")]
    ):
        top = 700 - 60 * row
        cells += [Text(f"{name} that", top), Text("stands in the hall", top - 14)]
        cells += [Text(f"{note} should be", top, 260), Text("looked at this year", top - 14, 260)]
    text = " ".join(read(tmp_path, tiny_pdf([cells])).sections[0].text.split())
    assert text == (
        "the first pump that stands in the hall is old and should be looked at this year "
        "the next pump that stands in the hall is new and should be looked at this year "
        "a third one that stands in the hall is gone and should be looked at this year"
    )


def test_what_is_filled_into_a_form_stands_beside_its_label(tmp_path: Path) -> None:
    labels = [Text("Surname:", 700), Text("Smoker", 680), Text("Colour", 660), Text("Remarks:", 528)]
    ticked = b"/AP<</N<</Yes 3 0 R/Off 3 0 R>>>>"
    fields = [
        b"/Subtype/Widget/FT/Tx/T(surname)/V(Featherstonehaugh)/Rect[150 696 350 712]",
        b"/Subtype/Widget/FT/Btn/T(smoker)/V/Yes/AS/Yes%s/Rect[150 676 162 688]" % ticked,
        b"/Subtype/Widget/FT/Btn/T(newsletter)/AS/Off%s/Rect[150 620 162 632]" % ticked,
        b"/Subtype/Widget/FT/Ch/Ff 131072/T(colour)/V(green)/Opt[(red)(green)]/Rect[150 656 250 668]",
        b"/Subtype/Widget/FT/Ch/T(fruit)/V(b)/Opt[[(a)(apple)][(b)(banana)]]/Rect[350 556 450 598]",
        b"/Subtype/Widget/FT/Tx/Ff 4096/T(remarks)/V(allergic to\r\npenicillin)/Rect[150 500 350 540]",
        b"/Subtype/Widget/FT/Tx/Ff 8192/T(secret)/V(hunter2)/Rect[150 400 350 412]",
        b"/Subtype/Widget/FT/Tx/T(empty)/Rect[150 380 350 392]",
    ]
    text = " ".join(read(tmp_path, tiny_pdf([labels], annotations=fields)).sections[0].text.split())
    assert text == (
        "Surname: Featherstonehaugh Smoker [x] Colour green [ ] newsletter [ ] apple [x] banana "
        "Remarks: allergic to penicillin"
    )


def test_free_text_is_content_and_comments_are_counted(tmp_path: Path) -> None:
    notes = [
        b"/Subtype/FreeText/Contents(free text quince)/Rect[100 600 300 630]",
        b"/Subtype/FreeText/F 2/Contents(hidden)/Rect[100 500 300 530]",
        b"/Subtype/Text/Contents(reviewer says kumquat)/Rect[10 10 30 30]",
    ]
    document = read(tmp_path, tiny_pdf([lines("Printed.")], annotations=notes))
    assert document.sections[0].text == "Printed.\n\nfree text quince"
    assert document.notes == ["comments stuck to pages, left out: 1"]


def test_text_that_nobody_can_read_is_said(tmp_path: Path) -> None:
    private = "".join(chr(0xE000 + ord(character)) for character in "letters that nobody knows")
    document = read(tmp_path, tiny_pdf([lines("Clear."), [Text(means=private)]]), ocr="never")
    assert [part.text for part in document.sections] == ["Clear."]
    assert document.notes == [
        "the text of 1 of 2 pages cannot be read, as its fonts do not say what their characters mean (page 2)"
    ]
    bullet = read(tmp_path, tiny_pdf([[Text(means="\uf0b7 a bullet, and an \ue001icon here")]]))
    assert bullet.sections[0].text == "• a bullet, and an icon here"
    assert bullet.notes == []


def test_letters_set_apart_are_words(tmp_path: Path) -> None:
    def row(y: int, *pieces: str) -> list[Text]:
        places = [50 + 11 * sum(map(len, pieces[:index])) for index in range(len(pieces))]
        return [Text(means=text, y=y, x=x, apart=4) for text, x in zip(pieces, places, strict=True)]

    # As text that OCR laid under a scan, whose last letters are placed anew; PDFium alone reads "Nort h Driv e".
    pieces = ("9 Nort", "h Buon", "a Vist", "a Driv", "e"), ("Unite", "d State", "s o", "f Americ", "a")
    page = [text for index, one in enumerate(pieces) for text in row(700 - 14 * index, *one)]
    expected = "9 North Buona Vista Drive United States of America"
    assert read(tmp_path, tiny_pdf([page])).sections[0].text.replace("\n", " ") == expected
    # Cells that hold a letter each stay apart.
    cells = [Text(means=letter, y=700, x=50 + 12 * index) for index, letter in enumerate("ABCDEFGH")]
    assert read(tmp_path, tiny_pdf([cells])).sections[0].text == "A B C D E F G H"


def test_characters_named_with_their_bytes_exchanged_are_put_right(tmp_path: Path) -> None:
    exchanged = "".join(chr(ord(character) << 8) for character in "Pure magenta")
    document = read(tmp_path, tiny_pdf([[Text(means=exchanged)], lines("Pure cyan.")]))
    assert [part.text for part in document.sections] == ["Pure magenta", "Pure cyan."]
    assert document.notes == ["characters named with their bytes exchanged, put right: 1 of 2 pages"]
    chinese = "今天天气很好我们一起去公园"
    assert read(tmp_path, tiny_pdf([[Text(means=chinese)]])).sections[0].text == chinese


def test_turned_text_pages_and_crop_boxes(tmp_path: Path) -> None:
    page = [
        Text("Level text", 700),
        Text("along the edge", 100, 40, turn=1),
        Text("of the page", 100, 54, turn=1),
        Text("on the head", 400, 300, turn=2),
    ]
    assert (
        read(tmp_path, tiny_pdf([page])).sections[0].text == "Level text\n\nalong the edge of the page\n\non the head"
    )
    shown = [Text("Level as it is", 100, 300, turn=1), Text("shown to readers", 100, 314, turn=1)]
    assert read(tmp_path, tiny_pdf([shown], page_entries=b"/Rotate 90")).sections[0].text == (
        "Level as it is shown to readers"
    )
    cropped = read(
        tmp_path, tiny_pdf([[Text("inside", 400, 200), Text("beyond", 700)]], page_entries=b"/CropBox[100 300 500 500]")
    )
    assert [part.text for part in cropped.sections] == ["inside"]
    assert cropped.notes == ["lines of text beyond the edges of their page, left out: 1"]


@pytest.mark.parametrize(
    ("standing", "read_as"),
    [
        ("םלוע םולש", "שלום עולם"),
        (".(2024) PDF ךמסמ והז", "זהו מסמך PDF (2024)."),
        ("an English line םלוע םולש inside", "an English line שלום עולם inside"),
        ("ﺐﺎﺘﻛ", "كتاب"),
        ("a ﬁne oﬃce", "a fine office"),
    ],
)
def test_right_to_left_words_are_not_reversed(tmp_path: Path, standing: str, read_as: str) -> None:
    assert read(tmp_path, tiny_pdf([[Text(means=standing)]])).sections[0].text == read_as


def test_right_to_left_letters_are_read_in_order_whatever_the_order_in_the_file(tmp_path: Path) -> None:
    standing = "דחא םלוע םולש"
    letters = [Text(means=letter, x=50 + 8 * at) for at, letter in enumerate(standing) if letter != " "]
    for order in (letters, letters[::-1]):
        assert read(tmp_path, tiny_pdf([order])).sections[0].text == "שלום עולם אחד"
