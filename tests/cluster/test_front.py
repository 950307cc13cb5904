"""The front of served shards: the hits of one index, and what it does when a shard is late or gone."""

import asyncio
import shutil
import sys
import time

import httpx
import pytest

from smart_retrieval import SmartIndex

BOOSTED = {"lexical_weight": 3, "feedback": 0.4, "neighbours": 0.3}
QUERIES = ["logs oak", "rotate night cloud", "rain"]


def asking(front, path="/v1/indexes/docs/search", headers=None, method="POST", **body):
    """Status and JSON of one request, passed on as Ray Serve does."""
    from starlette.requests import Request

    async def serve(scope, receive, send):
        await (await front(Request(scope, receive)))(scope, receive, send)

    async def ask():
        transport = httpx.ASGITransport(app=serve)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.request(method, path, json=body or None, headers=headers)
            return answer.status_code, answer.json()

    return asyncio.run(ask())


def ids(found):
    return [hit["id"] for hit in found["hits"]]


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_hits_are_those_of_the_whole_index(fronts, whole, shards):
    front, _ = fronts(shards)
    for options in ({}, {"where": "year > 2003"}, {"exact": True, "weights": "uniform"}, {"lambda_late": 3.0}, BOOSTED):
        for query in QUERIES:
            status, found = asking(front, query=query, k=7, **options)
            expected = whole.search(query, 7, **options)
            assert (status, ids(found), found["partial"]) == (200, [hit.id for hit in expected], False)
            assert found["hits"][0]["score"] == pytest.approx(expected[0].score, abs=1e-5)
    assert asking(front, "/v1/indexes", method="GET") == (
        200,
        {"indexes": [{"name": "docs", "shards": shards, "documents": 120}]},
    )
    assert asking(front, "/readyz", method="GET")[1] == {"status": "ready", "shards": shards}


def test_several_queries_come_as_a_list(fronts, whole):
    front, _ = fronts(2)
    status, found = asking(front, queries=QUERIES, k=3)
    assert status == 200
    assert [ids(one) for one in found["results"]] == [[hit.id for hit in whole.search(q, 3)] for q in QUERIES]


def test_a_late_shard_is_left_out_and_said_so(fronts):
    front, handles = fronts(3)
    asking(front, query="logs")  # what is learnt once

    async def sleep(handle):
        await asyncio.sleep(5)

    handles[1].before = sleep
    started = time.monotonic()
    status, found = asking(front, query="logs oak", deadline_ms=400)
    assert (status, found["partial"]) == (200, True)
    assert time.monotonic() - started < 3
    assert 0 < found["searched"] < 120
    for handle in handles:
        handle.before = sleep
    status, found = asking(front, query="logs oak", deadline_ms=300)
    assert (status, found["error"]["type"]) == (503, "OverloadedError")
    handles[0].before = handles[1].before = handles[2].before = None
    assert asking(front, query="logs oak")[1]["partial"] is False


def test_a_replica_that_dies_is_asked_for_again_from_another(fronts):
    DiedError = sys.modules["ray.exceptions"].RayActorError

    front, handles = fronts(2)

    async def dies_twice(handle):
        if handle.asked <= 2:
            raise DiedError

    handles[0].before = dies_twice
    status, found = asking(front, query="logs oak")
    assert (status, found["partial"], handles[0].asked) == (200, False, 3)

    async def dies(handle):
        raise DiedError

    handles[0].before = dies
    status, found = asking(front, query="logs oak", deadline_ms=300)
    assert (status, found["partial"]) == (200, True)


def test_requests_that_do_not_fit_are_refused_by_name(fronts):
    front, _ = fronts(2)
    for body, status, kind in (
        ({"query": "logs", "where": "year >"}, 400, "FilterError"),
        ({"query": "logs", "rerank": True}, 400, "SmartError"),
        ({"query": "logs", "k": 10_000}, 400, "SmartError"),
        ({"query": "  "}, 400, "EmptyInputError"),
        ({"query": "logs", "nope": 1}, 422, "ValidationError"),
        ({"k": 3}, 422, "ValidationError"),
    ):
        found = asking(front, **body)
        assert (found[0], found[1]["error"]["type"]) == (status, kind), body
    assert asking(front, "/v1/indexes/other/search", query="logs")[0] == 404
    assert asking(front, "/nowhere", method="GET")[0] == 404
    assert asking(front, query="logs", headers={"host": "evil.example"})[0] == 421


def test_tokens_and_tenants(fronts, tmp_path, whole):
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{'r' * 20} read\n{'a' * 20} read a\n")
    tokens.chmod(0o600)
    front, _ = fronts(2, token_file=tokens, tenant_field="team")
    assert asking(front, query="logs")[0] == 401
    everybody = asking(front, query="logs", k=120, headers={"authorization": f"Bearer {'r' * 20}"})[1]
    own = asking(front, query="logs", k=120, headers={"authorization": f"Bearer {'a' * 20}"})[1]
    assert (len(everybody["hits"]), len(own["hits"])) == (120, 60)
    assert {hit["metadata"]["team"] for hit in own["hits"]} == {"a"}
    about = asking(front, "/v1/indexes", method="GET", headers={"authorization": f"Bearer {'a' * 20}"})[1]
    assert "documents" not in about["indexes"][0]


def fresh_shard(place, folder, model):
    """A copy of a shard with one document more."""
    shutil.copytree(place, folder)
    with SmartIndex.open(folder, model) as shard:
        shard.add(["logs oak"], ids=["fresh"])
    return folder


def test_a_shard_is_replaced_where_it_lies(fronts, whole, tmp_path):
    front, _ = fronts(2)
    place = tmp_path / "docs.shards" / "shard-00001"
    assert len(set(ids(asking(front, query="logs", k=130)[1]))) == 120
    new = fresh_shard(place, tmp_path / "new", whole.model)
    place.rename(tmp_path / "old")
    new.rename(place)
    found = asking(front, query="logs oak", k=130)[1]
    assert "fresh" in ids(found)
    assert (len(set(ids(found))), found["partial"]) == (121, False)
    assert asking(front, "/v1/indexes", method="GET")[1]["indexes"][0]["documents"] in (120, 121)  # learnt later


def test_a_link_that_leads_elsewhere_replaces_a_shard(fronts, whole, tmp_path):
    new = tmp_path / "new"
    front, handles = fronts(2)
    place = tmp_path / "docs.shards" / "shard-00001"
    fresh_shard(place, new, whole.model)
    place.rename(tmp_path / "first")
    place.symlink_to(tmp_path / "first")
    assert len(set(ids(asking(front, query="logs oak", k=130)[1]))) == 120
    (tmp_path / "link").symlink_to(new)
    (tmp_path / "link").replace(place)
    asyncio.run(handles[1].replica.check_health())
    assert len(set(ids(asking(front, query="logs oak", k=130)[1]))) == 121


def test_what_does_not_belong_there_is_not_served(fronts, tmp_path, caplog):
    front, _ = fronts(2)
    place, other = (tmp_path / "docs.shards" / f"shard-0000{number}" for number in (1, 0))
    asking(front, query="logs")
    place.rename(tmp_path / "old")
    shutil.copytree(other, place)
    found = asking(front, query="logs oak", k=120)[1]
    assert found["partial"] is True
    assert len(set(ids(found))) == found["searched"] < 120
    assert [record.message for record in caplog.records if "is not served" in record.message] == [
        "what took the place of shard-00001 is not served: found one that differs in shard, expected the same"
    ]
    shutil.rmtree(place)
    (tmp_path / "old").rename(place)
    assert asking(front, query="logs oak", k=120)[1]["partial"] is False
