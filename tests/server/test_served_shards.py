"""An index in shards is served as the whole one is: hits, tenants, writes, tools, page; what shards refuse is named."""

from __future__ import annotations

import asyncio
import shutil

import pytest
from fixtures.callers import ACME, ADMIN, BETA, FIELD
from fixtures.hostile_requests import SECRET
from fixtures.pictures import write_pdf
from fixtures.tiny_models import TEXTS
from starlette.testclient import TestClient
from typer.testing import CliRunner

from smart_retrieval.errors import DuplicateIdError, IndexMismatchError, NotAllowedError, SmartError, UnknownIdError
from smart_retrieval.index.shards.sharded_index import ShardedIndex
from smart_retrieval.index.shards.split import shard_folders, split_index
from smart_retrieval.index.smart_index import SmartIndex
from smart_retrieval.server import ServerSettings, Service, create_app
from smart_retrieval.server.requests import NewDocument, Query

SEA = Query("the otter swims in the sea")
SEARCH = "/v1/indexes/sea/search"
OPTIONS = [
    {}, {"where": "number > 3"}, {"exact": True, "weights": "uniform", "floor": None}, {"kinds": ["text"]},
    {"lexical_weight": 3.0}, {"feedback": 0.3}, {"neighbours": 0.2},
]  # fmt: skip


@pytest.fixture
def shards(folder, tmp_path):
    """The index ``sea`` in three shards; the whole one lies beside it."""
    with SmartIndex.open(folder) as index:
        split_index(index, tmp_path / "parts" / "sea", 3)
    return tmp_path / "parts" / "sea"


def serving(work, *paths, **settings):
    async def run():
        async with Service(paths, ServerSettings(**settings)) as service:
            return await work(service)

    return asyncio.run(run())


def web(*paths, **settings):
    app = create_app(list(paths), ServerSettings(**settings))
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


def flat(hits):
    return [(hit.id, pytest.approx(hit.score)) for hit in hits]


@pytest.mark.parametrize("options", OPTIONS)
def test_hits_are_those_of_the_shards_and_what_they_refuse_is_refused_by_name(folder, shards, options):
    own = {name: value for name, value in options.items() if name != "kinds"}
    refused, wanted = "", None
    with ShardedIndex.open(shards, mode="r") as index, SmartIndex.open(folder) as whole:
        try:
            index.search(SEA.text, 8, **own)
        except SmartError as error:
            refused = str(error)
        else:
            wanted = flat(whole.search(SEA.text, 8, **own))
    with web(shards) as client:
        answer = client.post(SEARCH, json={"query": SEA.text, "k": 8, **options})
    if refused:
        assert next(iter(options)) in refused
        assert answer.status_code == 400
        assert answer.json()["error"]["message"] == refused
    else:
        assert [(hit["id"], hit["score"]) for hit in answer.json()["hits"]] == wanted


def test_documents_are_read_as_those_of_the_whole(folder, shards):
    async def read(service):
        listed, more = await service.select(ADMIN, "sea", "number >= 2", k=5)
        following, _ = await service.select(ADMIN, "sea", after=more, k=100)
        info = await service.info(ADMIN, "sea")
        ids = ["d9", "d1", "d9", "d16"]
        why = await service.explain(ADMIN, "sea", SEA, "d1")
        scores = await service.rerank(ADMIN, "sea", SEA, ids=ids)
        texts = await service.rerank(ADMIN, "sea", SEA, texts=TEXTS[:3])
        got = [(one.id, one.text, one.metadata) for one in await service.get(ADMIN, "sea", ids)]
        return (
            [one.id for one in (*listed, *following)], more, (info.documents, info.fields, info.kinds), got,
            [round(float(score), 5) for score in (*scores, *texts, why.score)],
        )  # fmt: skip

    assert serving(read, shards) == serving(read, folder)

    async def parts(service):
        return (await service.info(ADMIN, "sea")).shards

    assert (serving(parts, shards), serving(parts, folder)) == (3, 1)


def test_tenants_meet_and_write_only_their_own(shards):
    async def work(service):
        own = {f"d{number}" for number in range(0, 17, 2)}
        assert {hit.id for hit in await service.search(ACME, "sea", SEA, 100)} == own
        assert (await service.info(ACME, "sea")).documents == 9
        for call in (
            lambda: service.explain(ACME, "sea", SEA, "d1"),
            lambda: service.get(ACME, "sea", ["d0", "d1"]),
            lambda: service.rerank(ACME, "sea", SEA, ids=["d1"]),
            lambda: service.delete(ACME, "sea", ["d0", "d1"]),
        ):
            with pytest.raises(UnknownIdError, match="found no document 'd1'"):
                await call()
        assert await service.add(ACME, "sea", [NewDocument(f"note {n}", f"d{n}") for n in (1, 3, 5)])
        assert await service.upsert(ACME, "sea", [NewDocument("moon", "d0"), NewDocument("oil", "d3")])
        with pytest.raises(DuplicateIdError, match="'d1' is there"):
            await service.add(ACME, "sea", [NewDocument("again", "d1")])
        with pytest.raises(NotAllowedError, match="shared"):
            await service.upsert(ACME, "sea", [NewDocument("x", "d16")])
        with pytest.raises(NotAllowedError, match="shared"):
            await service.delete(ACME, "sea", ["d0", "d16"])
        texts = [one.text for one in await service.get(ACME, "sea", ["d0", "d1", "d3", "d5"])]
        assert texts == ["moon", "note 1", "oil", "note 5"]
        assert [one.text for one in await service.get(BETA, "sea", ["d1", "d3"])] == [TEXTS[1], TEXTS[3]]
        assert await service.delete(ACME, "sea", ["d0", "d1"]) == 2
        assert await service.delete(ACME, "sea", where="id exists") == 7 + 2
        assert [one.id for one in (await service.select(ACME, "sea"))[0]] == ["d16"]
        assert (await service.info(BETA, "sea")).documents == 9
        job = await service.add(ADMIN, "sea", [NewDocument(f"otter {n}", f"n{n}") for n in range(30)])
        while job.state in ("queued", "running"):
            await asyncio.sleep(0.05)
            job = service.job(ADMIN, job.id)
        assert (job.state, job.error) == ("done", None)
        assert (await service.info(ADMIN, "sea")).documents == 9 + 30

    serving(work, shards, sync_documents=10)
    places = shard_folders(shards)
    counts = []
    for place in places:
        with SmartIndex.open(place) as shard:
            counts.append(len(shard))
            assert shard.verify().ok
    assert sum(counts) == 39
    assert all(counts)


def test_a_delete_that_is_refused_deletes_nothing_in_any_shard(shards):
    async def work(service):
        with pytest.raises(UnknownIdError):
            await service.delete(ADMIN, "sea", [*(f"d{n}" for n in range(17)), "nothing"])
        assert (await service.info(ADMIN, "sea")).documents == 17
        assert await service.delete(ADMIN, "sea", ["d1", "d2", "d1"]) == 2
        return (await service.info(ADMIN, "sea")).documents

    assert serving(work, shards) == 15


def test_the_page_searches_and_explains_them(shards):
    with web(shards) as client:
        found = client.get("/", params={"q": SEA.text, "k": 20})
        assert found.status_code == 200
        assert "17 hits in 17 documents" in found.text
        assert 'class="w' in found.text or "<mark" in found.text
        why = client.get("/why", params={"q": SEA.text, "id": "d0"})
        assert why.status_code == 200
        assert "otter" in why.text
        assert str(shards) not in found.text + why.text
        assert client.get("/why", params={"q": SEA.text, "id": "d0", "index": "other"}).status_code == 404


def test_agents_search_them(shards):
    pytest.importorskip("mcp")
    from mcp.client import Client

    from smart_retrieval.server.mcp import create_mcp

    async def work(service):
        async with Client(create_mcp(service, lambda request: ACME)) as client:
            found = (await client.call_tool("search", {"query": SEA.text, "k": 3})).structured_content
            listed = (await client.call_tool("list_indexes", {})).structured_content
            hidden = await client.call_tool("get", {"ids": ["d1"]})
        assert len(found["hits"]) == 3
        assert (listed["indexes"][0]["documents"], listed["indexes"][0]["shards"]) == (9, 3)
        assert hidden.is_error

    serving(work, shards)


def test_a_page_is_drawn_whichever_shard_knows_its_file(tmp_path, smart):
    (tmp_path / "files").mkdir()
    for number in range(6):
        write_pdf(tmp_path / "files" / f"{number}.pdf", 1)
    path = tmp_path / "pdfs.smart"
    with SmartIndex.create(path, smart("mean"), codec="float32") as index:
        index.index_folder(tmp_path / "files")
        split_index(index, tmp_path / "pdfs", 4)

    async def work(service):
        documents, _ = await service.select(ADMIN, "pdfs")
        assert len(documents) == 6
        for document in documents:
            _, shown = await service.explain_with_pictures(ADMIN, "pdfs", Query("otters"), document.id)
            assert shown.pictures, (document.id, shown.note)

    serving(work, tmp_path / "pdfs")


def test_readiness_and_another_in_their_place(folder, shards, tmp_path):
    with web(shards) as client:
        assert client.post(SEARCH, json={"query": "otter"}).json()["searched"] == 17
        moved = shards.with_name("moved")
        shards.rename(moved)
        assert client.get("/readyz").status_code == 503
        with SmartIndex.open(folder) as whole:
            whole.add([f"otter {SECRET}"], ids=["new"], metadata=[{FIELD: "beta"}])
            split_index(whole, shards, 2)
        assert client.post(SEARCH, json={"query": "otter"}).json()["searched"] == 18
        assert client.get("/v1/indexes/sea").json()["shards"] == 2
        shutil.rmtree(shards)
        shutil.copytree(folder, shards)
        assert client.get("/v1/indexes/sea").json()["shards"] == 1


@pytest.mark.parametrize("command", ["serve", "mcp"])
def test_a_missing_shard_is_named_at_once(shards, command):
    from smart_retrieval.cli.main import app

    shutil.rmtree(shard_folders(shards)[1])
    outcome = CliRunner().invoke(app, [command, str(shards)])
    error = outcome.exception
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, IndexMismatchError)
    assert "all 3 shards" in str(error)
