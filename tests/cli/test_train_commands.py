"""``smart train``, ``smart convert`` and ``smart export`` as a user runs them."""

import json

import pytest
import torch
from fixtures.tiny_models import HIDDEN
from fixtures.training import texts, write_jsonl
from typer.testing import CliRunner

from smart_retrieval import SmartModel
from smart_retrieval.cli.main import app
from smart_retrieval.errors import SmartError


def run(*arguments, ok=True):
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=True)
    if ok:
        assert result.exit_code == 0, (result.output, result.exception)
    return result


@pytest.fixture
def pairs(tmp_path):
    return write_jsonl(tmp_path / "pairs.jsonl", [{"query": q, "positive": d} for q, d in texts(40)])


def test_an_adapter_from_pairs_to_search(tiny, pairs, tmp_path):
    common = (
        "train",
        "adapter",
        "--model",
        tiny("prompts"),
        "--data",
        pairs,
        "--out",
        tmp_path / "a",
        "--device",
        "cpu",
    )
    dry = run(*common, "--dry-run", "--batch-size", 8).stdout
    assert "training: 36 queries" in dry
    assert "query: [CLS] query :" in dry
    assert not (tmp_path / "a").exists()
    out = run(*common, "--width", 8, "--batch-size", 8, "--layers=-1,-2", "--mine-negatives", 2, "--json").stdout
    result = json.loads(out[out.index("{") :])
    assert set(result["after"]) == {"anchor", "late", "hybrid", "lambda_late"}
    model = SmartModel(tmp_path / "a", device="cpu")
    assert (model.token_dim, model.readout.layers) == (8, (-1, -2))
    again = run(*common, ok=False)
    assert isinstance(again.exception, SmartError)


def test_finetuning(tiny, pairs, tmp_path):
    for module in ("accelerate", "datasets", "peft"):
        pytest.importorskip(module)
    common = ("train", "finetune", "--model", tiny("mean"), "--data", pairs, "--out", tmp_path / "m", "--device", "cpu")
    out = run(*common, "--lora-rank", 2, "--batch-size", 16, "--max-steps", 2, "--objective", "late").stdout
    assert "trained" in out
    assert SmartModel(tmp_path / "m", device="cpu").token_dim == HIDDEN


def test_conversion_and_export(tiny, tmp_path):
    from sentence_transformers import MultiVectorEncoder

    module = {
        "proj.0.weight": torch.ones(HIDDEN),
        "proj.0.bias": torch.zeros(HIDDEN),
        "proj.1.weight": torch.randn(4, HIDDEN),
    }
    torch.save(
        {"token_projection_module": module, "use_last_n_layers": 1, "anchor_dim": HIDDEN}, tmp_path / "adapter.pt"
    )
    common = ("convert", "official", tmp_path / "adapter.pt", "--model", tiny("mean"), "--device", "cpu")
    run(*common, "--out", tmp_path / "a")
    assert SmartModel(tmp_path / "a", device="cpu").token_dim == 4
    run("export", "st", tmp_path / "a", tmp_path / "st", "--device", "cpu")
    assert MultiVectorEncoder(str(tmp_path / "st"), device="cpu").encode_query(["the otter"])[0].shape[1] == 4
    torch.save({"token_projection_module": module, "anchor_dim": 7}, tmp_path / "adapter.pt")
    assert "7 dimensions" in str(run(*common, "--out", tmp_path / "b", ok=False).exception)


@pytest.mark.parametrize("command", ["adapter", "finetune"])
def test_bad_options(command, tiny, pairs, tmp_path):
    common = ("train", command, "--model", tiny("mean"), "--data", pairs, "--out", tmp_path / "a", "--device", "cpu")
    assert "expected one of" in str(run(*common, "--objective", "best", ok=False).exception)
    assert run(*common, "--layers", "last", ok=False).exit_code == 2
    missing = ("train", command, "--model", tiny("mean"), "--data", tmp_path / "no such", "--out", tmp_path / "a")
    refused = run(*missing, ok=False)
    assert refused.exit_code == 2
    assert "no such" in refused.output
