"""Shards served by Ray Serve: the hits of one index, also while replicas are killed."""

import json
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections import Counter

import psutil
import pytest

from smart_retrieval import SmartIndex, SmartModel, split_index
from smart_retrieval.cluster.serving.serve import ServedShards
from smart_retrieval.errors import IndexMismatchError, ServerError
from smart_retrieval.server.settings import ServerSettings

QUERIES = ["logs oak", "rotate night", "cloud rain burn"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, texts, model):
    path = tmp_path_factory.mktemp("served") / "docs.smart"
    with SmartIndex.create(path, SmartModel(model, device="cpu"), codec="float16") as index:
        index.add(texts(120), ids=[f"d{number:03d}" for number in range(120)])
        split_index(index, path.with_name("docs.shards"), 2)
        yield index


@pytest.fixture(scope="module")
def served(whole, model, runner):
    settings = ServerSettings(deadline_ms=3000.0, model=model)
    with ServedShards(whole.path.with_name("docs.shards"), replicas=2, port=0, settings=settings) as opened:
        with urllib.request.urlopen(f"{opened.url}/readyz", timeout=60) as answer:
            assert json.load(answer)["shards"] == 2
        yield opened


def ask(served, **body):
    data = json.dumps(body).encode()
    request = urllib.request.Request(served.search_url, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


def replicas_of(shard):
    titles = {process: (process.info["cmdline"] or [""])[0] for process in psutil.process_iter(["cmdline"])}
    return [one for one, title in titles.items() if title.startswith("ray::ServeReplica:") and f":{shard}" in title]


def under_load(served, seconds, act):
    """What came of the queries of three clients, while something is done to the cluster."""
    answers, stop = Counter(), threading.Event()

    def load():
        while not stop.is_set():
            found = ask(served, query="logs oak")
            answers["failed" if "hits" not in found else "partial" if found["partial"] else "whole"] += 1

    clients = [threading.Thread(target=load) for _ in range(3)]
    for client in clients:
        client.start()
    time.sleep(1)
    act()
    time.sleep(seconds)
    stop.set()
    for client in clients:
        client.join()
    return answers


def test_hits_are_those_of_the_whole_index(served, whole):
    for query in QUERIES:
        found, expected = ask(served, query=query), whole.search(query)
        assert [hit["id"] for hit in found["hits"]] == [hit.id for hit in expected]
        assert found["hits"][0]["score"] == pytest.approx(expected[0].score, abs=1e-5)
        assert found["partial"] is False
    assert ask(served, query="logs", where="year >")["error"]["type"] == "FilterError"


def test_a_killed_replica_costs_no_query(served):
    (first, *others) = replicas_of("shard-00001")
    assert len(others) == 1
    answers = under_load(served, 4, first.kill)
    assert (answers["failed"], answers["partial"]) == (0, 0)
    assert answers["whole"] > 20


def test_without_a_replica_hits_are_partial_until_it_is_back(served):
    def kill_all():
        for replica in replicas_of("shard-00000"):
            replica.kill()

    answers = under_load(served, 3, kill_all)
    assert answers["failed"] == 0
    until = time.monotonic() + 60
    while ask(served, query="logs oak")["partial"] and time.monotonic() < until:
        pass  # a quick restart leaves no gap for a query to fall into: tests/cluster/test_front.py makes one
    assert ask(served, query="logs oak")["partial"] is False


def test_a_shard_is_replaced_under_load(served, whole, tmp_path):
    place = whole.path.with_name("docs.shards") / "shard-00001"
    shutil.copytree(place, tmp_path / "new")
    with SmartIndex.open(tmp_path / "new", whole.model) as shard:
        shard.add(["logs oak"], ids=["fresh"])

    def replace():
        place.rename(tmp_path / "old")
        (tmp_path / "new").rename(place)

    answers = under_load(served, 4, replace)
    assert (answers["failed"], answers["partial"]) == (0, 0)
    # Of either replica.
    assert all("fresh" in [hit["id"] for hit in ask(served, query="logs oak", k=130)["hits"]] for _ in range(10))


def test_what_cannot_be_served_is_named_before_anything_starts(tmp_path, whole):
    with pytest.raises(ServerError, match="found no shards"):
        ServedShards(tmp_path / "gone", port=0)
    split_index(whole, tmp_path / "three.shards", 3)
    (tmp_path / "three.shards" / "shard-00001").rename(tmp_path / "away")
    with pytest.raises(IndexMismatchError, match="missing: 1"):
        ServedShards(tmp_path / "three.shards", port=0)
