"""``smart mcp`` as an agent's program starts it: a process of its own, protocol on stdout and nothing else."""

import asyncio
import json
import os
import shlex
import sys
from pathlib import Path

import pytest
import typer

pytest.importorskip("mcp")
from fixtures.pages_of_docs import blocks
from fixtures.tiny_models import TEXTS
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from typer.testing import CliRunner

from smart_retrieval.cli.main import app
from smart_retrieval.errors import SmartError
from smart_retrieval.index.smart_index import SmartIndex

SOURCE = Path(__file__).parents[3] / "src"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, smart):
    """An index of 17 documents; in half of them the language is German."""
    path = tmp_path_factory.mktemp("mcp") / "sea.smart"
    with SmartIndex.create(path, smart("mean"), codec="float32") as index:
        metadata = [{"lang": ("en", "de")[number % 2]} for number in range(len(TEXTS))]
        index.add(TEXTS, ids=[f"d{number}" for number in range(len(TEXTS))], metadata=metadata)
    return path


def test_an_agent_searches_over_stdio(folder, tmp_path):
    log, wire = tmp_path / "log", tmp_path / "wire"
    server = [sys.executable, "-m", "smart_retrieval", "mcp", folder, "--where", "lang = 'de'"]
    line = f"{shlex.join(map(str, server))} | tee {shlex.quote(str(wire))}"

    async def session():
        with log.open("w") as errors:
            environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
            parameters = StdioServerParameters(command="sh", args=["-c", line], env=environment)
            async with Client(stdio_client(parameters, errlog=errors)) as client:
                names = {tool.name for tool in (await client.list_tools()).tools}
                listed = await client.call_tool("list_indexes", {})
                # longer than the model takes, which is a warning
                found = await client.call_tool("search", {"query": "see " * 500, "k": 50})
                return names, listed.structured_content, found.structured_content

    names, listed, found = asyncio.run(session())
    assert "search" in names
    assert "add" not in names
    assert [(one["name"], one["documents"]) for one in listed["indexes"]] == [("sea", 8)]
    assert {hit["metadata"]["lang"] for hit in found["hits"]} == {"de"}
    assert found["searched"] == 8
    messages = [json.loads(line) for line in wire.read_text().splitlines()]
    assert len(messages) >= 3
    assert all(message["jsonrpc"] == "2.0" for message in messages)
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{folder}/none.smart"], "found no index"),
        (["{folder}", "sea={folder}"], "found two of this name"),
        (["{folder}", "--where", "lang = "], "expected a value"),
    ],
)
def test_what_cannot_be_served_is_a_named_error(folder, arguments, said):
    outcome = CliRunner().invoke(app, ["mcp", *(one.format(folder=folder) for one in arguments)])
    assert isinstance(outcome.exception, SmartError)
    assert said in str(outcome.exception)
    assert outcome.stdout == ""


def test_a_filter_does_not_go_with_writing(folder):
    outcome = CliRunner().invoke(app, ["mcp", str(folder), "--where", "lang = 'de'", "--write"])
    assert outcome.exit_code == 2
    assert "--write and --where" in outcome.stderr
    assert outcome.stdout == ""


def test_the_guide_configures_programs_with_a_command_that_exists():
    guide = (Path(__file__).parents[3] / "docs" / "guides" / "agents.md").read_text(encoding="utf-8")
    servers = [next(iter(json.loads(block).values()))["docs"] for block in blocks(guide, "json")]
    assert len(servers) == 3
    for server in servers:
        if server.get("type") == "http":
            assert server["url"].endswith(":8000/mcp")
            continue
        assert server["command"] == "smart"
        command = typer.main.get_command(app).commands[server["args"][0]]
        assert command.make_context("mcp", server["args"][1:]).params["indexes"] == ["/path/to/docs.smart"]
