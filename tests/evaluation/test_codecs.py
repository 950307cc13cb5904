"""The evaluation of codecs, with a model small enough to compute the expected figures."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from test_evaluate import FakeModel, fake, folder  # noqa: F401
from typer.testing import CliRunner

from smart_retrieval import SmartEmbeddings
from smart_retrieval.cli.main import eval_app as app
from smart_retrieval.core.late import late_scores
from smart_retrieval.errors import CodecError, MissingExtraError, SmartError
from smart_retrieval.evaluation import codecs
from smart_retrieval.evaluation.codecs import ALL, Setting, evaluate_codecs, parse_settings, plot_codecs
from smart_retrieval.evaluation.terminal import print_table
from smart_retrieval.index.codec.factory import fit_codec
from smart_retrieval.index.codec.names import SUGGESTED

FEW = "float32,int8,codebook+4x2,anchored,float32/pool2"


@pytest.fixture(autouse=True)
def family(monkeypatch):
    """The fake model is no transformer: codebooks know the ids of the documents alone."""
    plain = FakeModel.__init__

    def init(self, *arguments, **options):
        plain(self, *arguments, **options)
        self.backbone = SimpleNamespace(**vars(self.backbone), family="fake")

    monkeypatch.setattr(FakeModel, "__init__", init)


def test_settings():
    assert [setting.name for setting in parse_settings("all")] == list(ALL)
    assert set(SUGGESTED) < set(ALL)
    assert parse_settings("int8, codebook/pool3,int8") == [
        Setting("int8", "int8"),
        Setting("codebook/pool3", "codebook", 3.0),
    ]


@pytest.mark.parametrize("names", ["", ",", "zip", "int8,zip", "int8/pool0.5", "int8/pool", "pool2"])
def test_unknown_names(names):
    with pytest.raises(CodecError):
        parse_settings(names)


def test_result(folder, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr(codecs, "_BLOCK", 5)
    result = evaluate_codecs(folder, codecs=FEW, model="fake", floor=None)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    rows = {row["name"]: row for row in result["codecs"]}
    assert list(rows) == FEW.split(",")
    assert result["fit"] == {"documents": 6, "seed": 0, "vocabulary": False}
    assert rows["float32"]["share"] == 1
    assert rows["float32"]["ndcg@10"] == result["uncompressed"]["ndcg@10"]
    assert rows["int8"]["share"] == pytest.approx(1, abs=0.05)
    assert [rows[name]["bytes_per_token"] for name in rows] == [24, 6, 3, 2, 24]
    tokens = result["uncompressed"]["tokens_per_document"]
    assert rows["int8"]["token_bytes_per_document"] == 6 * tokens
    assert rows["int8"]["bytes_per_document"] == 6 * tokens + 14  # six numbers of 16 bits and their exponent
    assert rows["float32/pool2"]["tokens_per_document"] < tokens
    print_table(result)
    printed = capsys.readouterr().out
    assert all(name in printed for name in rows)
    assert "100.0%" in printed


def test_codecs_that_need_fitting_see_half_of_the_documents(folder, monkeypatch):  # noqa: F811
    seen = []

    def spy(name, sample, **options):
        batches = list(sample)
        seen.append(sum(len(batch) for batch in batches))
        return fit_codec(name, batches, **options)

    monkeypatch.setattr(codecs, "fit_codec", spy)
    evaluate_codecs(folder, codecs="int8,codebook", model="fake")
    assert seen == [6, 6]


def test_the_seed_determines_the_result(folder):  # noqa: F811
    def figures(seed):
        result = evaluate_codecs(folder, codecs="codebook", model="fake", seed=seed)
        return [{**row, "fit_seconds": 0, "encode_seconds": 0} for row in result["codecs"]]

    assert figures(3) == figures(3)


@pytest.mark.parametrize("name", ["bits2", "codebook+16x1", "anchored+2vq+norm"])
def test_scores_from_codes_equal_scores_of_decoded_vectors(name, monkeypatch):
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 9, 40)
    vectors = rng.normal(size=(lengths.sum(), 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    documents = SmartEmbeddings(
        rng.normal(size=(40, 8)), vectors, np.append(0, lengths.cumsum()), rng.integers(0, 20, lengths.sum())
    )
    queries = SmartEmbeddings(rng.normal(size=(3, 8)), vectors[:7], [0, 4, 4, 7])
    codec = fit_codec(name, documents)
    block = codecs._Coded(codec, documents, codec.encode_documents(documents))
    direct = block.late_scores(queries, None, 0.1)
    monkeypatch.setattr(codecs, "_LONGEST_SCORED", 0)
    np.testing.assert_allclose(direct, block.late_scores(queries, None, 0.1), atol=1e-5)
    uncompressed = late_scores(queries, documents, floor=0.1)
    np.testing.assert_array_equal(np.isneginf(direct), np.isneginf(uncompressed))


def test_plot(folder, tmp_path):  # noqa: F811
    pytest.importorskip("matplotlib")
    run = CliRunner().invoke(
        app,
        ["beir", str(folder), "--model", "fake", "--no-cache", "--codec", FEW, "--plot", str(tmp_path / "a" / "b.png")],
    )
    assert run.exit_code == 0, run.output
    assert (tmp_path / "a" / "b.png").read_bytes().startswith(b"\x89PNG")
    result = evaluate_codecs(folder, codecs="int8", model="fake")
    with pytest.raises(SmartError, match="cannot write"):
        plot_codecs(result, tmp_path / "a.nothing")


def test_plot_needs_matplotlib_and_codecs(folder, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    run = CliRunner().invoke(app, ["beir", str(folder), "--codec", "int8", "--plot", "b.png"])
    assert isinstance(run.exception, MissingExtraError)
    assert not FakeModel.calls
    run = CliRunner().invoke(app, ["beir", str(folder), "--plot", "b.png"])
    assert run.exit_code == 2
