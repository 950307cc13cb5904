"""Searches that wait are made together, where they are the same for everything but the query."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from fixtures.callers import ACME, ADMIN, BETA, READER
from fixtures.tiny_models import TEXTS

from smart_retrieval import threads
from smart_retrieval.errors import SmartError
from smart_retrieval.index.smart_index import SmartIndex
from smart_retrieval.inputs import Item
from smart_retrieval.server.work.catalog import Catalog
from smart_retrieval.server.work.searching import Asked, SearchEach


@pytest.fixture
def catalog(folder):
    catalog = Catalog({"sea": folder}, read_only=True, model=None, idle_s=100)
    yield catalog
    catalog.close()


@pytest.fixture
def asked(catalog):
    with catalog.use("sea") as index:
        return [Asked(index.encoder.encoded(Item(text)), time.perf_counter() + 100) for text in TEXTS]


def search_of(catalog: Catalog, **changes: object) -> SearchEach:
    each = SearchEach(catalog, "sea", ADMIN, 5, {"where": None}, False, None, lambda queries: False)
    return replace(each, **changes)


def test_only_the_same_searches_are_equal(catalog):
    one = search_of(catalog)
    assert one == search_of(catalog, busy=lambda queries: True)
    others = [
        {"caller": READER}, {"caller": ACME}, {"k": 6}, {"index": "land"}, {"options": {"where": "number > 3"}},
        {"options": {"where": None, "feedback": 0.1}}, {"thumbnails": True}, {"deadline_ms": 5.0},
    ]  # fmt: skip
    assert all(one != search_of(catalog, **changes) for changes in others)
    assert search_of(catalog, caller=ACME) != search_of(catalog, caller=BETA)


@pytest.mark.parametrize("busy", [False, True])
def test_hits_are_those_of_each_alone(catalog, asked, busy, monkeypatch):
    inside = []
    original = SmartIndex.search

    def search(*args, **options):
        inside.append(threads.thread_count())
        return original(*args, **options)

    monkeypatch.setattr(SmartIndex, "search", search)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = [*search_of(catalog, busy=lambda queries: busy)(asked)]
    assert inside == [1 if busy else 3]
    assert [place for place, _ in found] == [*range(len(asked))]
    with catalog.use("sea") as index:
        for (_, hits), one in zip(found, asked, strict=True):
            assert [(hit.id, hit.score) for hit in hits] == [(hit.id, hit.score) for hit in index.search(one.query, 5)]


@pytest.mark.parametrize("error", [SmartError, ValueError])
def test_one_that_fails_does_not_fail_the_others(catalog, asked, monkeypatch, error):
    original = SmartIndex.search

    def search(self, queries, *args, **options):
        if any(query.text == TEXTS[1] for query in queries):
            raise error("not this one")
        return original(self, queries, *args, **options)

    monkeypatch.setattr(SmartIndex, "search", search)
    found = dict(search_of(catalog)(asked))
    assert str(found.pop(1)) == "not this one"
    assert len(found) == len(asked) - 1
    assert all(len(hits) == 5 for hits in found.values())
    with pytest.raises(error, match="not this one"):
        [*search_of(catalog)(asked[1:2])]


def test_explanations_are_of_the_first_hits(catalog, asked):
    hits, why = search_of(catalog, options={"where": None, "lambda_late": 0.5}).explained(asked[0], 2)
    assert len(hits) == 5
    assert [one.id for one in why] == [hit.id for hit in hits[:2]]
    assert why[0].score == pytest.approx(hits[0].score, abs=1e-6)
