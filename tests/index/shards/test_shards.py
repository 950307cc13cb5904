"""Splitting, merging and searching shards: the same hits as one index, whatever the number of shards."""

import time

import numpy as np
import pytest
from fixtures.indexes import PLAIN, documents, names

from smart_retrieval import SmartEmbeddings, SmartIndex
from smart_retrieval.errors import (
    DuplicateIdError,
    IndexFormatError,
    IndexMismatchError,
    SmartError,
    SmartWarning,
    UnknownIdError,
)
from smart_retrieval.index.search.searcher import Searcher
from smart_retrieval.index.shards.sharded_index import ShardedIndex
from smart_retrieval.index.shards.split import merge_indexes, shard_folders, split_index
from smart_retrieval.index.store.lexical import KeptWords

WORDS = [
    "logs",
    "oak",
    "rotate",
    "night",
    "burn",
    "slow",
    "file",
    "tree",
    "wood",
    "disk",
    "error",
    "cloud",
    "rain",
    "wind",
    "sea",
    "ship",
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, smart):
    """An index of 120 texts with metadata."""
    rng = np.random.default_rng(0)
    index = SmartIndex.create(tmp_path_factory.mktemp("whole") / "a.smart", smart("mean"), codec="float16")
    texts = [" ".join(rng.choice(WORDS, rng.integers(3, 12))) for _ in range(120)]
    index.add(texts, ids=names(120), metadata=[{"year": 2000 + i % 7} for i in range(120)], sources=[None] * 120)
    yield index
    index.close()


def opened(tmp_path, whole, count):
    split_index(whole, tmp_path / "a.shards", count)
    return ShardedIndex.open(tmp_path / "a.shards", whole.model)


def same(found, expected):
    assert [hit.id for hit in found] == [hit.id for hit in expected]
    np.testing.assert_allclose([hit.score for hit in found], [hit.score for hit in expected], atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_hits_are_those_of_the_whole_index(tmp_path, whole, count):
    queries = ["oaktree rainnight", "logship", "seafile logtree oaknight seaship"]
    with opened(tmp_path, whole, count) as shards:
        assert len(shards) == len(whole)
        for options in ({}, {"where": "year > 2003"}, {"exact": True, "weights": "uniform"}, {"lambda_late": 3.0}):
            for found, expected in zip(
                shards.search(queries, **options), whole.search(queries, **options), strict=True
            ):
                same(found, expected)
                assert found.searched == expected.searched
        hit = shards.search(queries[0])[0]
        assert shards.explain(queries[0], hit.id).score == pytest.approx(hit.score, abs=1e-6)
        assert shards.get([hit.id, "d0003"])[1].metadata == {"year": 2003}


def test_idf_is_counted_over_all_shards(tmp_path, whole):
    with opened(tmp_path, whole, 3) as shards:
        assert shards.idf().documents == 120
        frequencies = shards.idf().frequencies
        np.testing.assert_array_equal(frequencies, whole.idf().frequencies[: len(frequencies)])
        assert all(len(shard) > 10 for shard in shards.shards)


def test_merging_gives_back_the_whole(tmp_path, whole):
    with opened(tmp_path, whole, 3) as shards:
        merge_indexes(shards.shards, tmp_path / "merged.smart")
    with SmartIndex.open(tmp_path / "merged.smart", whole.model) as merged:
        assert merged.verify().ok
        assert merged.store.ids() == whole.store.ids()
        assert merged.calibration() == whole.calibration()
        rows, own = (one.store.read_vectors(one.store.rowids(names(120))) for one in (whole, merged))
        for field in ("anchors", "codes", "offsets", "token_ids"):
            np.testing.assert_array_equal(getattr(rows, field), getattr(own, field))
        assert [one.text for one in merged.get(names(120))] == [one.text for one in whole.get(names(120))]
        same(merged.search("oaktree", lexical_weight=3.0), whole.search("oaktree", lexical_weight=3.0))


def test_pictures_and_files_travel_along(tmp_path, visual):
    from PIL import Image

    (tmp_path / "files").mkdir()
    for number in range(3):
        Image.new("RGB", (64, 48), (80 * number, 0, 0)).save(tmp_path / "files" / f"{number}.png")
    with SmartIndex.create(tmp_path / "a.smart", visual) as index:
        index.index_folder(tmp_path / "files")
        split_index(index, tmp_path / "a.shards", 2)
        ids = index.store.ids()
        before = {document.id: document.media.thumbnail() for document in index.get(ids)}
    with ShardedIndex.open(tmp_path / "a.shards", visual) as shards:
        assert {document.id: document.media.thumbnail() for document in shards.get(ids)} == before
        with pytest.raises(IndexMismatchError, match="a shard of an index"):
            shards.shards[0].index_folder(tmp_path / "files")
        merge_indexes(shards.shards, tmp_path / "merged.smart")
    with SmartIndex.open(tmp_path / "merged.smart", visual) as merged:
        report = merged.index_folder(tmp_path / "files")
        assert (report.unchanged, report.added) == (3, 0)


def test_documents_are_added_to_and_deleted_from_the_shard_of_their_id(tmp_path, whole):
    with opened(tmp_path, whole, 3) as shards:
        before = [len(shard) for shard in shards.shards]
        assert shards.add(["a new text", "another"], ids=["n1", "n2"]) == ["n1", "n2"]
        assert len(shards) == 122
        with pytest.raises(DuplicateIdError, match="d0001"):
            shards.add(["new", "old"], ids=["n3", "d0001"])
        assert "n3" not in shards
        shards.upsert(["rotate logs logs"], ids=["d0001"])
        assert shards.get("d0001")[0].text == "rotate logs logs"
        assert len(shards) == 122
        with pytest.raises(UnknownIdError, match="nothere"):
            shards.delete(["n1", "nothere"])
        assert shards.delete(["n1", "n2"]) == 2
        assert [len(shard) for shard in shards.shards] == before
        assert shards.delete(where="year = 2003") == 17


def test_a_late_shard_is_left_out_and_the_hits_say_so(tmp_path, whole, monkeypatch):
    with opened(tmp_path, whole, 2) as shards:
        slow, search = shards.shards[1].searcher, Searcher.search

        def delayed(self, *args, **options):
            if self is slow:
                time.sleep(0.6)
            return search(self, *args, **options)

        monkeypatch.setattr(Searcher, "search", delayed)
        query = shards.shards[0].encoder.encode_queries(["logs"])[1]
        (hits,) = shards.search_many(query, deadline_ms=200)
        assert hits.partial
        assert 0 < hits.searched < len(whole)
        monkeypatch.setattr(KeptWords, "__init__", lambda *_: time.sleep(0.6))
        nothing = shards.search("logs", lexical_weight=3.0, deadline_ms=100)
        assert (len(nothing), nothing.partial) == (0, True)
        monkeypatch.undo()
        assert not shards.search_many(query, deadline_ms=20_000)[0].partial


BOOSTS = (
    {"lexical_weight": 3.0},
    {"feedback": 0.5},
    {"neighbours": 0.5},
    {"lexical_weight": 2.0, "feedback": 0.3, "neighbours": 0.4, "where": "year > 2002"},
)


@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize("options", BOOSTS, ids=lambda options: "+".join(options))
def test_words_and_result_lists_are_weighed_over_all_shards(tmp_path, whole, count, options):
    queries = ["oak rain night", "log ships", "sea-file rotate sea oak", "nothing of it"]
    with opened(tmp_path, whole, count) as shards:
        for found, expected in zip(shards.search(queries, **options), whole.search(queries, **options), strict=True):
            same(found, expected)
            assert (found.best, found.searched) == (expected.best, expected.searched)
            for name in ("lexical", "feedback", "neighbours"):
                pairs = [(getattr(one, name), getattr(other, name)) for one, other in zip(found, expected, strict=True)]
                assert all(one == pytest.approx(other, abs=1e-6) for one, other in pairs), name
        hit = shards.search(queries[0], **options)[3]
        why = shards.explain(queries[0], hit.id, **options)
        assert why.score == pytest.approx(hit.score, abs=1e-5)
        parts = {part.name: part for part in why.added}
        assert set(parts) == {name.removesuffix("_weight") for name in options} - {"where"}
        for part in whole.explain(queries[0], hit.id, **options).added:
            assert parts[part.name].value == pytest.approx(part.value, abs=1e-6)


def test_few_candidates_are_found_by_words_and_by_the_best_hit(tmp_path, whole, monkeypatch):
    monkeypatch.setattr("smart_retrieval.index.search.searcher.EXHAUSTIVE_PRODUCTS", 0)
    with opened(tmp_path, whole, 2) as shards:
        hits = shards.search("oak rain", 3, candidates=3, lexical_weight=1e4)
        same(hits, whole.search("oak rain", 3, exact=True, lexical_weight=1e4))
        found = shards.search("oak rain", 3, candidates=3, feedback=50.0)
        expected = whole.search("oak rain", 3, candidates=6, feedback=50.0)
        assert {hit.id for hit in found} >= {expected[0].id}
        with pytest.raises(SmartError, match="no candidate"):
            shards.explain("oak rain", whole.search("oak rain", 120)[-1].id, candidates=1, neighbours=1.0)


def test_what_shards_cannot_find_is_named(tmp_path, whole):
    with opened(tmp_path, whole, 2) as shards:
        with pytest.raises(SmartError, match="lexical_weight: found queries that are encoded"):
            shards.search(shards.shards[0].encoder.encode_queries(["logs"])[1], lexical_weight=3.0)
        assert [len(shards.search("logs", 0, **options)) for options in BOOSTS] == [0] * len(BOOSTS)
        assert len(shards.search("logs", where="year = 1", feedback=1.0, neighbours=1.0)) == 0
        with pytest.warns(SmartWarning, match="no document has the metadata 'yaer'"):
            assert not shards.search("logs", where="yaer = 1")


def test_shards_that_do_not_belong_together_are_refused(tmp_path, whole, make):
    places = split_index(whole, tmp_path / "a.shards", 3)
    indexes = [SmartIndex.open(place, whole.model) for place in places]
    try:
        with pytest.raises(IndexMismatchError, match="missing: 2"):
            ShardedIndex(indexes[:2])
        with pytest.raises(IndexMismatchError, match="each once"):
            merge_indexes([indexes[0], indexes[0], indexes[1]], tmp_path / "b.smart")
        other = make()
        with pytest.raises(IndexMismatchError, match="codec"):
            merge_indexes([indexes[0], other], tmp_path / "b.smart")
        with pytest.raises(DuplicateIdError):
            merge_indexes([whole, SmartIndex.open(whole.path, whole.model)], tmp_path / "b.smart")
        assert not (tmp_path / "b.smart").exists()
        assert not list(tmp_path.glob(".b.smart*"))
    finally:
        for index in indexes:
            index.close()


def test_nothing_is_overwritten_and_nothing_split(tmp_path, whole, make):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("x")
    with pytest.raises(IndexFormatError, match="already"):
        split_index(whole, tmp_path / "taken", 2)
    with pytest.raises(SmartError, match="1 or more"):
        split_index(whole, tmp_path / "none", 0)
    with pytest.raises(SmartError, match="no documents"):
        split_index(make(), tmp_path / "none", 2)
    with pytest.raises(IndexFormatError, match="no shards"):
        ShardedIndex.open(tmp_path / "taken")
    assert shard_folders(tmp_path / "none") == []


def test_indexes_that_were_made_apart_are_merged(make, tmp_path):
    one, two = (documents(20, seed) for seed in (1, 2))
    first, second = make(one), make()
    second.add(ids=names(20, "e"), embeddings=two)
    merge_indexes([first, second], tmp_path / "m.smart")
    both = make(one)
    both.add(ids=names(20, "e"), embeddings=two)
    with SmartIndex.open(tmp_path / "m.smart", first.model) as merged:
        query: SmartEmbeddings = two[3]
        same(merged.search_many(query, **PLAIN)[0], both.search_many(query, **PLAIN)[0])
