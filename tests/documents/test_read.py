"""Reading files of every format: headings found, nothing lost, nothing that stops a run, and what is refused."""

from __future__ import annotations

import os
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from fixtures.documents import outline, written
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.documents import read as readers
from smart_retrieval.documents.read import EMPTY, NO_TEXT, ReadOptions, read_file, stream_file
from smart_retrieval.documents.sections import Document
from smart_retrieval.files import UnreadableFileError

NESTED = [
    ((), "Before."),
    (("One",), "Text one."),
    (("One", "Deep"), "Text deep."),
    (("One", "Two"), "Text two."),
    (("One",), "Empty at its end"),
    (("Next",), "Text next."),
]


def test_nested_and_skipped_heading_levels_in_all_three(read: Any) -> None:
    markdown = """\
        Before.

        # One
        Text one.

        #### Deep
        Text deep.

        Two
        ---
        Text two.

        ## Empty at its end

        Next
        ====
        Text next.
        """
    html = """Before.<h1>One</h1><p>Text one.<h4>Deep</h4>Text deep.<h2>Two</h2><p>Text two.</p>
        <h2>Empty at its end</h2><h1>Next</h1>Text next."""
    rst = """\
        Before.

        One
        ===
        Text one.

        Deep
        ----
        Text deep.

        Two
        ---
        Text two.

        Empty at its end
        ----------------

        Next
        ====
        Text next.
        """
    for newline in ("\n", "\r\n"):
        assert outline(read("a.md", dedent(markdown).replace("\n", newline).encode())) == NESTED
        assert outline(read("a.html", html.replace("\n", newline).encode())) == NESTED
        assert outline(read("a.rst", dedent(rst).replace("\n", newline).encode())) == NESTED


def test_title_of_front_matter_or_page_heads_a_document_without_one(read: Any) -> None:
    assert outline(read("a.md", "---\ntitle: Rotate\n---\n## Use\nGo.")) == [(("Rotate", "Use"), "Go.")]
    assert outline(read("a.md", "---\ntitle: Rotate\n---\n# Use\nGo.")) == [(("Use",), "Go.")]
    document = read("a.html", "<html lang=en><title>Rotate\n &amp; go</title><h2>Use</h2>Go.")
    assert outline(document) == [(("Rotate & go", "Use"), "Go.")]
    assert document.metadata == {"title": "Rotate & go", "language": "en"}


@pytest.mark.parametrize("suffix", [".md", ".html", ".rst", ".txt"])
@given(content=st.text(alphabet=st.sampled_from("ab \n\t<>/!-=*_`[]()|:.#&;\"'\\é漢\u0301"), max_size=300))
def test_no_markup_makes_a_reader_fail(tmp_path: Path, suffix: str, content: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text(content, encoding="utf-8")
    try:
        sections = read_file(path).sections
    except UnreadableFileError as error:
        assert error.reason == NO_TEXT  # noqa: PT017
        return
    assert bool(sections) == bool(content.strip())
    for section in sections:
        assert section.text.strip()


@pytest.mark.parametrize(
    ("suffix", "pattern"),
    [
        (".html", "<!--"),
        (".html", "<a "),
        (".html", "<div>"),
        (".html", '<a b="'),
        (".html", "<![CDATA["),
        (".html", "<h1>"),
        (".rst", "``"),
        (".rst", "*a "),
        (".rst", ".. note::\n"),
        (".rst", "|a "),
        (".md", "- a\n"),
        (".md", "> "),
    ],
)
def test_hostile_repetition_takes_linear_time(tmp_path: Path, suffix: str, pattern: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text(pattern * 6_000 + ">text")
    began = time.process_time()
    read_file(path)
    assert time.process_time() - began < 3


def test_deep_indentation_and_nesting(tmp_path: Path) -> None:
    path = tmp_path / "a.rst"
    path.write_text("\n".join(" " * depth + "x" for depth in range(500)))
    assert sum(section.text.count("x") for section in read_file(path).sections) == 500
    path = tmp_path / "a.md"
    path.write_text("".join("  " * depth + "- x\n" for depth in range(20)))
    assert read_file(path).sections[0].text.endswith("\n" + " " * 38 + "- x")
    path.write_text("> " * 1_000 + "deep")
    assert "deep" in read_file(path).sections[0].text


def test_an_exception_in_a_reader_becomes_an_unreadable_file_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, options: readers.ReadOptions) -> Document:
        raise RecursionError("too deep")

    monkeypatch.setattr(readers, "READERS", {**readers.READERS, "text": fail})
    with pytest.raises(UnreadableFileError, match=r"a\.txt: its reader failed \(RecursionError: too deep\)"):
        read_file(tmp_path / "a.txt")


@pytest.mark.parametrize("data", [b"", b"\n \r\n\t\n", b"\xef\xbb\xbf", b"\xff\xfe"])
@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a.rst", "a.jsonl"])
def test_empty_files_have_no_sections(tmp_path: Path, data: bytes, name: str) -> None:
    assert read_file(written(tmp_path, name, data)).sections == []


def test_not_regular_missing_large_and_unknown(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(UnreadableFileError, match="not a regular file"):
        read_file(tmp_path / "pipe.txt")
    with pytest.raises(UnreadableFileError, match="no such file"):
        read_file(tmp_path / "none.txt")
    with pytest.raises(UnreadableFileError, match="larger than the limit of 10 bytes"):
        read_file(written(tmp_path, "big.txt", "x" * 11), ReadOptions(max_bytes=10))
    with pytest.raises(UnreadableFileError, match=r"not a type that is read \(\.bin\)"):
        read_file(tmp_path / "a.bin")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(UnreadableFileError, match="is a directory"):
        read_file(tmp_path / "folder.txt")


def test_other_suffixes_and_names(tmp_path: Path) -> None:
    options = ReadOptions(formats={".conf": "text", ".md": ""})
    assert read_file(written(tmp_path, "a.CONF", "x"), options).sections[0].text == "x"
    assert read_file(written(tmp_path, "README", "x")).sections[0].text == "x"
    with pytest.raises(UnreadableFileError, match="not a type"):
        read_file(written(tmp_path, "a.md", "x"), options)
    with pytest.raises(UnreadableFileError, match="no reader for the format 'word'"):
        read_file(written(tmp_path, "a.doc", "x"), ReadOptions(formats={".doc": "word"}))


def test_huge_single_line(tmp_path: Path) -> None:
    for name in ("a.txt", "a.md", "a.html", "a.rst"):
        document = read_file(written(tmp_path, name, "word " * 200_000))
        assert len(document.sections[0].text.split()) == 200_000


def test_stream_file_puts_the_files_metadata_into_sections(tmp_path: Path) -> None:
    path = written(tmp_path, "a.md", "---\nyear: 2024\n---\nText.")
    assert [(part.text, part.metadata) for part in stream_file(path, [])] == [("Text.", {"year": 2024})]


@pytest.mark.parametrize("suffix", sorted({"docx", "epub", "eml", "ipynb", "pdf", "xlsx"}))
def test_an_empty_file_of_a_format_that_needs_content_is_said_to_be_empty(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.{suffix}").touch()
    with pytest.raises(UnreadableFileError, match=EMPTY):
        read_file(tmp_path / f"a.{suffix}")
