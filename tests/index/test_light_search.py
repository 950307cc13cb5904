"""An index searches and explains without its model where that was exported."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.tiny_models import TEXTS

from smart_retrieval import SmartIndex, SmartModel
from smart_retrieval.cli.main import app
from smart_retrieval.errors import IndexMismatchError

QUERY = "otters in the river"


@pytest.fixture
def index_path(tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SMART_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SMART_LIGHT")
    path = tmp_path / "index"
    with SmartIndex.create(path, str(tiny("prompts"))) as index:
        index.add(TEXTS)
        done = index.encoder.export()
        assert done is not None
        assert done[0]
        assert index.encoder.export() is None
    return path


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr("smart_retrieval.index.encoder.load_model", refuse)


def found(index: SmartIndex) -> tuple[list[tuple[str, float]], dict[str, Any]]:
    hits = index.search(QUERY, 5)
    return [(hit.id, hit.score) for hit in hits], index.explain(QUERY, hits[0].id).to_dict()


@pytest.fixture
def wanted(index_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    with monkeypatch.context() as patch:
        patch.setenv("SMART_LIGHT", "off")
        with SmartIndex.open(index_path, mode="r") as index:
            return found(index)


@pytest.mark.parametrize("named", [False, True])
def test_search_and_explain_need_no_model(
    index_path: Path, wanted: Any, no_model: None, named: bool, tiny: Callable[[str], Path]
) -> None:
    with SmartIndex.open(index_path, str(tiny("prompts")) if named else None, mode="r") as index:
        hits, explanation = found(index)
        again, _ = found(pickle.loads(pickle.dumps(index)))
        assert index.encoder.export() is None
    assert hits == again
    assert [id for id, _ in hits] == [id for id, _ in wanted[0]]
    assert [score for _, score in hits] == pytest.approx([score for _, score in wanted[0]], abs=1e-5)
    for token, expected in zip(explanation["tokens"], wanted[1]["tokens"], strict=True):
        assert token == {name: pytest.approx(value, abs=1e-5) for name, value in expected.items()}


def test_a_loaded_model_encodes_itself(index_path: Path, wanted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smart_retrieval.model.light.encoder.LightEncoder.encode_query", None)
    with SmartIndex.open(index_path, mode="r") as index:
        assert isinstance(index.model, SmartModel)
        assert found(index) == wanted


def test_another_model_is_still_refused(index_path: Path, tiny: Callable[[str], Path]) -> None:
    with pytest.raises(IndexMismatchError, match="pooling"):
        SmartIndex.open(index_path, str(tiny("cls")))


def test_adding_afterwards_loads_the_model(index_path: Path) -> None:
    with SmartIndex.open(index_path) as index:
        before = [hit.score for hit in index.search(QUERY, 3)]
        index.add(["moon and bread"])
        assert len(index.search(QUERY, 3)) == len(before)


def test_the_modules_of_a_search(index_path: Path) -> None:
    """Neither torch nor what imports it: that is where the time of a cold search goes."""
    pytest.importorskip("onnxruntime")
    code = (
        "import sys, json; from smart_retrieval.cli.main import app\n"
        f"app(['search', {str(index_path)!r}, {QUERY!r}, '--json'], standalone_mode=False)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["hits"]
    heavy = {"torch", "transformers", "sentence_transformers", "sklearn", "scipy", "pandas", "numba", "onnx", "sympy"}
    assert not heavy & set(json.loads(done.stderr.splitlines()[-1]))


def test_a_search_exports_its_model_and_says_so_once(
    index_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SMART_CACHE", str(tmp_path / "another cache"))
    outputs = []
    for _ in range(2):
        app(["search", str(index_path), QUERY, "--json"], standalone_mode=False)
        outputs.append(capsys.readouterr())
    assert outputs[0].err.startswith("smart: note: exporting the model once")
    assert outputs[1].err == ""
    first, second = ([hit["id"] for hit in json.loads(output.out)["hits"]] for output in outputs)
    assert first == second
