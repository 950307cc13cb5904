"""The page of a text hit with the words that matched: where they stand, and what is shown when it is gone."""

from __future__ import annotations

from io import BytesIO

import pytest
from fixtures.pages import read_page
from fixtures.scans import PUMP, picture_of
from fixtures.tiny_pdf import Text, lines, tiny_pdf
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.documents import Word
from smart_retrieval.documents.readers.pdf import scanned
from smart_retrieval.errors import MissingExtraError, SmartError
from smart_retrieval.index.explain.explanation import Explanation
from smart_retrieval.index.explain.page_words import place_words
from smart_retrieval.index.explain.score import ExplainedToken, ShadedWord
from smart_retrieval.index.explain.shown_pictures import PictureFile, find_pictures
from smart_retrieval.index.smart_index import SmartIndex

pytest.importorskip("pypdfium2")
Image = pytest.importorskip("PIL.Image")


def explained(folder, source, text, *words, page=1):
    """An explanation whose query matched these words of the text."""
    tokens = []
    for number, word in enumerate(words, 1):
        span = (text.index(word), text.index(word) + len(word))
        tokens.append(ExplainedToken(word, word, number, span, 0.9, 1 / len(words), number / 10))
    place = (tuple(tokens), text, source, page, None)
    return Explanation("query", f"{source}#0", 1.0, 0.5, 0.5, 1.0, 1.0, None, *place, file=PictureFile(str(folder)))


def marked(found):
    """Pages that are shown, each as the marked words and their boxes."""
    shown = find_pictures(found, found.file)
    return [[(found.text[one.shaded.start : one.shaded.stop], one.box) for one in p.words] for p in shown.pictures]


def shaded(text, *words):
    """Words of a text as an explanation shades them."""
    found = []
    for word in words:
        start = text.index(word)
        found.append(ShadedWord(start, start + len(word), 0.1, (0,)))
    return found


def on_page(*texts):
    return [Word(text, (number / 100, 0.0, (number + 1) / 100, 0.1)) for number, text in enumerate(texts)]


def places(text, wanted, page, **options):
    return [round(100 * word.box[0]) for word in place_words(text, wanted, page, **options)]


def test_the_words_of_a_pdf_are_marked_where_they_stand(tmp_path):
    text = "A day is long. The cold otter swims."
    (tmp_path / "a.pdf").write_bytes(tiny_pdf([[Text("A day is long."), Text("The cold otter swims.", 300, 200)]]))
    found = explained(tmp_path, "a.pdf", text, "day", "otter")
    (words,) = marked(found)
    assert [word for word, _ in words] == ["day", "otter"]
    left, top, right, bottom = words[1][1]
    width, height = 612, 792
    assert (left * width, (1 - bottom) * height) == pytest.approx((200 + 12 * 4.28, 297), abs=6)
    assert 20 < (right - left) * width < 40
    assert 8 < (bottom - top) * height < 20
    image = Image.open(BytesIO(found.to_png())).convert("RGB")
    colours = {colour for _, colour in image.getcolors(2**20)}
    assert (255, 186, 83) in colours, "the strongest mark"
    page = found.to_html()
    assert page.count('class="word"') == 2
    assert 'data-q="1" title="0.2000 for otter" style="left:' in page
    assert read_page(page).links[0].startswith("data:image/jpeg")


def test_a_rotated_page_is_shown_as_readers_see_it(tmp_path):
    (tmp_path / "a.pdf").write_bytes(tiny_pdf([[Text("cold otter", 300, 100, turn=1)]], page_entries=b"/Rotate 90"))
    found = explained(tmp_path, "a.pdf", "cold otter", "otter")
    (picture,) = find_pictures(found, found.file).pictures
    assert picture.image.width > picture.image.height
    ((_, box),) = marked(found)[0]
    place = [round(side * size) for side, size in zip(box, picture.image.size * 2, strict=True)]
    assert place[2] - place[0] > place[3] - place[1], "level on the page as it is shown"
    assert min(low for low, _ in picture.image.crop(place).getextrema()) < 128, "letters stand there"


def test_a_passage_over_two_pages_shows_both(tmp_path):
    pages = [lines("The long day is cold and"), lines("the otter swims in the river."), lines("Other words, a day.")]
    (tmp_path / "a.pdf").write_bytes(tiny_pdf(pages))
    found = explained(tmp_path, "a.pdf", "The long day is cold and the otter swims in the river.", "day", "otter")
    assert [[word for word, _ in page] for page in marked(found)] == [["day"], ["otter"]]
    alone = explained(tmp_path, "a.pdf", "The long day is cold and wet", "day", "wet")
    assert [[word for word, _ in page] for page in marked(alone)] == [["day"]]


def test_a_hit_says_which_page_is_shown(tmp_path, smart):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.pdf").write_bytes(tiny_pdf([lines("The moon is warm."), lines("The cold otter swims.")]))
    with SmartIndex.create(tmp_path / "i.smart", smart("mean"), codec="float16") as index:
        index.index_folder(tmp_path / "docs", max_tokens=8)
        id = next(one.id for one in index.get(index.store.ids()) if one.page == 2)
        found = index.explain("otter", id, floor=None)
    shown = find_pictures(found, found.file)
    assert len(shown.pictures) == 1
    assert (shown.note, bool(shown.pictures[0].words)) == ("", True)
    assert "The page</h2>" in found.to_html()
    (tmp_path / "docs").rename(tmp_path / "moved")
    assert find_pictures(found, found.file).pictures == ()
    assert len(find_pictures(found, found.file, tmp_path / "moved").pictures) == 1
    path = tmp_path / "moved" / "a.pdf"
    path.write_bytes(tiny_pdf([lines("Other."), lines("Words.")]))
    shown = find_pictures(found, found.file, tmp_path / "moved")
    assert (shown.pictures, "has changed" in shown.note) == ((), True)
    page = read_page(found.to_html(tmp_path / "moved"))
    assert "The cold otter swims." in page.text
    assert "img" not in page.tags
    with pytest.raises(SmartError, match="has changed"):
        found.to_png(tmp_path / "moved")


def test_the_words_of_a_scan_are_found_by_ocr(tmp_path, monkeypatch):
    picture_of(PUMP).save(tmp_path / "scan.png")
    words = on_page("The", "pump", "must", "be", "pri-", "med")
    monkeypatch.setattr(scanned, "ocr_words", lambda path, page: words)
    found = explained(tmp_path, "scan.png", "The pump must be primed.", "pump", "primed", page=None)
    assert marked(found) == [[("pump", words[1].box), ("primed", words[4].box), ("primed", words[5].box)]]
    assert "The picture</h2>" in found.to_html()

    def refuse(path, page):
        raise MissingExtraError("install <it>")

    monkeypatch.setattr(scanned, "ocr_words", refuse)
    shown = find_pictures(found, found.file)
    assert (len(shown.pictures), shown.note) == (1, "No words are marked on the page (install <it>).")
    assert "install &lt;it&gt;" in found.to_html()


def test_a_file_that_has_no_pages_or_is_no_pdf(tmp_path):
    assert find_pictures(explained(tmp_path, "a.md", "The otter.", "otter"), PictureFile()).pictures == ()
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4 <script>")
    found = explained(tmp_path, "a.pdf", "The otter.", "otter")
    assert find_pictures(found, found.file).note.startswith("The page cannot be shown (cannot read")
    with pytest.raises(SmartError, match="no picture to draw"):
        found.to_png()


def test_equal_words_are_told_apart_by_what_stands_around_them():
    page = on_page("the", "valve", "opens", "slowly.", "the", "valve", "shuts", "fast.")
    assert places("The valve shuts fast.", shaded("The valve shuts fast.", "valve"), page) == [5]
    text = "The valve opens slowly. The valve shuts fast."
    second = ShadedWord(text.rindex("valve"), text.rindex("valve") + 5, 0.1, (0,))
    assert places(text, [*shaded(text, "valve"), second], page) == [1, 5]


def test_divided_joined_and_reordered_words():
    text = "Left column of the document. Right side."
    page = on_page("Left", "Right", "column", "side.", "of the docu-", "ment.")
    assert places(text, shaded(text, "Left", "Right", "document"), page) == [0, 1, 4, 5]
    assert places(text, shaded(text, "side"), on_page("sidewalk", "inside", "sides"), goes_on=True) == []


def test_nothing_is_marked_where_nothing_stands():
    text = "an otter"
    assert places(text, shaded(text, "otter"), []) == []
    assert places(text, shaded(text, "otter"), on_page("cat", "---", "")) == []
    assert places("!?", [ShadedWord(0, 2, 0.1, (0,))], on_page("!?")) == []


@given(st.lists(st.text(alphabet="abcde", min_size=3, max_size=6), min_size=1, max_size=12, unique=True))
def test_every_word_of_a_page_is_found(words):
    text = " ".join(words)
    at, wanted = 0, []
    for word in words:
        wanted.append(ShadedWord(at, at + len(word), 0.1, (0,)))
        at += len(word) + 1
    assert places(text, wanted, on_page(*words)) == list(range(len(words)))
