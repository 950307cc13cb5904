"""Search against plain scoring over all documents: what is found, in which order, and when it may be less."""

import shutil
import threading

import numpy as np
import pytest
from fixtures.indexes import (
    DIM,
    PLAIN,
    Indexes,
    assert_best,
    documents,
    flat,
    names,
    search_elsewhere,
    stored,
    topics,
)
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval import IdfWeights, SmartEmbeddings
from smart_retrieval.core.hybrid import anchor_scores, hybrid_scores
from smart_retrieval.core.late import late_scores
from smart_retrieval.errors import FilterError, ScoringError, SmartError
from smart_retrieval.index import codec_fitting as fitting
from smart_retrieval.index.search import first_stage
from smart_retrieval.index.search import searcher as search

QUERIES = documents([4, 1, 9, 0], seed=99)


@pytest.fixture
def make(tmp_path, smart):
    made = Indexes(tmp_path, smart("mean"))
    yield made
    made.close()


@pytest.fixture
def two_stages(monkeypatch):
    """No collection is small enough to be scored whole."""
    monkeypatch.setattr(search, "EXHAUSTIVE_PRODUCTS", -1)


# -- one score ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lambda_anchor": 0.3, "lambda_late": 2.0},
        {"lambda_anchor": 0.0},
        {"lambda_late": 0.0},
        {"floor": 0.4},
        {"floor": -0.2, "lambda_late": 3.0},
    ],
    ids=str,
)
def test_scores_are_those_of_all_documents(make, options, exact):
    docs = documents([0, *range(1, 40)])
    index = make(docs)
    settings = {**PLAIN, **options}
    scores = hybrid_scores(QUERIES, docs, **settings)
    for k in (1, 10, 100):
        for number, hits in enumerate(index.search(QUERIES, k, exact=exact, **settings)):
            assert_best(hits, names(len(docs)), scores[number], k)
            assert (hits.candidates, hits.searched, hits.partial) == (40, 40, False)


def test_hits_carry_their_parts(make):
    docs = documents(30)
    index = make(docs)
    anchors, late = anchor_scores(QUERIES, docs), late_scores(QUERIES, docs, floor=0.2)
    for number, hits in enumerate(index.search(QUERIES, 5, **{**PLAIN, "lambda_late": 2.0, "floor": 0.2})):
        for hit in hits:
            at = names(30).index(hit.id)
            assert hit.anchor == pytest.approx(anchors[number, at], abs=1e-5)
            assert hit.late == pytest.approx(late[number, at], abs=1e-5)
            assert hit.score == pytest.approx(hit.anchor + 2 * hit.late, abs=1e-5)
            assert hit.lexical is None


def test_weights_given_as_numbers_or_as_an_object(make):
    docs = documents(40)
    index = make(docs)
    query = QUERIES[2]
    given_weights = np.arange(9.0)
    table = IdfWeights.fit(documents(15, seed=3))
    for weights in (given_weights, table):
        (hits,) = index.search(query, 40, **{**PLAIN, "weights": weights})
        assert_best(hits, names(40), hybrid_scores(query, docs, weights=weights)[0], 40)


def test_weights_for_several_queries_at_once(make):
    docs = documents(40)
    weights = np.arange(1.0, 15.0)
    found = make(docs).search(QUERIES, 10, **{**PLAIN, "weights": weights})
    scores = hybrid_scores(QUERIES, docs, weights=weights)
    for number, hits in enumerate(found):
        assert_best(hits, names(40), scores[number], 10)


def test_idf_follows_what_is_added_and_deleted(make):
    docs = documents(60)
    index = make(docs[:30])
    kept = list(range(60))

    def check():
        current = docs[kept]
        scores = hybrid_scores(QUERIES, current, weights=IdfWeights.fit(current))
        found = index.search(QUERIES, 10, lambda_anchor=1, lambda_late=1, floor=None)
        for number, hits in enumerate(found):
            assert_best(hits, [names(60)[i] for i in kept], scores[number], 10)
        table, expected = index.idf(), IdfWeights.fit(current)
        assert np.array_equal(table.of(np.arange(-1, 70)), expected.of(np.arange(-1, 70)))

    kept = list(range(30))
    check()
    index.add(ids=names(60)[30:], embeddings=docs[30:])
    kept = list(range(60))
    check()
    index.delete(names(60)[5:25])
    kept = [*range(5), *range(25, 60)]
    check()
    make.again(index).delete(names(60)[30:33])
    kept = [*range(5), *range(25, 30), *range(33, 60)]
    check()


@pytest.mark.parametrize(
    "codec", ["float16", "int8", "bits2", "codebook", "codebook+16x1", "codebook+8x4+norm", "anchored+3vq+norm"]
)
def test_codes_score_as_the_vectors_they_stand_for(make, monkeypatch, codec):
    monkeypatch.setattr(fitting, "FIT_TOKENS", 300)
    docs = documents(100)
    index = make(docs[:80], codec=codec)
    index.add(ids=names(20, "later"), embeddings=docs[80:])
    assert index.info()["codec"] == codec
    ids, decoded = stored(index)
    scores = hybrid_scores(QUERIES, decoded, lambda_late=2.0, floor=0.1)
    for exact in (True, False):
        found = index.search(QUERIES, 12, exact=exact, **{**PLAIN, "lambda_late": 2.0, "floor": 0.1})
        for number, hits in enumerate(found):
            assert_best(hits, ids, scores[number], 12, tolerance=1e-4)


@pytest.mark.parametrize("options", [{"weights": "unifrom"}, {"floor": "none"}], ids=str)
def test_unknown_names_of_settings_are_refused(make, options):
    index = make(documents(3))
    with pytest.raises(ScoringError):
        index.search(QUERIES[0], **{**PLAIN, **options})


def test_settings_that_make_no_sense_are_refused(make):
    index = make(documents(3))
    for options in ({"floor": 1.0}, {"weights": [1.0]}, {"weights": [-1.0] * 4}, {"weights": [np.nan] * 4}):
        with pytest.raises(ScoringError):
            index.search(QUERIES[0], **{**PLAIN, **options})


# -- two stages --------------------------------------------------------------------------------------------------------


def test_the_second_stage_orders_the_best_anchors(make, two_stages):
    docs = documents(200)
    index = make(docs)
    anchors, scores = anchor_scores(QUERIES, docs), hybrid_scores(QUERIES, docs, lambda_late=4.0)
    found = index.search(QUERIES, 10, candidates=25, **{**PLAIN, "lambda_late": 4.0})
    for number, hits in enumerate(found):
        best = np.argsort(-anchors[number])[:25]
        assert hits.candidates == 25
        assert hits.searched == 200
        assert_best(hits, [names(200)[i] for i in best], scores[number][best], 10)


def test_there_are_never_fewer_candidates_than_hits_wanted(make, two_stages):
    index = make(documents(80))
    (hits,) = index.search(QUERIES[0], 60, candidates=5, **PLAIN)
    assert (len(hits), hits.candidates) == (60, 60)


def test_exact_scores_everything(make, two_stages):
    docs = documents(200)
    index = make(docs)
    for number, hits in enumerate(index.search(QUERIES, 10, candidates=3, exact=True, **PLAIN)):
        assert hits.candidates == 200
        assert_best(hits, names(200), hybrid_scores(QUERIES, docs)[number], 10)


def test_candidates_find_the_exact_ten_on_clustered_documents(make, two_stages):
    index = make(topics(1200, 6, seed=1))
    queries = topics(20, 5, seed=2)
    exact = index.search(queries, 10, exact=True, **PLAIN)
    recall = []
    for candidates in (20, 100, 300):
        found = index.search(queries, 10, candidates=candidates, **PLAIN)
        recall.append(
            np.mean([len({h.id for h in a} & {h.id for h in b}) / 10 for a, b in zip(exact, found, strict=True)])
        )
    assert recall == sorted(recall)
    assert recall[-1] >= 0.99
    assert recall[1] >= 0.9


def test_a_deadline_gives_what_is_done_by_then(make, monkeypatch):
    monkeypatch.setattr(search, "_PRODUCTS_AT_ONCE", 0)
    docs = documents(700)
    index = make(docs)
    anchors, scores = anchor_scores(QUERIES, docs), hybrid_scores(QUERIES, docs)
    for number, hits in enumerate(index.search(QUERIES[:3], 5, exact=True, deadline_ms=0, **PLAIN)):
        assert hits.partial
        assert 5 <= hits.candidates < 700
        assert hits.searched == 700
        best = np.argsort(-anchors[number])[: hits.candidates]
        assert_best(hits, [names(700)[i] for i in best], scores[number][best], 5)
    unhurried = index.search(QUERIES, 5, exact=True, deadline_ms=60_000, **PLAIN)
    for left, right in zip(unhurried, index.search(QUERIES, 5, exact=True, **PLAIN), strict=True):
        assert not left.partial
        assert flat(left) == flat(right)


def test_usual_searches_are_scored_in_one_part_with_a_deadline_as_without(make, monkeypatch):
    index, parts, original = make(documents(700)), [], search._best_similarities

    def counted(snapshot, codec, tables, positions):
        parts.append(len(positions))
        return original(snapshot, codec, tables, positions)

    monkeypatch.setattr(search, "_best_similarities", counted)
    for options in ({}, {"deadline_ms": 60_000}):
        index.search(QUERIES[0], 5, exact=True, **PLAIN, **options)
    assert parts == [700, 700]


# -- filters -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filtered(tmp_path_factory, smart):
    """60 documents of years 0 to 5 and two languages; the rarest words are where no filter below leads."""
    made = Indexes(tmp_path_factory.mktemp("filtered"), smart("mean"))
    index = made()
    index.add(
        [f"{'otter ' * (number % 4)} river {number}" for number in range(60)],
        ids=names(60),
        metadata=[{"year": number % 6, "lang": "en" if number % 2 else "de"} for number in range(60)],
        embeddings=documents(60),
        pages=range(60),
    )
    index.delete(names(60)[50:])
    yield index
    made.close()


@given(
    low=st.integers(-1, 6),
    high=st.integers(-1, 6),
    lang=st.sampled_from([None, "en", "de", "fr"]),
    k=st.integers(1, 70),
    candidates=st.integers(1, 70),
    exact=st.booleans(),
    lexical_weight=st.sampled_from([0.0, 5.0]),
    stages=st.booleans(),
)
def test_what_the_filter_leaves_out_is_never_found(
    filtered, low, high, lang, k, candidates, exact, lexical_weight, stages
):
    where = f"year >= {low} and year <= {high}" + (f" and lang = '{lang}'" if lang else "")
    with pytest.MonkeyPatch.context() as patch:
        if stages:
            patch.setattr(search, "EXHAUSTIVE_PRODUCTS", -1)
        hits = filtered.search(
            "otter river",
            k,
            where=where,
            candidates=candidates,
            exact=exact,
            lexical_weight=lexical_weight,
            **PLAIN,
        )
    allowed = {
        f"d{n:04d}" for n in range(50) if low <= n % 6 <= high and (lang is None or lang == ("en" if n % 2 else "de"))
    }
    assert {hit.id for hit in hits} <= allowed
    assert len(hits) == min(k, len(allowed))
    assert hits.searched == len(allowed)
    assert not hits.partial


def test_a_filter_ranks_what_it_leaves(make, two_stages):
    docs = documents(120)
    index = make()
    index.add(ids=names(120), embeddings=docs, metadata=[{"n": n} for n in range(120)])
    (hits,) = index.search(QUERIES[0], 50, where="n >= 100", candidates=1, **PLAIN)
    assert_best(hits, names(120)[100:], hybrid_scores(QUERIES[0], docs[100:])[0], 50)
    assert index.search(QUERIES[0], 5, where="n > 1000", **PLAIN)[0].hits == ()
    assert index.search(QUERIES[0], 5, where="id = 'd0007'", **PLAIN)[0][0].id == "d0007"


@pytest.mark.parametrize("where", ["n >", "", "n = 1; drop table documents", "n == 'a", "upper(n) = 1"])
def test_a_bad_filter_has_a_name(make, where):
    index = make(documents(5))
    with pytest.raises(FilterError):
        index.search(QUERIES[0], where=where, **PLAIN)
    with pytest.raises(FilterError):
        index.delete(where=where)
    assert len(index) == 5


# -- the same, always --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["codebook", "codebook+16x1", "float16", "int8"])
def test_equal_documents_come_in_the_order_of_their_ids(make, monkeypatch, codec):
    monkeypatch.setattr(fitting, "FIT_TOKENS", 20)
    for count in (7, 13, 37, 250):  # no more than one batch: float16 codes that wait for the codec are coarser
        one = documents([7], seed=count)
        ids = np.random.default_rng(3).permutation(names(count)).tolist()
        index = make(codec=codec)
        index.add(ids=ids, embeddings=SmartEmbeddings.concatenate([one] * count))
        for k in (1, 5, count):
            for hits in index.search(documents([5, 9, 1, 3, 2], seed=9), k, **PLAIN):
                assert [hit.id for hit in hits] == names(count)[:k]
                assert len({hit.score for hit in hits}) == 1


def test_more_ties_than_hits_wanted_come_in_the_order_of_their_ids(make):
    """The same with numbers that every order of summing adds up exactly."""
    eighth = np.eye(8, DIM, dtype=np.float32)
    one = SmartEmbeddings(eighth[:1], eighth[:3], [0, 3])
    other = SmartEmbeddings(eighth[1:2], eighth[5:7], [0, 2])
    ids = np.random.default_rng(3).permutation(names(300)).tolist()
    index = make()
    index.add(ids=["worse", *ids[:150]], embeddings=SmartEmbeddings.concatenate([other, *[one] * 150]))
    index.search(one, **PLAIN)
    index.add(ids=ids[150:], embeddings=SmartEmbeddings.concatenate([one] * 150))
    for exact in (True, False):
        for k in (1, 5, 299, 300):
            (hits,) = index.search(one, k, exact=exact, **PLAIN)
            assert [hit.id for hit in hits] == names(300)[:k]
    assert index.search(one, 301, **PLAIN)[0][-1].id == "worse"


def test_equal_texts_come_in_the_order_of_their_ids(make):
    index = make(codec="float16")
    ids = ["b", "d", "a", "c", "e", "f"]
    index.add(["the otter swims in the cold river"] * 6 + ["moon"], ids=[*ids, "x"])
    hits = index.search("otter river swims", 4, where="id != 'x'")
    assert [hit.id for hit in hits] == ["a", "b", "c", "d"]


def test_equal_documents_of_different_commits_come_in_the_order_of_their_ids(make):
    index = make()
    one = documents([7], seed=5)
    for id in ("c", "a", "d", "b"):
        index.add(ids=[id], embeddings=one)
        index.add(ids=[f"other {id}"], embeddings=documents([3], seed=ord(id)))
        index.search(QUERIES[0], **PLAIN)
    hits = [hit.id for hit in index.search(one, 4, **PLAIN)[0]]
    assert hits == ["a", "b", "c", "d"]


@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize("codec", ["float32", "int8", "codebook+16x1", "anchored+3vq+norm"])
def test_a_batch_gives_what_its_queries_give_alone(make, monkeypatch, codec, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setattr(fitting, "FIT_TOKENS", 300)
    index = make(documents(150), codec=codec)
    queries = documents([3, 70, 1, 0, 12, 5], seed=4)
    weights = np.random.default_rng(1).random(len(queries.token_vectors))
    for options in ({}, {"weights": weights}, {"deadline_ms": 60_000}, {"lambda_late": 0.0}):
        options = {**PLAIN, **options}
        together = index.search(queries, 20, **options)
        for number, hits in enumerate(together):
            own = slice(queries.offsets[number], queries.offsets[number + 1])
            alone = {**options, **({"weights": weights[own]} if options["weights"] is weights else {})}
            assert flat(index.search(queries[number], 20, **alone)[0]) == flat(hits)


@pytest.mark.parametrize("at_once", [1, 400, 16_000_000])
@pytest.mark.parametrize("options", [{}, {"where": "n < 90"}, {"feedback": 0.5}, {"exact": True}, {"candidates": 400}])
def test_a_batch_in_two_stages_and_threads(make, two_stages, monkeypatch, options, at_once):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(search, "_COSINES_AT_ONCE", at_once)
    monkeypatch.setattr(first_stage, "_ROWS_AT_ONCE", 64)
    monkeypatch.setattr(first_stage, "FEW", 10)
    docs = documents(150)
    index = make(docs)
    index.upsert(ids=names(150), metadata=[{"n": number} for number in range(150)], embeddings=docs)
    queries, options = documents([3, 70, 1, 0, 12], seed=4), {"candidates": 20, **PLAIN, **options}
    together = index.search(queries, 20, **options)
    for number, hits in enumerate(together):
        assert flat(index.search(queries[number], 20, **options)[0]) == flat(hits)


def test_the_first_error_of_a_batch_is_raised(make, monkeypatch):
    index = make(documents(30))

    def fail(*_, **__):
        raise SmartError("not today")

    monkeypatch.setattr(search, "search_snapshot", fail)
    with pytest.raises(SmartError, match="not today"):
        index.search(QUERIES, **PLAIN)


def test_a_batch_of_texts_gives_what_they_give_alone(make):
    index = make(documents(50))
    texts = ["otter", "the otter swims in the cold river", "tax is due", "moon"]
    together = index.search(texts, 10)
    for text, hits in zip(texts, together, strict=True):
        assert flat(index.search(text, 10)) == flat(hits)


@pytest.fixture(params=["codebook+16x1", "anchored+3vq+norm", "float16", "int8", "bits2"])
def grown(make, monkeypatch, request):
    """An index that grew and shrank in several commits, and was searched in between."""
    monkeypatch.setattr(fitting, "FIT_TOKENS", 300)
    index = make(documents(101), codec=request.param)
    index.search(QUERIES, **PLAIN)
    index.add(ids=names(23, "later"), embeddings=documents(23, seed=2))
    index.search(QUERIES, **PLAIN)
    index.delete(names(101)[10:40])
    return index


def as_before(before, after):
    assert [[hit[0] for hit in hits] for hits in after] == [[hit[0] for hit in hits] for hits in before]
    assert after == before


def results(index):
    return [flat(hits) for hits in index.search(QUERIES, 15, **PLAIN)]


def test_the_same_after_reopening(make, grown):
    before = results(grown)
    as_before(before, results(make.again(grown)))
    as_before(before, results(make.again(grown, "r")))
    grown.close()
    as_before(before, results(make.again(grown)))


def test_the_same_after_optimizing(make, grown):
    before = results(grown)
    grown.optimize()
    as_before(before, results(grown))
    as_before(before, results(make.again(grown)))


def test_the_same_after_optimizing_with_few_candidates(grown, two_stages):
    def few():
        return [flat(hits) for hits in grown.search(QUERIES, 5, candidates=20, **PLAIN)]

    before = few()
    grown.optimize()
    as_before(before, few())


def test_the_same_from_another_process(grown):
    before = results(grown)
    assert search_elsewhere(grown, QUERIES[0], 15) == before[0]


def test_the_same_without_derived_files(make, grown, monkeypatch):
    before = results(grown)
    assert not (grown.path / "derived").exists()
    monkeypatch.setattr("smart_retrieval.index.mirror.mirror.SMALL_DOCUMENTS", 0)
    as_before(before, results(make.again(grown)))
    shutil.rmtree(grown.path / "derived")
    as_before(before, results(grown))
    as_before(before, results(make.again(grown)))
    for file in (grown.path / "derived").iterdir():
        file.write_bytes(b"not what it was")
    as_before(before, results(make.again(grown)))


# -- words -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def worded(make):
    """100 documents; ``rare`` alone holds a word, and its anchor is far from the query's."""
    index = make()
    query = make.model.encode_query("zebra otter")
    docs = documents(100)
    texts = [f"otter {'sea ' * (number % 9)} moon {number}" for number in range(99)]
    anchors = docs.anchors.copy()
    anchors[99] = -query.anchors[0]
    index.add(
        [*texts, "zebra"],
        ids=[*names(99), "rare"],
        embeddings=SmartEmbeddings(anchors, docs.token_vectors, docs.offsets, docs.token_ids),
    )
    return index


def test_words_bring_candidates_of_their_own(worded, two_stages):
    without = worded.search("zebra otter", 10, candidates=10, **PLAIN)
    assert without.candidates == 10
    assert "rare" not in [hit.id for hit in without]
    hits = worded.search("zebra otter", 10, candidates=10, lexical_weight=500.0, **PLAIN)
    assert hits[0].id == "rare"
    assert 10 < hits.candidates <= 20


def test_the_score_is_the_sum_of_its_parts(worded):
    rowids, bm25 = worded.store.bm25_scores("zebra otter")
    expected = dict(
        zip(worded.store.ids_of(rowids), worded.calibration().anchor_spread * bm25 / search.FULL_BM25, strict=True)
    )
    options = {**PLAIN, "lambda_anchor": 0.5, "lambda_late": 2.0}
    plain = {hit.id: hit for hit in worded.search("zebra otter", 100, exact=True, **options)}
    hits = worded.search("zebra otter", 100, exact=True, lexical_weight=3.0, **options)
    assert len(hits) == 100
    for hit in hits:
        assert hit.lexical == pytest.approx(expected.get(hit.id, 0.0), abs=1e-6)
        assert 0 <= hit.lexical <= 1
        assert (hit.anchor, hit.late) == (plain[hit.id].anchor, plain[hit.id].late)
        assert hit.score == pytest.approx(0.5 * hit.anchor + 2 * hit.late + 3 * hit.lexical, abs=1e-5)
        assert plain[hit.id].lexical is None


@pytest.mark.parametrize("stages", [False, True])
def test_every_document_scored_has_its_words_scored(worded, monkeypatch, stages):
    """Whether a document's words count must not depend on how many others have them, too."""
    if stages:
        monkeypatch.setattr(search, "EXHAUSTIVE_PRODUCTS", -1)
    exact = {hit.id: hit for hit in worded.search("otter sea", 100, exact=True, lexical_weight=1.0, **PLAIN)}
    hits = worded.search("otter sea", 20, candidates=20, lexical_weight=1.0, **PLAIN)
    for hit in hits:
        assert hit.lexical == pytest.approx(exact[hit.id].lexical, rel=1e-6), hit.id
        assert hit.score == pytest.approx(exact[hit.id].score, abs=1e-5)


def test_a_filter_changes_no_lexical_part(worded):
    whole = {hit.id: hit for hit in worded.search("zebra otter", 100, lexical_weight=1.0, **PLAIN)}
    hits = worded.search("zebra otter", 100, where="id != 'rare'", lexical_weight=1.0, **PLAIN)
    assert len(hits) == 99
    for hit in hits:
        assert (hit.score, hit.lexical) == (whole[hit.id].score, whole[hit.id].lexical)


def test_equal_words_bring_no_more_candidates_than_wanted(worded, two_stages):
    hits = worded.search("moon", 5, candidates=10, lexical_weight=1.0, **PLAIN)
    assert hits.candidates <= 20


def test_lexical_scores_are_relative_to_the_best_of_a_query():
    found = search.lexical_scores(np.array([[10.0, 40.0, 0.0], [3.0, 0.0, 15.0]]), 0.5)
    np.testing.assert_allclose(found, [[0.125, 0.5, 0.0], [0.05, 0.0, 0.25]], rtol=1e-6)
    assert search.lexical_scores(np.zeros(0), 0.5).shape == (0,)


def test_words_that_tell_nothing_add_nothing(worded):
    hits = worded.search("otter", 100, lexical_weight=1.0, **PLAIN)
    assert max(hit.lexical for hit in hits) < 1e-5, "99 of 100 passages hold it"


def test_words_without_any_hit_change_nothing(worded):
    for left, right in zip(
        worded.search("xylophone", 10, lexical_weight=2.0, **PLAIN),
        worded.search("xylophone", 10, **PLAIN),
        strict=True,
    ):
        assert (left.id, left.score, left.lexical) == (right.id, right.score, 0.0)


def test_words_need_the_query_as_text(worded):
    with pytest.raises(SmartError, match="texts"):
        worded.search(QUERIES[0], lexical_weight=1.0, **PLAIN)


def test_words_need_an_index_of_them(make):
    index = make(lexical=False)
    index.add(["otter"], ids=["a"])
    with pytest.raises(SmartError, match="lexical=False"):
        index.search("otter", lexical_weight=1.0)
    assert index.search("otter")[0].id == "a"
    assert index.info()["lexical"] is False


# -- many at once ------------------------------------------------------------------------------------------------------


def test_a_reader_sees_new_commits_without_reopening(make):
    writer = make(documents(20))
    reader = make.again(writer, "r")
    new = documents([6], seed=77)
    assert len(reader) == 20
    assert len(reader.search(new, 100, **PLAIN)[0]) == 20
    writer.add(ids=["new"], embeddings=new)
    assert reader.search(new, 1, **PLAIN)[0][0].id == "new"
    writer.delete("new")
    assert "new" not in [hit.id for hit in reader.search(new, 100, **PLAIN)[0]]
    writer.optimize()
    assert len(reader.search(new, 100, **PLAIN)[0]) == 20


def test_readers_see_whole_commits_while_others_write(make):
    writer = make(documents(10))
    reader = make.again(writer, "r")
    failures, looks, done = [], [], threading.Event()

    def read(index):
        try:
            while not done.is_set():
                hits = index.search(QUERIES[0], 1000, **PLAIN)[0]
                assert len(hits) % 10 == 0, len(hits)
                assert len(hits) == hits.searched
                looks.append(len(hits))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=(index,)) for index in (reader, writer)]
    for thread in threads:
        thread.start()
    batch = documents(10, seed=5)
    for number in range(15):
        writer.add(ids=names(10, f"b{number}-"), embeddings=batch)
        if number % 3 == 2:
            writer.delete(names(10, f"b{number - 1}-"))
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert looks
    assert len(reader.search(QUERIES[0], 1000, **PLAIN)[0]) == 110


def test_a_search_that_began_before_another_threads_commit(make):
    """One thread's transaction is older than what another thread has just mapped, in the same index object."""
    index = make(documents(5))
    index.search(QUERIES[0], **PLAIN)

    def later():
        index.add(ids=["x"], embeddings=QUERIES[0])
        index.search(QUERIES[0], **PLAIN)

    with index.store.reading():
        assert index.store.count() == 5
        thread = threading.Thread(target=later)
        thread.start()
        thread.join()
        assert len(index.search(QUERIES[0], **PLAIN)[0]) >= 5
