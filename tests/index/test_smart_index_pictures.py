"""An index of pictures: added as items, found by text, by picture and by both, and kept with their grids."""

import numpy as np
import pytest
from fixtures.indexes import stored
from fixtures.pictures import picture, visual_model, write_pdf, write_video

from smart_retrieval import SmartEmbeddings
from smart_retrieval.core.roles import MEDIA_ROLES
from smart_retrieval.errors import EmptyInputError, IndexMismatchError, MediaError, SmartError, UnsupportedModelError
from smart_retrieval.index.smart_index import SmartIndex
from smart_retrieval.inputs import Item
from smart_retrieval.pictures.images import load_image
from smart_retrieval.pictures.pdf_pages import PdfPageImage


@pytest.fixture
def index(tmp_path, visual):
    with SmartIndex.create(tmp_path / "a.smart", visual, codec="float32") as opened:
        yield opened


def test_items_of_every_kind_are_stored_as_the_model_encodes_them(index, visual, tmp_path):
    write_pdf(tmp_path / "a.pdf", 2)
    write_video(tmp_path / "b.mp4")
    items = [
        "the otter swims",
        picture(1),
        {"text": "a red square", "image": picture(2)},
        PdfPageImage(tmp_path / "a.pdf", 2),
        tmp_path / "b.mp4",
        Item(images=(picture(3), picture(4, 96, 192))),
    ]
    names = ["text", "image", "captioned", "page", "video", "two"]
    assert index.add(items, ids=names) == names
    expected = visual.encode_document(items, show_progress=False)
    ids, found = stored(index)
    for number, name in enumerate(names):
        own, want = found[ids.index(name)], expected[number]
        assert np.allclose(own.anchors, want.anchors, atol=1e-5)
        assert np.allclose(own.token_vectors, want.token_vectors, atol=1e-5)
    documents = dict(zip(names, index.get(names), strict=True))
    assert {name: document.media and document.media.kind for name, document in documents.items()} == {
        "text": None, "image": "image", "captioned": "image", "page": "page", "video": "video", "two": "image",
    }  # fmt: skip
    assert [documents[name].text for name in names] == ["the otter swims", "", "a red square", "", "", ""]
    assert (documents["page"].source, documents["page"].page) == (str(tmp_path / "a.pdf"), 2)
    assert documents["video"].source == str(tmp_path / "b.mp4")
    assert len(documents["video"].media.times) == 6
    assert [grid.kind for grid in documents["two"].media.grids] == ["image", "image"]
    assert load_image(documents["image"].media.thumbnail()).size == (160, 128)
    assert index.verify().ok


def test_grids_name_the_visual_token_vectors(index, visual, tmp_path):
    write_video(tmp_path / "b.mp4")
    items = {"captioned": {"text": "a red square", "image": picture(2)}, "video": tmp_path / "b.mp4"}
    index.add(items.values(), ids=items)
    for name, item in items.items():
        encoded = visual.encode_document([item], show_progress=False)
        (document,) = index.get(name)
        (grid,) = document.media.grids
        assert tuple(encoded.grids[0][0]) == (grid.kind, grid.t, grid.h, grid.w)
        assert grid.positions().tolist() == np.flatnonzero(np.isin(encoded.roles, [*MEDIA_ROLES])).tolist()


def test_ids_follow_the_content_and_equal_pictures_are_one(index, tmp_path):
    picture(1).save(tmp_path / "a.png")
    (first,) = index.add([tmp_path / "a.png"])
    (tmp_path / "copy").mkdir()
    picture(1).save(tmp_path / "copy" / "b.png")
    assert index.add([tmp_path / "copy" / "b.png"], on_duplicate="skip") == [first]
    assert len(index) == 1
    assert index.add(["otter"]) == SmartIndex.add(index, ["otter"], on_duplicate="replace")


def test_pictures_are_found_by_themselves_by_their_files_and_with_words(index, tmp_path):
    for number in range(6):
        picture(number).save(tmp_path / f"{number}.png")
    index.add([tmp_path / f"{number}.png" for number in range(6)], ids=[f"{number}" for number in range(6)])
    queries = (picture(3), tmp_path / "3.png", {"image": tmp_path / "3.png"}, Item(images=(picture(3),)))
    found = [index.search(query, 2, lambda_late=0) for query in queries]
    assert all(hits[0].id == "3" for hits in found)
    assert len({round(hits[0].score, 4) for hits in found}) == 1
    both = index.search({"text": "red", "image": picture(3)}, 6, lexical_weight=0.1)
    assert len(both) == 6
    several = index.search([picture(3), "red", {"image": picture(2)}], 1, lambda_late=0)
    assert [hits[0].id for hits in several][::2] == ["3", "2"]
    assert index.search("red squares", 1)[0].media.kind == "image"
    batch = index.search_many([picture(3), picture(4)], 6)
    assert [hit.score for hit in batch[1]] == [hit.score for hit in index.search(picture(4), 6)]


def test_hits_carry_their_picture(index, tmp_path):
    write_pdf(tmp_path / "a.pdf", 2)
    index.add([PdfPageImage(tmp_path / "a.pdf", 1), "an otter"], ids=["page", "text"])
    hits = {hit.id: hit for hit in index.search("otter")}
    assert (hits["page"].kind, hits["text"].kind) == ("page", "text")
    assert hits["text"].media is None
    assert hits["page"].page == 1
    found = hits["page"].to_dict(thumbnails=True)
    assert found["media"]["thumbnail"]
    assert "thumbnail" not in hits["page"].to_dict()["media"]
    assert hits["text"].to_dict()["media"] is None
    assert load_image(hits["page"].media.thumbnail()).height == 160


def test_embeddings_bring_their_grids_along(index, visual):
    encoded = visual.encode_document([picture(1), "an otter"], show_progress=False)
    index.add(ids=["bare", "text"], embeddings=encoded)
    index.add([picture(1)], ids=["pictured"], embeddings=encoded[:1])
    bare, pictured, text = index.get(["bare", "pictured", "text"])
    assert bare.media.grids == pictured.media.grids != ()
    assert (bare.media.kind, bare.media.thumbnail()) == ("image", b"")
    assert pictured.media.thumbnail()
    assert text.media is None


def test_pooled_tokens_have_no_place(tmp_path, visual):
    with SmartIndex.create(tmp_path / "p.smart", visual, codec="float32", token_pooling=2) as index:
        index.add([picture(1)], ids=["a"])
        (document,) = index.get("a")
        assert document.media.grids == ()
        assert document.media.thumbnail()
        found = index.explain("a red square", "a")
    assert found.visual.maps == ()
    assert found.visual.outside == 0


def test_what_cannot_be_read_is_an_error_that_names_it(index, tmp_path):
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(MediaError, match=r"a\.png"):
        index.add([tmp_path / "a.png"])
    with pytest.raises(MediaError, match=r"a\.png"):
        index.search(tmp_path / "a.png")
    assert len(index) == 0
    for query in ("", {"text": " "}, Item()):
        with pytest.raises(EmptyInputError):
            index.search(query)
    with pytest.raises(EmptyInputError):
        index.search([])
    with pytest.raises(SmartError, match="without words"):
        index.search(picture(1), lexical_weight=0.2)
    with pytest.raises(EmptyInputError, match="nothing is fetched"):
        index.search({"image": "https://example.org/a.png"})


def test_a_string_is_always_text(index, tmp_path):
    picture(1).save(tmp_path / "a.png")
    (id,) = index.add([str(tmp_path / "a.png")])
    (document,) = index.get(id)
    assert document.text == str(tmp_path / "a.png")
    assert document.media is None


def test_a_text_model_refuses_pictures(tmp_path, smart):
    with SmartIndex.create(tmp_path / "t.smart", smart("mean"), codec="float32") as index:
        with pytest.raises(UnsupportedModelError):
            index.add([picture(1)])
        index.add(["otter"])
        with pytest.raises(UnsupportedModelError):
            index.search(picture(1))
        assert index.info()["files_as"] == "text"
    with pytest.raises(UnsupportedModelError):
        SmartIndex.create(tmp_path / "u.smart", smart("mean"), files_as="pages")


def test_refit_does_not_make_text_of_pictures(index):
    index.add([{"text": "a caption", "image": picture(1)}], ids=["a"])
    before = stored(index)[1]
    with pytest.raises(SmartError, match="pictures"):
        index.optimize(refit=True)
    assert np.array_equal(stored(index)[1].token_vectors, before.token_vectors)


def test_codebooks_are_fitted_to_pictures_too(tmp_path, visual):
    items = [picture(number) for number in range(12)]
    encoded = visual.encode_document(items, show_progress=False)
    with SmartIndex.create(tmp_path / "c.smart", visual) as index:
        index.add(items, ids=[f"{number}" for number in range(12)], embeddings=encoded)
        index.optimize()
        assert index.info()["codec"] == "anchored+3vq+norm"
        found = index.search(encoded[5], 1)[0]
        assert found[0].id == "5"
        assert [len(document.media.grids) for document in index.get(index.store.ids())] == [1] * 12
        assert index.verify().ok


def test_limits_are_recorded_and_others_refused(tmp_path, visual):
    name = visual.backbone.name
    with SmartIndex.open_or_create(
        tmp_path / "l.smart", name, codec="float32", max_visual_tokens=20, max_frames=2
    ) as index:
        index.add([picture(1, 400, 300)], ids=["a"])
        assert index.get("a")[0].media.grids[0].positions().size <= 20
        found = index.info()
        assert (found["model"]["max_visual_tokens"], found["model"]["max_frames"]) == (20, 2)
        assert found["files_as"] == "pages"
    with SmartIndex.open_or_create(tmp_path / "l.smart") as again:
        assert (again.model.max_visual_tokens, again.model.max_frames) == (20, 2)
    for options in ({"max_visual_tokens": 21}, {"max_frames": 3}, {"files_as": "text"}):
        with pytest.raises(IndexMismatchError, match=r"leave --(max-visual-tokens|max-frames|as) out"):
            SmartIndex.open_or_create(tmp_path / "l.smart", **options)
    with pytest.raises(IndexMismatchError, match="max_visual_tokens"):
        SmartIndex.open(tmp_path / "l.smart", visual)
    SmartIndex.open_or_create(tmp_path / "l.smart", max_visual_tokens=20, files_as="pages").close()


def test_video_budget_and_anchor_dimensions_are_recorded_and_others_refused(tmp_path, visual):
    name, path = visual.backbone.name, tmp_path / "b.smart"
    with SmartIndex.open_or_create(path, name, codec="float32", video_budget="official", truncate_dim=16) as index:
        index.add(["an otter"], ids=["a"])
        assert (index.info()["model"]["video_budget"], index.info()["model"]["truncate_dim"]) == ("official", 16)
    with SmartIndex.open_or_create(path, video_budget="official") as again:
        assert (again.model.anchor_dim, again.model.backbone.video_budget) == (16, "official")
    for options in ({"truncate_dim": 8}, {"video_budget": "usual"}):
        with pytest.raises(IndexMismatchError, match=r"leave --(truncate-dim|video-budget) out"):
            SmartIndex.open_or_create(path, **options)
    with pytest.raises(SmartError, match="truncate_dim: found a model loaded with None, expected 16"):
        SmartIndex.open_or_create(tmp_path / "other.smart", visual, truncate_dim=16)
    with SmartIndex.open_or_create(tmp_path / "plain.smart", name) as plain:
        assert plain.model.backbone.video_budget == "usual"
    with pytest.raises(IndexMismatchError, match="truncate dim the model's own, asked for 8"):
        SmartIndex.open_or_create(tmp_path / "plain.smart", truncate_dim=8)


def test_other_limits_make_another_model(tmp_path, visual):
    wide = visual_model(tmp_path, max_visual_tokens=60)
    with SmartIndex.create(tmp_path / "w.smart", wide, codec="float32"):
        pass
    with pytest.raises(IndexMismatchError):
        SmartIndex.open(tmp_path / "w.smart", visual)


def test_scores_are_those_of_plain_scoring(index, visual):
    items = [picture(1), "the otter swims", {"text": "a caption", "image": picture(2)}]
    index.add(items, ids=["a", "b", "c"])
    query = visual.encode_query([{"text": "red", "image": picture(2)}], show_progress=False)
    documents = SmartEmbeddings.concatenate([visual.encode_document([item], show_progress=False) for item in items])
    expected = visual.similarity(query, documents, weights=index.idf())[0]
    hits = {hit.id: hit.score for hit in index.search({"text": "red", "image": picture(2)})}
    assert [hits["a"], hits["b"], hits["c"]] == pytest.approx(expected.tolist(), abs=1e-4)
