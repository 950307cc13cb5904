"""Why a picture was found: maps that belong to its score, drawn on what was indexed, in files that stand alone."""

import json
import re
from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from fixtures.pages import PageReader, read_page
from fixtures.pictures import media_folder, picture, write_pdf
from PIL import Image

from smart_retrieval import Readout
from smart_retrieval.core.roles import WORD_ROLES
from smart_retrieval.errors import SmartError
from smart_retrieval.index.explain.heatmap import draw_over, overlay
from smart_retrieval.index.explain.score import QUERY_PICTURE
from smart_retrieval.index.explain.shown_pictures import clock, find_pictures
from smart_retrieval.index.smart_index import SmartIndex

QUERY = "the red <square>"
PICTURES = ["report.pdf#page=2", "scans/one.png#image", "clip.mp4#video"]


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    return media_folder(tmp_path_factory.mktemp("explained") / "docs")


@pytest.fixture(scope="module")
def index(docs, visual):
    with SmartIndex.create(docs.parent / "docs.smart", visual, codec="float32") as opened:
        opened.index_folder(docs)
        yield opened


@pytest.fixture
def own(tmp_path, visual):
    """An index and a folder that a test may change."""
    folder = tmp_path / "docs"
    folder.mkdir()
    picture(1).save(folder / "a.png")
    write_pdf(folder / "b.pdf", 2)
    with SmartIndex.create(tmp_path / "own.smart", visual, codec="float32") as opened:
        opened.index_folder(folder)
        yield opened, folder


class Reader(PageReader):
    """Keeps pictures apart from what a page would load."""

    def __init__(self):
        super().__init__()
        self.images = []

    def see(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs))
        else:
            super().see(tag, attrs)


def read(page):
    return read_page(page, Reader())


def drawn_on(found, root=None):
    """The pictures that an explanation's maps are drawn on."""
    return find_pictures(found, found.file, root)


def decoded(image):
    head, data = image["src"].split(",", 1)
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return Image.open(BytesIO(b64decode(data)))


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", PICTURES)
@pytest.mark.parametrize(
    "query", [QUERY, picture(1), {"text": "red", "image": picture(2)}], ids=["text", "image", "both"]
)
def test_contributions_add_up_and_the_maps_hold_the_best_matches(index, id, query):
    found = index.explain(query, id)
    hit = next(hit for hit in index.search(query) if hit.id == id)
    assert (
        sum(token.contribution for token in found.tokens)
        == pytest.approx(found.late)
        == pytest.approx(hit.late, abs=1e-5)
    )
    assert sum(row.contribution for row in found.rows()) == pytest.approx(found.late)
    assert found.score == pytest.approx(hit.score, abs=1e-5)
    assert sorted(token for row in found.rows() for token in row.tokens) == list(range(len(found.tokens)))
    visual = found.visual
    (one,) = visual.maps
    inside = 0.0
    for number, row in enumerate(visual.rows):
        assert one.rows[number].max() <= visual.row_scale[1] + 1e-6
        if row.place is None:
            continue
        grid, frame, y, x = row.place
        assert grid == 0
        assert one.rows[number, frame, y, x] == pytest.approx(row.similarity, abs=1e-5)
        assert one.rows[number, frame, y, x] == pytest.approx(one.rows[number].max(), abs=1e-5)
        inside += row.contribution
    if not any(QUERY_PICTURE in row.label for row in visual.rows):
        assert visual.outside == pytest.approx(1 - inside / found.late, abs=1e-5)
    assert 0 <= visual.outside <= 1
    json.dumps(found.to_dict())


WORDS = {role.name.lower() for role in WORD_ROLES}


def test_special_share_is_the_share_of_special_tokens(visual, tmp_path):
    with SmartIndex.create(tmp_path / "paper.smart", visual.with_readout(Readout()), codec="float32") as index:
        index.add([picture(1)], ids=["a"])
        found = index.explain(QUERY, "a", weights=None, floor=None)
    roles = {token.role for token in found.tokens}
    assert "text" in roles
    assert roles & {"template", "prompt"}, "Qwen's paper filter keeps its template"
    special = sum(token.contribution for token in found.tokens if token.role not in WORDS)
    assert found.special_share == pytest.approx(special / found.late)
    assert [row.special for row in found.rows()] == [token.role not in WORDS for token in found.tokens]
    assert found.to_dict()["special_share"] == found.special_share


def test_a_querys_picture_is_one_row(index):
    found = index.explain({"text": "red", "image": picture(2)}, PICTURES[1])
    rows = [row for row in found.visual.rows if QUERY_PICTURE in row.label]
    assert len(rows) == 1
    visual = [position for position, token in enumerate(found.tokens) if token.role == "image"]
    assert list(rows[0].tokens) == visual
    assert len(visual) > 4
    assert found.visual.maps[0].rows.shape[0] == len(found.visual.rows)


def test_text_hits_have_no_picture(index):
    found = index.explain(QUERY, "notes.txt#0")
    assert found.visual is None
    assert found.to_dict()["visual"] is None
    assert drawn_on(found).pictures == ()
    assert "<figure" not in found.to_html()
    with pytest.raises(SmartError, match="no picture to draw"):
        found.to_png()


def test_frames_of_a_video_are_scored_and_timed(index):
    visual = index.explain(QUERY, "clip.mp4#video").visual
    frames = visual.shown_frames(0)
    scores = [score for _, _, score in frames]
    assert scores == sorted(scores, reverse=True)
    assert [time for step, time, _ in sorted(frames)] == list(visual.media.times[::2])
    found = visual.to_dict()["frames"][0]
    assert [frame["step"] for frame in found] == [step for step, _, _ in frames]


# -- what is drawn on --------------------------------------------------------------------------------------------------


def test_pictures_come_from_their_files(index, docs):
    drawn = drawn_on(index.explain(QUERY, "scans/one.png#image"))
    assert drawn.note == ""
    assert np.array_equal(np.asarray(drawn.pictures[0].image), np.asarray(picture(1)))
    page = drawn_on(index.explain(QUERY, "report.pdf#page=2")).pictures[0].image
    assert max(page.size) == 1000
    assert np.asarray(page.convert("L")).min() < 100, "there is text on it"
    video = drawn_on(index.explain(QUERY, "clip.mp4#video")).pictures
    assert [shot.time for shot in video] == sorted(shot.time for shot in video)
    for shot in video:
        drawn = np.asarray(picture(round(shot.time * 4)), float)
        assert np.abs(np.asarray(shot.image, float) - drawn).mean() < 12, "the frame of that time"
    assert all("score" in shot.caption for shot in video)


def test_the_thumbnail_is_shown_for_a_missing_file(own):
    index, folder = own
    (folder / "a.png").unlink()
    found = index.explain(QUERY, "a.png#image")
    drawn = drawn_on(found)
    assert "a.png" in drawn.note
    assert "thumbnail" in drawn.note
    assert drawn.pictures[0].image.size[0] >= 160
    assert "thumbnail" in read(found.to_html()).text
    assert found.to_png()


def test_a_folder_that_was_moved_can_be_named(own):
    index, folder = own
    folder.rename(folder.with_name("moved"))
    found = index.explain(QUERY, "b.pdf#page=1")
    assert drawn_on(found).note
    assert drawn_on(found, folder.with_name("moved")).note == ""
    assert "thumbnail" in read(found.to_html()).text
    assert "thumbnail" not in read(found.to_html(folder.with_name("moved"))).text
    assert found.to_png() != found.to_png(folder.with_name("moved"))


def test_an_explanation_outlives_its_index(own):
    index, folder = own
    found, page = index.explain(QUERY, "a.png#image"), index.explain(QUERY, "b.pdf#page=1")
    html = page.to_html()
    index.close()
    (folder / "a.png").unlink()
    assert "thumbnail" in read(found.to_html()).text
    assert found.to_png()[:4] == b"\x89PNG"
    assert page.to_html() == html


def test_a_changed_file_is_noted(own):
    index, folder = own
    picture(9, 200, 200).save(folder / "a.png")
    drawn = drawn_on(index.explain(QUERY, "a.png#image"))
    assert "changed" in drawn.note
    assert drawn.pictures[0].image.size == (200, 200)
    write_pdf(folder / "b.pdf", 1)
    gone = drawn_on(index.explain(QUERY, "b.pdf#page=2"))
    assert "no such page" in gone.note


def test_pictures_without_a_file_show_their_thumbnail(tmp_path, visual):
    with SmartIndex.create(tmp_path / "m.smart", visual, codec="float32") as index:
        index.add([picture(1), {"image": [picture(2), picture(3, 96, 192)]}], ids=["one", "two"])
        one = drawn_on(index.explain(QUERY, "one"))
        assert "file" in one.note
        assert len(one.pictures) == 1
        found = index.explain(QUERY, "two")
        two = drawn_on(found).pictures
        assert [shot.grid for shot in two] == [0, 1]
        assert len(set(np.asarray(two[1].image).reshape(-1, 3).sum(1).tolist())) == 1, "nothing is kept of the second"
        assert len(re.findall("<figure", found.to_html())) == 2


def test_pooled_pictures_are_shown_without_maps(tmp_path, visual):
    with SmartIndex.create(tmp_path / "p.smart", visual, codec="float32", token_pooling=2) as index:
        index.add([picture(1)], ids=["a"])
        found = index.explain(QUERY, "a")
    page = read(found.to_html())
    assert "no heat map" in page.text
    assert len(page.images) == 1
    assert Image.open(BytesIO(found.to_png())).format == "PNG"


# -- the page and the PNG ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", PICTURES)
def test_the_page_embeds_all_it_shows(index, id):
    found = index.explain(QUERY, id)
    drawn = drawn_on(found)
    text = found.to_html()
    page = read(text)
    assert page.links == []
    assert "http" not in text.replace("http-equiv", "")
    assert page.tags.count("script") == 1
    assert "square" not in page.tags
    assert f"Why: {QUERY}" in page.text
    grid = found.visual.maps[0].grid
    layers = [image for image in page.images if "data-map" in image]
    under = [image for image in page.images if "data-map" not in image]
    assert len(under) == len(drawn.pictures)
    assert len(layers) == len(drawn.pictures) * (1 + len(found.visual.rows))
    assert {decoded(image).size for image in layers} == {(grid.w, grid.h)}
    assert [decoded(image).size for image in under] == [one.image.size for one in drawn.pictures]
    shown = [image["data-map"] for image in layers if "hidden" not in image]
    assert shown == ["all"] * len(drawn.pictures), "without a script, the whole query is seen"
    assert {image["data-map"] for image in layers} == {"all", *map(str, range(len(found.visual.rows)))}
    assert f"{100 * found.special_share:.1f} % of the late score" in page.text
    assert f"{100 * found.visual.outside:.1f} % of it was found outside" in page.text
    assert "The passage" not in page.text


def test_a_layer_is_as_strong_as_its_map_on_one_scale(index):
    found = index.explain(QUERY, "scans/one.png#image")
    page = read(found.to_html())
    one, (low, high) = found.visual.maps[0], found.visual.row_scale
    for image in page.images:
        if image.get("data-map", "all") == "all":
            continue
        alpha = np.asarray(decoded(image))[..., 3]
        expected = 255 * 0.8 * ((one.rows[int(image["data-map"]), 0] - low) / (high - low)) ** 2
        assert np.abs(alpha - expected).max() <= 1


def test_the_best_cell_is_marked(index):
    found = index.explain(picture(1), "scans/one.png#image")
    text = found.to_html()
    marks = re.findall(r'<span class="best" data-map="(\d+)" hidden style="left:([\d.]+)%;top:([\d.]+)%', text)
    rows = {str(number): row.place for number, row in enumerate(found.visual.rows) if row.place is not None}
    assert {mark[0] for mark in marks} == set(rows)
    grid = found.visual.maps[0].grid
    for number, left, top in marks:
        assert (round(float(left) * grid.w / 100), round(float(top) * grid.h / 100)) == rows[number][:1:-1]


def test_a_caption_is_shaded_beside_the_picture(tmp_path, visual):
    with SmartIndex.create(tmp_path / "c.smart", visual, codec="float32") as index:
        index.add([{"text": "the red square", "image": picture(1)}], ids=["a"])
        found = index.explain("red square", "a")
        text = found.to_html()
    assert "The passage" in text
    assert "<mark" in text
    assert "<figure" in text


@pytest.mark.parametrize("id", PICTURES)
def test_the_png_shows_picture_and_words(index, id):
    found = index.explain(QUERY, id)
    image = Image.open(BytesIO(found.to_png()))
    assert image.format == "PNG"
    assert image.width < 1000
    assert 600 < image.height < 3000
    colours = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    assert ((colours[:, 0] - colours[:, 2]) > 60).mean() > 0.01, "the maps' hue is seen"


def test_colours():
    strong = overlay(np.array([[0.0, 0.5, 1.0, 2.0]], np.float32), (0, 1))
    assert np.asarray(strong)[0, :, 3].tolist() == [0, 51, 204, 204]
    base = Image.new("RGB", (40, 10), (10, 200, 10))
    drawn = np.asarray(draw_over(base, np.array([[0.0, 1.0]], np.float32), (0, 1)))
    assert (drawn[:, :20] == drawn[0, 0]).all()
    assert drawn[0, 30, 0] > 150 > drawn[0, 10, 0]
    assert clock(0) == "0:00.0"
    assert clock(59.96) == "1:00.0"
    assert clock(3661.5) == "1:01:01.5"
