"""The anchor index proposes candidates and nothing more: what is found, and that no file of it is ever trusted."""

import json
import os
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.indexes import PLAIN, Indexes, assert_best, flat, names, topics

from smart_retrieval import extras
from smart_retrieval.core.hybrid import anchor_scores, hybrid_scores
from smart_retrieval.errors import MissingExtraError, SmartWarning
from smart_retrieval.index.mirror import ann
from smart_retrieval.index.mirror.ann import AnchorIndex
from smart_retrieval.index.mirror.mirror import Mirror
from smart_retrieval.index.search import first_stage
from smart_retrieval.index.search import searcher as search

faiss = pytest.importorskip("faiss")

COUNT = 900
DOCS = topics(COUNT, 3, 0)
QUERIES = topics(12, 4, 1)
FEW = {**PLAIN, "candidates": 40}


@pytest.fixture(autouse=True)
def large(monkeypatch):
    """Two hundred documents are many, and none are few."""
    monkeypatch.setattr(ann, "ANN_ROWS", 200)
    monkeypatch.setattr(search, "EXHAUSTIVE_PRODUCTS", -1)
    monkeypatch.setattr(first_stage, "FEW", 0)
    monkeypatch.setattr(ann, "_warned", False)


@pytest.fixture
def make(tmp_path, smart):
    made = Indexes(tmp_path, smart("mean"))
    yield made
    made.close()


@pytest.fixture
def asked(monkeypatch):
    """How often an anchor index was asked."""
    calls = []
    nearest = AnchorIndex.nearest

    def noted(self, *arguments):
        calls.append(arguments[1])
        return nearest(self, *arguments)

    monkeypatch.setattr(AnchorIndex, "nearest", noted)
    return calls


@pytest.fixture
def writes(monkeypatch):
    """How files were written: ``"new"`` or ``"extended"``."""
    found = []
    build, extend = ann.build, ann.extend
    monkeypatch.setattr(ann, "build", lambda *a: found.append("new") or build(*a))
    monkeypatch.setattr(ann, "extend", lambda *a: found.append("extended") or extend(*a))
    return found


def snapshot_of(index):
    return index.searcher.mirror().snapshot()


def file_of(index):
    (path,) = (index.path / "derived").glob("*.faiss")
    return path


def near(docs, query, count, rows=None):
    """The exact nearest documents by anchor."""
    scores = anchor_scores(query, docs)[0]
    rows = np.arange(len(docs)) if rows is None else np.asarray(rows)
    return set(rows[np.argsort(-scores[rows], kind="stable")[:count]].tolist())


def share_found(index, rows=None, wanted=40):
    """Mean share of the exact candidates among those proposed."""
    snapshot, shares = snapshot_of(index), []
    selection = snapshot.everything if rows is None else selection_of(snapshot, rows)
    for number in range(len(QUERIES)):
        query = QUERIES[number]
        found, cosines = first_stage.candidates(snapshot, query, selection, wanted, np.zeros(0, np.int64))
        assert len(found) == wanted
        np.testing.assert_allclose(cosines, anchor_scores(query, DOCS)[0][found], atol=1e-5)
        assert (np.diff(cosines) <= 0).all()
        shares.append(len(near(DOCS, query, wanted, rows) & set(found.tolist())) / wanted)
    return np.mean(shares)


def selection_of(snapshot, rows):
    from smart_retrieval.index.mirror.snapshot import Selection

    return Selection(snapshot, snapshot.rowids_at(np.asarray(rows)))


# -- what is found -----------------------------------------------------------------------------------------------------


def test_the_index_finds_the_exact_candidates(make, asked):
    index = make(DOCS)
    assert share_found(index) >= 0.985
    assert len(asked) == len(QUERIES)
    assert snapshot_of(index).ann.rows == COUNT


def test_hits_have_exact_scores_and_most_exact_hits_are_found(make, asked):
    index = make(DOCS)
    scores = hybrid_scores(QUERIES, DOCS, lambda_anchor=1, lambda_late=1)
    shares = []
    for number, hits in enumerate(index.search(QUERIES, 5, **FEW)):
        assert (hits.candidates, hits.searched) == (40, COUNT)
        for hit in hits:
            assert hit.score == pytest.approx(scores[number, names(COUNT).index(hit.id)], abs=2e-5)
        best = {names(COUNT)[i] for i in np.argsort(-scores[number])[:5]}
        shares.append(len(best & {hit.id for hit in hits}) / 5)
    assert np.mean(shares) > 0.8
    assert asked


def test_exact_search_does_not_use_the_anchor_index(make, asked):
    index = make(DOCS)
    scores = hybrid_scores(QUERIES, DOCS, lambda_anchor=1, lambda_late=1)
    for number, hits in enumerate(index.search(QUERIES, 7, exact=True, **PLAIN)):
        assert_best(hits, names(COUNT), scores[number], 7)
    assert not asked


def test_batched_single_and_repeated_searches_give_the_same_bits(make):
    index = make(DOCS)
    together = [flat(hits) for hits in index.search(QUERIES, 10, **FEW)]
    assert together == [flat(index.search(QUERIES[n], 10, **FEW)[0]) for n in range(len(QUERIES))]
    again = make.again(index)
    assert together == [flat(hits) for hits in again.search(QUERIES, 10, **FEW)]


@pytest.mark.parametrize("k", [60, 500, COUNT, 5000])
def test_more_hits_than_candidates(make, k):
    index = make(DOCS)
    for hits in index.search(QUERIES[:3], k, **FEW):
        assert len(hits) == len({hit.id for hit in hits}) == min(k, COUNT)


def test_small_and_empty_indexes_have_no_anchor_index(make):
    assert snapshot_of(make(DOCS[:199])).ann is None
    assert snapshot_of(make()).ann is None


# -- what may be found -------------------------------------------------------------------------------------------------


def test_deleted_rows_are_not_found_and_newer_rows_are(make, asked):
    index = make(DOCS[:600])
    index.search(QUERIES, 10, **FEW)
    gone = {hit.id for hits in index.search(QUERIES, 10, **FEW) for hit in hits}
    index.delete(sorted(gone))
    index.add(ids=names(COUNT)[600:], embeddings=DOCS[600:])
    asked.clear()
    found = {hit.id for hits in index.search(QUERIES, 10, **FEW) for hit in hits}
    assert asked
    assert not found & gone
    kept = [i for i, name in enumerate(names(COUNT)) if name not in gone]
    snapshot = snapshot_of(index)
    assert (snapshot.ann.rows, len(snapshot.segments)) == (600, 2)
    assert share_found(index, kept) >= 0.985
    newer = QUERIES[:1]
    index.upsert(None, ids=["d0899"], embeddings=newer)
    assert index.search(newer, 1, **FEW)[0][0].id == "d0899"


def test_filters_that_match_many_and_few(make, asked):
    index = make()
    index.add(ids=names(COUNT), embeddings=DOCS, metadata=[{"n": n % 10} for n in range(COUNT)])
    for where, rows in (("n < 8", 8), ("n = 3", 1)):
        chosen = [n for n in range(COUNT) if n % 10 < 8] if rows == 8 else [n for n in range(COUNT) if n % 10 == 3]
        asked.clear()
        for hits in index.search(QUERIES, 10, where=where, **{**FEW, "candidates": 20}):
            assert hits.searched == len(chosen)
            assert {int(hit.id[1:]) for hit in hits} <= set(chosen)
        assert asked == [20] * len(QUERIES)
        assert share_found(index, chosen, 20) >= 0.97
    (hits,) = index.search(QUERIES[:1], 10, where="n = 99", **FEW)
    assert (len(hits), hits.searched) == (0, 0)


def test_few_allowed_documents_are_read_one_by_one(make, asked, monkeypatch):
    monkeypatch.setattr(first_stage, "FEW", 100)
    index = make()
    index.add(ids=names(COUNT), embeddings=DOCS, metadata=[{"n": n % 10} for n in range(COUNT)])
    chosen = list(range(3, COUNT, 10))
    snapshot_of(index)
    assert share_found(index, chosen, 20) == 1
    assert not asked


def test_words_add_candidates(make, smart):
    index = make(model=smart("mean"))
    texts = [f"the otter {number}" for number in range(COUNT - 1)] + ["a zeppelin over the fjord"]
    index.add(texts, ids=names(COUNT), embeddings=DOCS)
    assert snapshot_of(index).ann is not None
    hits = index.search("zeppelin", 3, lexical_weight=500.0, **FEW)
    assert hits[0].id == names(COUNT)[-1]
    assert hits.candidates <= 41


def test_a_filter_is_evaluated_once_a_commit(make, monkeypatch):
    index = make()
    index.add(ids=names(COUNT), embeddings=DOCS, metadata=[{"n": n % 10} for n in range(COUNT)])
    scans, select = [], index.store.select
    monkeypatch.setattr(index.store, "select", lambda where=None: scans.append(where) or select(where))
    first = flat(index.search(QUERIES[0], 5, where="n = 3", **FEW)[0])
    assert flat(index.search(QUERIES[0], 5, where="n = 3", **FEW)[0]) == first
    index.search(QUERIES[0], 5, where="n = 4", **FEW)
    assert scans == ["n = 3", "n = 4"]
    index.delete([first[0][0]])
    after = flat(index.search(QUERIES[0], 5, where="n = 3", **FEW)[0])
    assert scans == ["n = 3", "n = 4", "n = 3"]
    assert first[0][0] not in {hit[0] for hit in after}


# -- the file ----------------------------------------------------------------------------------------------------------


def test_the_file_is_written_once_and_reused(make, writes):
    index = make(DOCS)
    snapshot_of(index)
    before = file_of(index).name
    for again in (make.again(index), make.again(index, mode="r")):
        assert snapshot_of(again).ann.rows == COUNT
    assert file_of(index).name == before
    assert writes == ["new"]
    assert index.verify().ok


def test_building_is_deterministic(make):
    first, second = make(DOCS), make(DOCS)
    assert [flat(hits) for hits in first.search(QUERIES, 10, **FEW)] == [
        flat(hits) for hits in second.search(QUERIES, 10, **FEW)
    ]


def spoil(path, how):
    content = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
        return
    if how == "short":
        content = content[:-100]
    elif how == "empty":
        content = bytearray()
    elif how == "head":
        content[40] ^= 0xFF
    elif how == "centroids":
        content[600] ^= 0x40
    elif how == "other":
        content = bytearray(os.urandom(len(content)))
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["missing", "short", "empty", "head", "centroids", "other"])
def test_a_changed_file_is_written_anew(make, writes, how):
    index = make(DOCS)
    expected = [flat(hits) for hits in index.search(QUERIES, 10, **FEW)]
    index.close()
    spoil(file_of(index), how)
    again = make.again(index)
    assert [flat(hits) for hits in again.search(QUERIES, 10, **FEW)] == expected
    assert writes == ["new", "new"]
    assert again.verify().ok


@pytest.mark.parametrize("kind", ["codes", "ids"])
def test_a_wrong_code_or_id_is_found_and_never_used(make, writes, kind):
    index = make(DOCS)
    expected = [flat(hits) for hits in index.search(QUERIES, 10, **FEW)]
    index.close()
    path = file_of(index)
    content = bytearray(path.read_bytes())
    content[-8 * 20 - 40 if kind == "codes" else -8] ^= 0x01
    path.write_bytes(content)
    again = make.again(index)
    report = again.verify()
    assert not report.ok
    assert [path.name in problem for problem in report.problems] == [True]
    with pytest.warns(SmartWarning, match="does not match its checksum; it is written anew"):
        assert [flat(hits) for hits in again.search(QUERIES, 10, **FEW)] == expected
    assert writes == ["new", "new"]
    assert again.verify().ok


def test_a_file_that_somebody_made_is_not_believed(tmp_path):
    """Its checksum and size are right; faiss alone would take memory for any number that it reads."""
    faiss = pytest.importorskip("faiss")
    anchors = np.ascontiguousarray(DOCS.anchors[:600])
    anchors /= np.linalg.norm(anchors, axis=1, keepdims=True)
    stamp = ann.write(faiss, tmp_path, "g0123456789", anchors, None)
    sound = (tmp_path / stamp.file).read_bytes()
    lists = len(sound) - 600 * (anchors.shape[1] + 8)
    made, rng, refused = replace(stamp, file="g0123456789.ann-00000000.faiss"), np.random.default_rng(0), 0
    for round in range(300):
        content = bytearray(sound)
        # The sizes of lists, where faiss keeps them, every second time; else anything before the lists.
        place = lists - 8 * int(rng.integers(1, 9)) if round % 2 else int(rng.integers(lists))
        content[place : place + 8] = int(rng.choice([0, 1, 255, 2**31, 2**40, 2**62])).to_bytes(8, "little")
        (tmp_path / made.file).write_bytes(content)
        index = ann.load(faiss, tmp_path, made, anchors.shape[1])
        refused += index is None
        if index is not None:
            assert len(index.nearest(anchors[0], 40, None, 600)) <= 600
    assert refused > 150
    for cut in (0, 10, lists - 1, len(sound) - 1):
        (tmp_path / made.file).write_bytes(sound[:cut])
        assert ann.load(faiss, tmp_path, made, anchors.shape[1]) is None
    (tmp_path / made.file).write_bytes(sound)
    assert ann.load(faiss, tmp_path, made, anchors.shape[1]) is not None
    for other in ({"trained": 100}, {"trained": 601}, {"trained": 2**40}, {"trained": 0}, {"probes": 0}):
        assert ann.load(faiss, tmp_path, replace(made, **other), anchors.shape[1]) is None
    with pytest.raises(OSError, match="cannot be written"):
        ann.write(faiss, tmp_path, "g0123456789", np.full_like(anchors, np.nan), None)


def test_files_of_another_history_are_not_used(make, writes):
    """The database is put back to an earlier copy; what is derived from the later one must go."""
    index = make(DOCS[:400])
    snapshot_of(index)
    index.close()
    saved = (index.path / "index.sqlite").read_bytes()
    again = make.again(index)
    again.add(ids=names(COUNT)[400:], embeddings=DOCS[400:])
    again.optimize()
    again.close()
    (index.path / "index.sqlite").write_bytes(saved)
    back = make.again(index)
    assert len(back) == 400
    assert {hit.id for hits in back.search(QUERIES, 10, **FEW) for hit in hits} <= set(names(400))
    assert snapshot_of(back).ann.rows == 400


def test_a_grown_index_extends_the_file_and_trains_anew_when_doubled(make, writes):
    index = make(DOCS[:300])
    mirror = Mirror(index.store, fold_rows=50)
    mirror.snapshot()
    index.add(ids=names(COUNT)[300:340], embeddings=DOCS[300:340])
    assert (mirror.snapshot().ann.rows, writes) == (300, ["new"])
    index.add(ids=names(COUNT)[340:420], embeddings=DOCS[340:420])
    snapshot = mirror.snapshot()
    assert (snapshot.ann.rows, len(snapshot.segments), writes) == (420, 1, ["new", "extended"])
    assert mirror.verify() == []
    assert len(list((index.path / "derived").glob("*.faiss"))) == 1
    index.add(ids=names(COUNT)[420:], embeddings=DOCS[420:])
    assert (mirror.snapshot().ann.rows, writes) == (COUNT, ["new", "extended", "new"])
    assert share_found(index) >= 0.985


def test_a_tampered_file_is_not_extended(make, writes):
    index = make(DOCS[:300])
    mirror = Mirror(index.store, fold_rows=50)
    mirror.snapshot()
    path = file_of(index)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    index.add(ids=names(COUNT)[300:420], embeddings=DOCS[300:420])
    assert mirror.snapshot().ann.rows == 420
    assert writes == ["new", "new"]


def test_optimize_builds_anew_without_the_deleted_rows(make, writes):
    index = make(DOCS)
    snapshot_of(index)
    index.delete(names(COUNT)[:300])
    index.optimize()
    assert snapshot_of(index).ann.rows == 600
    assert writes == ["new", "new"]
    assert {hit.id for hits in index.search(QUERIES, 10, **FEW) for hit in hits} <= set(names(COUNT)[300:])


# -- without it --------------------------------------------------------------------------------------------------------


def test_without_faiss_there_is_one_warning_and_an_exact_scan(make, monkeypatch):
    def missing(module, extra):
        assert module == "faiss"
        with pytest.raises(MissingExtraError) as caught:
            extras.require("no_such_module_at_all", extra)
        raise caught.value

    monkeypatch.setattr(ann, "require", missing)
    index = make(DOCS)
    with pytest.warns(SmartWarning, match=r'pip install "smart-retrieval\[ann\]"'):
        assert share_found(index) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert share_found(make(DOCS)) == 1
    assert not list((index.path / "derived").glob("*.faiss"))


def test_an_exact_scan_where_the_file_cannot_be_written(make, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ann, "write", full)
    index = make(DOCS)
    with pytest.warns(SmartWarning, match="No space left"):
        assert share_found(index) == 1
    index.add(ids=["one more"], embeddings=DOCS[:1])
    assert len(index.search(QUERIES, 5, **FEW)) == len(QUERIES)


# -- several at once ---------------------------------------------------------------------------------------------------

ELSEWHERE = """
import json, sys
from smart_retrieval import SmartEmbeddings
from smart_retrieval.index.mirror import ann, mirror
from smart_retrieval.index.search import searcher
from smart_retrieval.index.smart_index import SmartIndex
ann.ANN_ROWS, searcher.EXHAUSTIVE_PRODUCTS, mirror.SMALL_DOCUMENTS = 200, -1, -1
with SmartIndex.open(sys.argv[1]) as index:
    hits = index.search(SmartEmbeddings.load(sys.argv[2]), 10, candidates=40, lambda_anchor=1.0, lambda_late=1.0,
                        floor=None, weights=None)
    snapshot = index.searcher.mirror().snapshot()
    print(json.dumps([snapshot.ann.rows, [[hit.id for hit in one] for one in hits]]))
"""


def test_two_processes_build_one_file_and_find_the_same(make, tmp_path):
    index = make(DOCS)
    queries = QUERIES.save(tmp_path / "queries.safetensors")
    source = Path(sys.modules["smart_retrieval"].__file__).parents[1]
    command = [sys.executable, "-c", ELSEWHERE, str(index.path), str(queries)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(source), os.environ.get("PYTHONPATH", "")])}
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=120)[0]) for process in running]
    assert answers[0] == answers[1]
    assert answers[0][0] == COUNT
    assert [[hit.id for hit in hits] for hits in index.search(QUERIES, 10, **FEW)] == answers[0][1]
    assert len(list((index.path / "derived").glob("*.faiss"))) == 1


def test_searches_from_several_threads(make):
    index = make(DOCS)
    expected = [flat(hits) for hits in index.search(QUERIES, 10, **FEW)]
    wrong = []

    def run(number):
        for turn in range(6):
            at = (number + turn) % len(QUERIES)
            if flat(index.search(QUERIES[at], 10, **FEW)[0]) != expected[at]:
                wrong.append(at)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# -- building ----------------------------------------------------------------------------------------------------------


def test_calibrated_probes():
    rng = np.random.default_rng(0)
    scattered = rng.normal(size=(3000, 24)).astype(np.float32)
    scattered /= np.linalg.norm(scattered, axis=1, keepdims=True)
    index = ann.build(faiss, scattered, lambda rows: None)
    probes = ann.calibrate(faiss, index, scattered)
    assert index.nlist == ann.lists_for(3000) == 64
    assert 8 < probes <= 64
    again = ann.build(faiss, scattered, lambda rows: None)
    assert np.array_equal(faiss.serialize_index(index), faiss.serialize_index(again))
    stamp = replace(ann.AnnStamp("x", 3000, 3000, probes, 0, 0), rows=3000)
    proposed = AnchorIndex(faiss, index, stamp.rows, stamp.probes).nearest(scattered[5], 400, None, 3000)
    exact = np.argsort(-(scattered @ scattered[5]))[:400]
    assert len(np.intersect1d(proposed, exact)) >= 380


@pytest.mark.parametrize(("rows", "lists"), [(0, 8), (100, 8), (200_000, 512), (1_000_000, 1024), (10_000_000, 4096)])
def test_number_of_lists(rows, lists):
    assert ann.lists_for(rows) == lists
