"""Qdrant: queries that can be had alone, scores computed by the server, and what it refuses."""

import numpy as np
import pytest
from fixtures.commands import loaded, run
from fixtures.indexes import PLAIN, documents, names, topics

pytest.importorskip("qdrant_client")
pytest.importorskip("qdrant_edge")
from fixtures.edge import EdgeClient
from qdrant_client import QdrantClient, models

from smart_retrieval import Scoring, SmartReranker, open_index
from smart_retrieval.errors import FilterError, IndexDamagedError, ScoringError, StoreError
from smart_retrieval.stores import QdrantIndex, anchor_query, compile_filter, hybrid_query, read_points


@pytest.fixture(params=["client", "edge"])
def client(request, tmp_path):
    if request.param == "client":
        made = QdrantClient(":memory:")
    else:
        (tmp_path / "edge").mkdir()
        made = EdgeClient(tmp_path / "edge")
    yield made
    made.close()


@pytest.fixture
def pair(make, client):
    index = make(codec="float16")
    metadata = [{"year": 2000 + n % 20, "n": n} for n in range(120)]
    index.add(ids=names(120), embeddings=topics(120, 8, 3), metadata=metadata)
    return index, QdrantIndex.export(client, index, tokens=True)


def assert_same(found, expected, tolerance=2e-5):
    assert [hit.id for hit in found] == [hit.id for hit in expected]
    for one, other in zip(found, expected, strict=True):
        assert (one.score, one.anchor, one.late) == pytest.approx(
            (other.score, other.anchor, other.late), abs=tolerance
        )
        assert one.metadata == other.metadata


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weights": "idf", "lambda_late": 2.5},
        {"weights": None, "lambda_anchor": 0.5, "candidates": 120},
        {"lambda_late": 0.0},
        {"floor": None},
        {"floor": 0.3, "weights": None, "lambda_late": 2.0},
        {"floor": 0.97},
        {"floor": -0.2, "lambda_late": 0.0},
        {"where": "year > 2010 and not n = 31"},
        {"where": "n = -1"},
        {"scoring": Scoring("uniform", 1.0, 1.0), "exact": True},
    ],
    ids=str,
)
def test_the_servers_scores_are_those_of_the_codes(pair, options):
    _, exported = pair
    queries = topics(3, 5, 11)
    expected = exported.search(queries, 10, **{**options, "exact": True})
    found = exported.search_native(queries, 10, **{"candidates": 120, **options})
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)
        assert one.searched == other.searched
        assert len(one.hits) <= one.candidates


def test_queries_can_be_had_alone(pair, client):
    index, exported = pair
    query = topics(1, 5, 12)
    expected = index.search(query, 5, where="year < 2015", **PLAIN)[0]

    points = client.query_points("smart", **anchor_query(query, 120, "year < 2015", exact=True)).points
    anchors, blobs = read_points(points)
    scores = SmartReranker(index.model, index.codec(), scoring=Scoring()).score(query, anchors, blobs).hybrid
    best = np.argsort(-scores)[:5]
    assert [points[place].payload["id"] for place in best] == [hit.id for hit in expected]
    assert scores[best] == pytest.approx([hit.score for hit in expected], abs=1e-5)

    for request in (
        hybrid_query(query, Scoring(), 5, candidates=120, where="year < 2015"),
        exported.native_query(query, 5, candidates=120, where="year < 2015", scoring=Scoring()),
    ):
        points = client.query_points("smart", **request).points
        assert [point.payload["id"] for point in points] == [hit.id for hit in expected]
        assert [point.score for point in points] == pytest.approx([hit.score for hit in expected], abs=2e-5)
        assert "codes" not in points[0].payload

    assert client.count("smart", compile_filter("year = 2003")).count == 6
    with pytest.raises(IndexDamagedError, match="without anchors"):
        read_points(client.retrieve("smart", [points[0].id], with_payload=True, with_vectors=False))


def test_texts_are_searched_by_the_server(make, client):
    index = make(codec="float16")
    index.add(["The otter swims in the cold river.", "Tax is due.", "The moon is cold."], ids=names(3))
    exported = QdrantIndex.export(client, index, tokens=True)
    assert_same(exported.search_native("cold river"), exported.search("cold river"))
    assert [len(hits) for hits in exported.search_native(["cold", "tax"], 2)] == [2, 2]
    assert exported.search_native("cold", 0).hits == ()


def test_what_the_server_cannot_do_is_refused(pair, client):
    index, exported = pair
    query = topics(1, 5, 1)
    for options in ({"neighbours": 0.2}, {"feedback": 0.1}, {"deadline_ms": 5.0}):
        with pytest.raises(StoreError, match=f"search_native: found {next(iter(options))}"):
            exported.search_native(query, **options)
    with pytest.raises(FilterError, match="order of texts"):
        exported.search(query, where="year > '2'")
    with pytest.raises(ScoringError, match="expected a number"):
        hybrid_query(query, Scoring(floor="calibrated"))
    with pytest.raises(ScoringError, match="found 2 queries"):
        anchor_query(topics(2, 5, 1), 5)
    with pytest.raises(StoreError, match="found one of that name"):
        QdrantIndex.export(client, index)
    plain = QdrantIndex.export(client, index, replace=True)
    with pytest.raises(StoreError, match="no token vectors"):
        plain.search_native(query)
    with pytest.raises(StoreError, match="no index there"):
        QdrantIndex.open(client, collection="other")


def test_documents_that_are_added_have_token_vectors(pair, client):
    _, exported = pair
    exported.upsert(ids=["new", "d0003"], embeddings=topics(2, 8, 77))
    again = QdrantIndex.open(client, exported.model)
    assert again.tokens
    query = topics(1, 5, 12)
    assert_same(again.search_native(query, 122, candidates=122)[0], exported.search(query, 122, candidates=122)[0])


def test_a_document_without_token_vectors_has_no_late_score(make, client):
    index = make(documents([3, 0, 5], 1), codec="float16")
    exported = QdrantIndex.export(client, index, tokens=True)
    for floor in (None, 0.1):
        options = {**PLAIN, "floor": floor}
        for found, expected in zip(
            exported.search_native(documents(2, 5), 3, **options),
            index.search(documents(2, 5), 3, **options),
            strict=True,
        ):
            assert_same(found, expected)
            assert {hit.id: hit.late for hit in found}["d0001"] == pytest.approx(0, abs=1e-5)


def test_a_document_with_too_many_token_vectors_is_named(pair, monkeypatch):
    from smart_retrieval.stores.qdrant import points

    monkeypatch.setattr(points, "MOST_NUMBERS", 100)
    _, exported = pair
    with pytest.raises(StoreError, match=r"'big': found 9 token vectors of 32 dimensions.*pool tokens"):
        exported.add(ids=["big"], embeddings=topics(1, 9, 3))
    assert "big" not in exported


def test_token_vectors_have_no_graph(make):
    with QdrantIndex.create(":memory:", make().model, codec="float32", tokens=True) as created:
        client = created._engine.client
        assert client.get_collection("smart").config.params.vectors["tokens"].hnsw_config.m == 0
        created.add(ids=names(20), embeddings=documents(20, 1))
        assert len(created.search(documents(2, 3), 5, **PLAIN)[0]) == 5


def test_settings_in_pieces_belong_together(pair, monkeypatch):
    from smart_retrieval.stores.qdrant import engine

    _, exported = pair
    monkeypatch.setattr(engine, "_PIECE", 7)
    kept = exported._engine
    kept.save("x", b"0123456789" * 3)
    assert kept.load("x") == b"0123456789" * 3
    assert kept.load("y") is None
    kept.save("empty", b"")
    assert kept.load("empty") == b""
    key = engine.key_of("x 1")
    (point,) = kept.client.retrieve(kept.settings, [key], with_payload=True)
    kept.client.upsert(
        kept.settings, [models.PointStruct(id=key, vector={}, payload={**point.payload, "stamp": "other"})]
    )
    with pytest.raises(IndexDamagedError, match="different writes"):
        kept.load("x")


def test_a_server_that_is_not_there(make, monkeypatch):
    monkeypatch.setenv("QDRANT_API_KEY", "secret-key")
    with pytest.raises(StoreError, match="cannot be reached") as caught:
        QdrantIndex.open("http://127.0.0.1:9")
    assert "secret-key" not in str(caught.value)
    with pytest.raises(StoreError, match="collection mine: the server cannot be reached"):
        open_index("http://127.0.0.1:9#mine")


def test_a_missing_client_is_named(monkeypatch):
    import sys

    from smart_retrieval.errors import MissingExtraError

    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(MissingExtraError, match=r"smart-retrieval\[qdrant\]"):
        QdrantIndex.open("http://nowhere")


def test_smart_export_qdrant(make, tmp_path):
    index = make(documents(30, 1), codec="float16")
    found = loaded(run("export", "qdrant", tmp_path / "q", index.path, "--tokens", "--json"))
    assert (found["documents"], found["collection"], found["tokens_stored"]) == (30, "smart", True)
    again = run("export", "qdrant", tmp_path / "q", index.path)
    assert again.exit_code == 1
    assert "found one of that name" in str(again.exception)
    assert "30 documents" in run("export", "qdrant", tmp_path / "q", index.path, "--replace").output
    with open_index(tmp_path / "q", index.model) as opened:
        assert len(opened) == 30
