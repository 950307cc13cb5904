"""Tools of an agent: in memory and over HTTP, what they give, whom they show it, what they refuse."""

import asyncio
import base64
import json
import re
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import pytest

pytest.importorskip("mcp")
import httpx2
from fixtures.callers import ADMIN, FIELD, READER
from fixtures.pictures import picture, visual_model
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from smart_retrieval.index.search.hits import Hit, Hits
from smart_retrieval.index.smart_index import SmartIndex
from smart_retrieval.index.store.pictures import Media
from smart_retrieval.server import ServerSettings, Service, create_app
from smart_retrieval.server.mcp import create_mcp

URL = "http://127.0.0.1:8000"
READING = {"search", "get", "list_documents", "list_indexes", "explain"}


def asking(work, *paths, caller=ADMIN, write=False, **settings):
    """The result of ``work(client)``, of a client in memory."""

    async def run():
        async with (
            Service(paths, ServerSettings(**settings)) as service,
            Client(create_mcp(service, lambda request: caller, write=write)) as client,
        ):
            return await work(client)

    return asyncio.run(run())


async def call(client, tool, **arguments):
    """What a tool gives."""
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer.content
    return answer.structured_content


async def refused(client, tool, **arguments):
    """What a tool says that it does not do."""
    answer = await client.call_tool(tool, arguments)
    assert answer.is_error, answer.structured_content
    return answer.content[0].text


def test_tools_only_read_unless_told(folder):
    async def names(client):
        tools = (await client.list_tools()).tools
        assert all(tool.output_schema and tool.description for tool in tools)
        return {tool.name: tool.annotations.read_only_hint for tool in tools}

    assert asking(names, folder) == dict.fromkeys(READING, True)
    assert asking(names, folder, write=True) == dict.fromkeys(READING, True) | {"add": False, "delete": False}


def test_the_guide_names_the_tools(folder):
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "agents.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", guide, re.MULTILINE)

    async def names(client):
        return {tool.name for tool in (await client.list_tools()).tools}

    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == asking(names, folder, write=True)


def test_a_search_gives_what_the_index_gives(folder):
    with SmartIndex.open(folder) as index:
        wanted = index.search("the otter swims", 3, where="number > 3", lexical_weight=3.0)

    async def work(client):
        found = await call(client, "search", query="the otter swims", k=3, where="number > 3", lexical=True)
        hits = found["hits"]
        assert [(hit["id"], hit["score"], hit["lexical"]) for hit in hits] == [
            (hit.id, hit.score, hit.lexical) for hit in wanted
        ]
        assert (found["index"], found["searched"], found["partial"]) == ("sea", wanted.searched, False)
        assert hits[0]["metadata"] == wanted[0].metadata
        assert not hits[0]["truncated"]
        cut = (await call(client, "search", query="the otter swims", k=1, characters=3))["hits"][0]
        assert (len(cut["text"]), cut["truncated"]) == (3, True)
        whole = (await call(client, "get", ids=[cut["id"]]))["documents"][0]
        assert len(whole["text"]) > 3
        why = await call(client, "explain", query="the otter swims", id=hits[0]["id"])
        assert why["id"] == hits[0]["id"]
        assert sum(match["contribution"] for match in why["matches"]) == pytest.approx(why["late"], abs=1e-5)

    asking(work, folder)


def test_kinds_are_found_behind_others(folder, monkeypatch):
    pages = {number: Media("page", 6, 8) for number in (0, 30, 60)}
    many = [Hit(f"d{number}", 100.0 - number, 1.0, 0.0, media=pages.get(number)) for number in range(80)]
    asked = []

    async def search(self, caller, index, query, k=10, options=None):
        asked.append(k)
        return Hits(tuple(many[:k]), 80, 80)

    monkeypatch.setattr(Service, "search", search)

    async def work(client):
        found = await call(client, "search", query="a picture", k=2, kind="page")
        assert [hit["id"] for hit in found["hits"]] == ["d0", "d30"]
        assert len((await call(client, "search", query="a picture", k=5, kind="page"))["hits"]) == 3
        assert (await call(client, "search", query="a picture", k=1, kind="video"))["hits"] == []

    asking(work, folder)
    assert max(asked) < 400


def test_documents_are_listed_to_the_end(folder):
    async def work(client):
        ids, after = [], ""
        while after is not None:
            found = await call(client, "list_documents", where="number < 12", k=5, after=after)
            ids += [document["id"] for document in found["documents"]]
            after = found["after"]
        assert sorted(ids) == sorted(f"d{number}" for number in range(12))
        assert (await call(client, "list_documents", where="number > 99"))["documents"] == []

    asking(work, folder)


def test_several_indexes_are_chosen_by_name(folder, tmp_path, smart):
    with SmartIndex.create(tmp_path / "guide.smart", smart("mean"), codec="float32") as index:
        index.add(["many a mouse"], ids=["mouse"], metadata=[{"lang": "en"}])

    async def work(client):
        listed = (await call(client, "list_indexes"))["indexes"]
        assert {one["name"]: one["documents"] for one in listed} == {"sea": 17, "guide": 1}
        assert next(one for one in listed if one["name"] == "guide")["fields"] == {"lang": ["text"]}
        assert "expected one of sea, guide" in await refused(client, "search", query="mouse")
        found = await call(client, "search", query="mouse", index="guide")
        assert [hit["id"] for hit in found["hits"]] == ["mouse"]
        assert str(tmp_path) not in await refused(client, "search", query="mouse", index="else")

    asking(work, folder, tmp_path / "guide.smart")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"query": "x", "k": 0}, "greater than or equal to 1"),
        ({"query": "x", "k": 5000}, "less than or equal to 100"),
        ({"query": ""}, "neither words nor a picture"),
        ({"query": " "}, "neither words nor a picture"),
        ({"query": "x", "where": "number = 1) or (id exists"}, "expected 'and', 'or' or the end"),
        ({"query": "x", "kind": "sound"}, "'text', 'image', 'page', 'video' or 'audio'"),
        ({"query": ["x"]}, "valid string"),
    ],
)
def test_what_cannot_be_done_is_told_to_the_model(folder, arguments, said):
    assert said in asking(lambda client: refused(client, "search", **arguments), folder)


def test_errors_show_no_path(folder, monkeypatch):
    async def broken(self, *args, **options):
        raise OSError(f"{folder}: disk on fire")

    monkeypatch.setattr(Service, "search", broken)
    said = asking(lambda client: refused(client, "search", query="x"), folder)
    assert "fire" not in said
    assert str(folder) not in said


def test_resources_give_documents_and_what_an_index_holds(folder):
    odd = "guide/logs.md#3 ä?.."
    with SmartIndex.open(folder) as index:
        index.add(["first come first"], ids=[odd], metadata=[{}])

    async def work(client):
        templates = (await client.list_resource_templates()).resource_templates
        assert [one.uri_template for one in templates] == ["smart://{index}", "smart://{index}/{+id}"]
        info = (await client.read_resource("smart://sea")).contents[0]
        assert json.loads(info.text)["documents"] == 18
        for written in (quote(odd), quote(odd, safe="")):
            assert (await client.read_resource(f"smart://sea/{written}")).contents[0].text == "first come first"
        for absent in ("smart://sea/nothing", "smart://else/d0", "smart://sea/../../etc/passwd"):
            with pytest.raises(MCPError, match=r"found no document|expected one of|Unknown resource"):
                await client.read_resource(absent)

    asking(work, folder)


def test_writing_takes_a_role_and_the_tools(folder):
    async def write(client):
        done = await call(client, "add", documents=[{"text": "warm bread", "id": "new", "metadata": {"number": 99}}])
        assert done["ids"] == ["new"]
        assert "is there already" in await refused(client, "add", documents=[{"text": "cold bread", "id": "new"}])
        await call(client, "add", documents=[{"text": "cold bread", "id": "new"}], replace=True)
        assert (await call(client, "get", ids=["new"]))["documents"][0]["text"] == "cold bread"
        assert "found no document" in await refused(client, "delete", ids=["new", "nothing"])
        assert (await call(client, "delete", ids=["new"]))["deleted"] == 1

    asking(write, folder, write=True)

    async def only_reads(client):
        assert "only reads" in await refused(client, "add", documents=[{"text": "x"}])
        assert "only reads" in await refused(client, "delete", ids=["d0"])

    asking(only_reads, folder, write=True, caller=READER)
    asking(only_reads, folder, write=True, read_only=True)

    async def no_tool(client):
        assert "add" in await refused(client, "add", documents=[{"text": "x"}])

    asking(no_tool, folder)


def test_pictures_are_searched_for(tmp_path, folder):
    pytest.importorskip("PIL.Image")
    model = visual_model(tmp_path / "model")
    with SmartIndex.create(tmp_path / "art.smart", model, codec="float32") as index:
        index.add([picture(1), picture(2)], ids=["one", "two"])
        wanted = [(hit.id, hit.score) for hit in index.search(picture(2), 2)]
        both = [(hit.id, hit.score) for hit in index.search({"text": "squares", "image": picture(2)}, 2)]
    file = BytesIO()
    picture(2).save(file, "PNG")
    image = base64.b64encode(file.getvalue()).decode()

    async def work(client):
        found = await call(client, "search", image=image)
        assert [(hit["id"], hit["score"]) for hit in found["hits"]] == wanted
        found = await call(client, "search", query="squares", image=f"data:image/png;base64,{image}")
        assert [(hit["id"], hit["score"]) for hit in found["hits"]] == both
        assert (await call(client, "explain", image=image, id="two"))["id"] == "two"
        for wrong in ("/etc/passwd", "http://127.0.0.1:1/a.png", "AAAA", ""):
            assert "picture" in await refused(client, "search", image=wrong)
        assert "neither words nor a picture" in await refused(client, "search", query=" ")

    asking(work, tmp_path / "art.smart")

    async def too_large(client):
        assert "expected at most 100" in await refused(client, "search", image=image)

    asking(too_large, tmp_path / "art.smart", max_body=100)

    async def no_pictures(client):
        assert "text" in await refused(client, "search", image=image)

    asking(no_pictures, folder)


@pytest.fixture
def app(folder, tmp_path):
    """The HTTP application, with a token for each of two tenants."""
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{'a' * 16} write acme\n{'b' * 16} read beta\n")
    tokens.chmod(0o600)
    return create_app([folder], ServerSettings(token_file=tokens, tenant_field=FIELD, allowed_hosts=("wiki.example",)))


def over_http(app, work, **headers):
    """The result of ``work(http)``, an HTTP client of the running application."""

    async def run():
        transport = httpx2.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, headers=headers, base_url=URL) as http,
        ):
            return await work(http)

    return asyncio.run(run())


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_over_http_each_request_has_its_own_caller(app, mode):
    """With clients of the newest protocol, and of the one that begins with a handshake."""

    async def teams(client):
        found = await call(client, "search", query="the otter", k=50, where="number exists or id exists")
        listed = await call(client, "list_documents", k=100)
        assert len(found["hits"]) >= 8
        seen = [document["metadata"][FIELD] for document in found["hits"] + listed["documents"]]
        return {team for team in seen if isinstance(team, str)}

    async def work(http):
        async with Client(streamable_http_client(f"{URL}/mcp", http_client=http), mode=mode) as client:
            assert {tool.name for tool in (await client.list_tools()).tools} == READING
            assert await teams(client) == {"acme"}
            assert (await call(client, "list_indexes"))["indexes"][0]["documents"] == 9
            assert "found no document 'd1'" in await refused(client, "get", ids=["d1"])
            assert "found no document 'd1'" in await refused(client, "explain", query="x", id="d1")
            with pytest.raises(MCPError):
                await client.read_resource("smart://sea/d1")
            http.headers["authorization"] = f"Bearer {'b' * 16}"
            assert await teams(client) == {"beta"}
            http.headers["authorization"] = "Bearer nobody"
            with pytest.raises(MCPError):
                await client.call_tool("search", {"query": "x"})
            http.headers["authorization"] = f"Bearer {'b' * 16}"

    over_http(app, work, authorization=f"Bearer {'a' * 16}")


def test_over_http_tokens_hosts_and_sizes_are_checked(app):
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}

    async def work(http):
        token = {"authorization": f"Bearer {'a' * 16}"}
        answers = [
            await http.post("/mcp", json=message),
            await http.post("/mcp/", json=message, headers={"authorization": "Bearer wrong"}),
            await http.post("/mcp", json=message, headers={**token, "host": "evil.example"}),
            await http.post("/mcp", json=message, headers={**token, "origin": "http://evil.example"}),
            await http.post("/mcp", content=b"x", headers={**token, "content-length": "99999999999"}),
        ]
        assert answers[0].headers["www-authenticate"] == "Bearer"
        assert [answer.status_code for answer in answers] == [401, 401, 421, 403, 413]
        accept = {**token, "accept": "application/json, text/event-stream", "host": "wiki.example"}
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        for path in ("/mcp", "/mcp/"):
            asked = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
            answer = await http.post(path, json=asked, headers=accept)
            assert answer.status_code == 200
            assert "mcp-session-id" not in answer.headers  # of which other workers would know nothing

    over_http(app, work)


def test_nobody_is_shown_nothing(folder):
    said = asking(lambda client: refused(client, "search", query="x"), folder, caller=None)
    assert "found nobody who asks" in said


def test_a_stream_to_listen_to_is_refused_at_once(app):
    async def listen(http):
        known = {"Authorization": "Bearer " + "a" * 16, "Accept": "text/event-stream"}
        assert (await http.get("/mcp", headers=known)).status_code == 405
        assert (await http.delete("/mcp/", headers=known)).status_code == 405
        assert (await http.get("/mcp")).status_code == 401

    over_http(app, listen)
