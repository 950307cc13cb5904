"""Words of a page and their places, and where a passage stands."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fixtures.tiny_pdf import Text, lines, tiny_pdf
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.documents.readers.pdf import Word, find_words, page_words
from smart_retrieval.files import UnreadableFileError
from smart_retrieval.pictures import PdfPages

pytest.importorskip("pypdfium2")


def words(text: str) -> list[Word]:
    return [Word(word, (index / 100, 0.0, index / 100 + 0.01, 0.1)) for index, word in enumerate(text.split())]


@pytest.mark.parametrize(
    ("page_entries", "line"),
    [
        (b"", Text("mark", 600, 200, 24)),
        (b"", Text("mark", 600, 200, 24, turn=1)),
        (b"", Text("mark", 600, 200, 24, turn=2)),
        (b"/Rotate 90", Text("mark", 600, 200, 24, turn=1)),
        (b"/Rotate 180", Text("mark", 600, 200, 24)),
        (b"/Rotate 270/CropBox[100 300 400 700]", Text("mark", 600, 200, 24, turn=3)),
        (b"/CropBox[100 300 400 700]", Text("mark", 600, 200, 24)),
    ],
)
def test_the_ink_of_a_word_is_in_its_box(tmp_path: Path, page_entries: bytes, line: Text) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(tiny_pdf([[line]], page_entries=page_entries))
    (word,) = page_words(path, 1)
    assert (word.text, word.page) == ("mark", 1)
    with PdfPages(path) as pages:
        image = pages.render(1).convert("L").point(lambda value: 255 * (value < 128))
    ink = image.getbbox()
    assert ink is not None
    left, top, right, bottom = (edge * size for edge, size in zip(word.box, (*image.size, *image.size), strict=True))
    assert max(ink[2] - right, ink[3] - bottom, left - ink[0], top - ink[1]) <= 2
    assert (right - left) * (bottom - top) < 4 * (ink[2] - ink[0]) * (ink[3] - ink[1])


def test_words_of_pages(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(tiny_pdf([lines("The pump must be", "primed before use."), [], [Text(means="םלוע םולש")]]))
    found = page_words(path, 1)
    assert [word.text for word in found] == ["The", "pump", "must", "be", "primed", "before", "use."]
    assert page_words(path, 2) == []
    assert [word.text for word in page_words(path, 3)] == ["שלום", "עולם"]
    for page in (0, 4):
        with pytest.raises(UnreadableFileError, match=rf"no such page \(page {page}, expected 1 to 3\)"):
            page_words(path, page)
    (tmp_path / "b.pdf").write_bytes(b"no pdf")
    with pytest.raises(UnreadableFileError, match="not a readable PDF"):
        page_words(tmp_path / "b.pdf", 1)


def test_a_passage_is_found_across_lines_and_hyphens() -> None:
    page = words("Old logs are re- named. The pump must be primed.")
    assert [word.text for word in find_words(page, "logs are\nrenamed")] == ["logs", "are", "re-", "named."]
    assert [word.text for word in find_words(page, "PUMP must be")] == ["pump", "must", "be"]
    begins_before = find_words(page, "Nothing of this stands here, but logs are renamed. The pump must be primed")
    assert [word.text for word in begins_before] == [word.text for word in page[1:]]
    assert find_words(page, "") == find_words(page, "...") == find_words([], "pump") == []


def test_a_long_page_of_one_letter_takes_no_time() -> None:
    page = words("a " * 3000)
    start = time.process_time()
    find_words(page, "a " * 3000 + "b")
    assert time.process_time() - start < 1


@given(st.lists(st.sampled_from(["pump", "valve", "oil", "is", "a"]), min_size=1, max_size=12), st.data())
def test_any_stretch_of_a_page_is_found(texts: list[str], data: st.DataObject) -> None:
    page = words(" ".join(texts))
    start = data.draw(st.integers(0, len(page) - 1))
    end = data.draw(st.integers(start + 1, len(page)))
    passage = " ".join(texts[start:end])
    assert "".join(word.text for word in find_words(page, passage)) == passage.replace(" ", "")
