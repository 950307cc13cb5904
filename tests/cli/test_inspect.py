"""``smart inspect`` on tiny checkpoints."""

import json

from typer.testing import CliRunner

from smart_retrieval import SmartModel
from smart_retrieval.cli.main import app
from smart_retrieval.core.adapter import Adapter, AdapterConfig


def inspect(*arguments):
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)])


def test_json_has_what_the_issue_of_a_model_needs(tiny):
    result = inspect(tiny("prompts"), "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["smart"]["applies"] is True
    assert found["pooling"] == "mean"
    assert (found["anchor_dim"], found["token_dim"]) == (32, 32)
    assert found["hidden_states"] >= 3
    assert found["max_length"]
    assert found["compute"]["name"] in ("float32", "bfloat16")
    assert found["compute"]["reason"]
    assert found["max_seconds"] is None
    assert "[CLS]" in found["special_tokens"]
    assert found["prompts"] == {"query": "query: ", "document": "passage: "}
    roles = [entry["role"] for entry in found["rendered"]["query"]]
    assert roles[0] == roles[-1] == "special"
    assert "prompt" in roles
    assert "text" in roles
    assert found["bytes"]["anchor"] == 4 * 32
    assert found["bytes"]["longest_document"] == found["max_length"] * 4 * 32


def test_the_table_shows_the_rendered_prompt(tiny):
    result = inspect(tiny("prompts"))
    assert result.exit_code == 0
    assert "query(prompt)" in result.stdout
    assert "documents computed in" in result.stdout
    assert "yes: every token" in " ".join(result.stdout.split())


def test_chat_template_tokens_are_marked(tiny):
    found = json.loads(inspect(tiny("chat"), "--json").stdout)
    assert found["template_tokens"]


def test_a_model_without_token_states_is_described_and_fails(tiny):
    result = inspect(tiny("static"))
    assert result.exit_code == 1
    assert "no: " in result.stdout
    assert "StaticEmbedding" in result.stdout


def test_an_adapter_is_described_with_the_model_that_it_names(tiny, tmp_path):
    for kind, width in (("linear", 12), ("mlp", 8)):
        adapter = Adapter(AdapterConfig(32, width, kind=kind, inner=16))
        SmartModel(tiny("mean"), device="cpu", preset="paper").with_adapter(adapter).save_adapter(tmp_path / kind)
        found = json.loads(inspect(tmp_path / kind, "--json").stdout)
        assert (found["adapter"]["kind"], found["token_dim"], found["layers"]) == (kind, width, [-1])
        assert (found["anchor_dim"], found["bytes"]["token_vector"]) == (32, 4 * width)
        shown = " ".join(inspect(tmp_path / kind).stdout.split())
        assert f"{width} dimensions, by an adapter of the kind {kind} over layer -1" in shown


def test_a_multi_vector_model_is_described_and_fails_as_others_do(tiny):
    result = inspect(tiny("multi-vector"))
    assert (result.exit_code, "no: " in result.stdout) == (1, True)
    assert "MultiVectorEncoder" in result.stdout
