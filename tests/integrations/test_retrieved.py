"""Hits as passages: what stands for a picture, which keys win, what is shared when retrievers are copied."""

import copy
import pickle
from pathlib import Path

import pytest
from fixtures.pages_of_docs import blocks

from smart_retrieval import SmartIndex
from smart_retrieval.errors import FilterError, IndexFormatError, SmartError
from smart_retrieval.index.search.hits import Hit, Hits
from smart_retrieval.index.shards.split import split_index
from smart_retrieval.index.store.pictures import Media
from smart_retrieval.integrations.passages import PassageSearch, metadata_of, text_of

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "databases.md"


def test_a_picture_is_told_in_words():
    def hit(**fields):
        return Hit("a", 1.0, 0.5, 0.5, **fields)

    assert text_of(hit(text="words")) == "words"
    assert text_of(hit(media=Media("page", 6, 8), source="r.pdf", page=3)) == "[page 3 of r.pdf]"
    assert text_of(hit(media=Media("image", 6, 8), source="a.png")) == "[image of a.png]"
    assert text_of(hit(media=Media("video", 6, 8))) == "[video]"
    assert text_of(hit(media=Media("image", 6, 8), text="caption")) == "caption"
    assert text_of(hit()) == ""


def test_own_keys_win_and_stored_ones_keep_the_name_that_filters_use(library):
    (found,) = library.search("otter", 1, where="metadata.page = 'mine'")
    metadata = metadata_of(found)
    assert metadata["metadata.page"] == "mine"
    assert "page" not in metadata
    assert metadata["source"] == "river.md"
    assert metadata["score"] == pytest.approx(found.score)
    assert {"anchor", "late", "kind", "id"} <= set(metadata)
    assert "lexical" not in metadata
    assert found.metadata == {"year": 2020, "tags": ["river", "animal"], "lang": "en", "page": "mine"}


def test_the_index_is_opened_once_and_late(folder, monkeypatch):
    opened, real = [], SmartIndex.open
    monkeypatch.setattr(SmartIndex, "open", lambda *args, **kwargs: opened.append(args) or real(*args, **kwargs))
    search = PassageSearch(folder)
    assert opened == []
    first = search.search("the otter", 2, (), None)
    assert copy.deepcopy(search).search("the otter", 2, (), None) == first
    assert len(opened) == 1
    assert pickle.loads(pickle.dumps(search)).search("the otter", 2, (), None) == first
    search.index.close()


def test_wrong_indexes_are_named(tmp_path, library):
    with pytest.raises(IndexFormatError):
        PassageSearch(tmp_path / "none").search("x", 1, (), None)
    with pytest.raises(SmartError, match="found a int"):
        PassageSearch(3)
    with pytest.raises(SmartError, match="model: found one beside"):
        PassageSearch(library, "minilm")


def test_options_reach_the_search_and_their_filter_is_not_lost(library):
    search = PassageSearch(library)
    found = search.search("the otter", 5, ("lang = 'en'",), {"lexical_weight": 3.0, "where": "year = 2021"})
    assert [one.id for one in found] == ["tax"]
    assert "lexical" in found[0].metadata
    with pytest.raises(FilterError):
        search.search("the otter", 5, ("lang = 'en'",), {"where": "year = 2021) or (id exists"})


def test_a_reranker_gives_the_score_and_a_deadline_is_told(library, monkeypatch):
    class Backwards:
        def predict(self, pairs):
            return [-len(text) for _, text in pairs]

    found = PassageSearch(library).search("the otter", 3, (), {"rerank": Backwards()})
    assert found[0].id == "mouse"
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert found[0].metadata["rerank"] == found[0].score != found[0].metadata["score"]
    assert all("partial" not in one.metadata for one in found)
    hits = Hits((Hit("a", 1.0, 0.5, 0.5),), 1, 1, partial=True)
    monkeypatch.setattr(SmartIndex, "search", lambda self, *args, **options: hits)
    (late,) = PassageSearch(library).search("the otter", 3, (), {"deadline_ms": 1.0})
    assert late.metadata["partial"] is True


def test_shards_and_stores_are_searched_open_or_by_their_address(library, tmp_path):
    wheres = ("year > 2019",)
    expected = [one.id for one in PassageSearch(library).search("the otter", 3, wheres, None)]
    split_index(library, tmp_path / "shards", 2)
    search = PassageSearch(tmp_path / "shards", library.model)
    with search.index as shards:
        for one in (search, PassageSearch(shards)):
            assert [found.id for found in one.search("the otter", 3, wheres, None)] == expected
            assert one.path == str(tmp_path / "shards")
            with pytest.raises(TypeError, match="'wehre'"):  # a filter that would not hold
                one.search("the otter", 3, (), {"wehre": "year > 2019"})
    with pytest.raises(TypeError, match="'wehre'"):
        library.explain("the otter", "otter", wehre="year > 2019")
    (code,) = [one for one in blocks(GUIDE.read_text(encoding="utf-8"), "python") if "class MemoryEngine" in one]
    exec(code, names := {})
    with names["exported"](library) as stored:
        search = PassageSearch(stored)
        assert [found.id for found in search.search("the otter", 3, wheres, None)] == expected
        with pytest.raises(TypeError, match="'wehre'"):
            search.search("the otter", 3, (), {"wehre": "year > 2019"})
        with pytest.raises(SmartError, match="expected its address"):
            _ = search.path
