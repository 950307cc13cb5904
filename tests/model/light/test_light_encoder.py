"""Exported models give what the model gives, and are used only while they are what this user wrote."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.tiny_models import MAX_LENGTH, TEXTS, WORDS

from smart_retrieval import Readout, SmartModel
from smart_retrieval.inputs import Item
from smart_retrieval.model.light import runtime
from smart_retrieval.model.light.encoder import LightEncoder, find_light_encoder
from smart_retrieval.model.light.entry import EntryKey, UntrustedEntryError, read_entry, write_entry
from smart_retrieval.model.light.export import TOLERANCE, export_light

QUERIES = [*TEXTS, " ", "?", "😀 otter", "\u00adsea\n\tof  logs", "[SEP] a <|im_end|>", " ".join(WORDS[:60])]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SMART_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SMART_LIGHT")
    # Compiling to ONNX takes longer; what is not about it does without.
    monkeypatch.setattr("smart_retrieval.model.light.entry.runtime_here", lambda: runtime.TORCHSCRIPT)
    monkeypatch.setattr("smart_retrieval.model.light.export.runtime_here", lambda: runtime.TORCHSCRIPT)
    return tmp_path / "cache" / "encoders"


@pytest.fixture
def onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("smart_retrieval.model.light.entry.runtime_here", lambda: runtime.ONNX)
    monkeypatch.setattr("smart_retrieval.model.light.export.runtime_here", lambda: runtime.ONNX)


def key_of(model: SmartModel) -> EntryKey:
    identity = model.identity()
    return EntryKey(identity.pop("name"), identity)


def exported(model: SmartModel) -> LightEncoder:
    done = export_light(model, key_of(model))
    assert done is not None
    assert done[0], done[1]
    light = find_light_encoder(key_of(model))
    assert light is not None
    return light


def assert_equal(model: SmartModel, light: LightEncoder) -> None:
    for text in QUERIES:
        found, wanted = light.encode_query(Item(text)), model.encode_query(Item(text), show_progress=False)
        if found is None:
            assert model.readout.token_filter == "paper"
            assert wanted.roles.tolist() == [0]  # the anchor stands in
            continue
        for name in ("token_ids", "roles", "offsets"):
            np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=text)
        np.testing.assert_allclose(found.anchors, wanted.anchors, atol=TOLERANCE * np.linalg.norm(wanted.anchors))
        np.testing.assert_allclose(found.token_vectors, wanted.token_vectors, atol=TOLERANCE)
        assert found.report == wanted.report
        assert found.token_strings(0) == wanted.token_strings(0)
    together = dict(light.encode_queries([Item(text) for text in QUERIES]))
    for place, text in enumerate(QUERIES):
        one, alone = together[place], light.encode_query(Item(text))
        if one is None or alone is None:
            assert one is alone
            continue
        for name in ("anchors", "token_vectors", "token_ids", "roles", "offsets"):
            np.testing.assert_array_equal(getattr(one, name), getattr(alone, name), err_msg=text)
        assert one.report == alone.report


@pytest.mark.filterwarnings("ignore::smart_retrieval.errors.SmartWarning")
@pytest.mark.parametrize("name", ["cls", "weightedmean", "dense-narrow", "prompts", "decoder-prompts"])
def test_equals_the_model(name: str, smart: Callable[..., SmartModel]) -> None:
    model = smart(name)
    for one in (model, model.with_readout(Readout((-1, -2), token_filter="content")), model.with_anchor_of(1)):
        assert_equal(one, exported(one))


@pytest.mark.filterwarnings("ignore::smart_retrieval.errors.SmartWarning")
@pytest.mark.parametrize("name", ["prompts", "decoder"])
def test_equals_the_model_in_onnx(
    name: str, smart: Callable[..., SmartModel], onnx: None, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = smart(name).with_readout(Readout((-1, 1), "concat", "content"))
    light = exported(model)
    assert_equal(model, light)
    assert sorted(file.name for file in cache.rglob("*.onnx")) == ["model.onnx", "pooling.onnx"]
    (about,) = cache.rglob("entry.json")
    assert json.loads(about.read_text())["entry"]["batched"]
    runs = list[tuple[int, ...]]()
    run = light._run
    monkeypatch.setattr(light, "_run", lambda given: runs.append(given["input_ids"].shape) or run(given))
    assert len(list(light.encode_queries([Item(f"{text} otter") for text in WORDS[:20]]))) == 20
    assert len(runs) < 4  # most were run together


@pytest.mark.filterwarnings("ignore::smart_retrieval.errors.SmartWarning")
def test_equals_a_model_with_an_adapter(smart: Callable[..., SmartModel]) -> None:
    from smart_retrieval.core.adapter import Adapter, AdapterConfig

    plain = smart("mean")
    model = plain.with_adapter(Adapter(AdapterConfig(plain.state_dim, 16)).eval())
    assert_equal(model, exported(model))
    assert find_light_encoder(key_of(plain)) is None


def test_other_kinds_of_input_are_left_to_the_model(smart: Callable[..., SmartModel]) -> None:
    light = exported(smart("prompts"))
    assert light.encode_query(Item("otter", instruction="of the sea: ")) is None
    assert light.encode_query(Item("otter", images=(Path("a.png"),))) is None
    with pytest.warns(UserWarning, match=f"longer than the model's {MAX_LENGTH} tokens"):
        assert light.encode_query(Item("otter " * 50)) is not None


def test_a_model_that_cannot_be_exported_says_so_once(smart: Callable[..., SmartModel]) -> None:
    model = smart("chat")
    done = export_light(model, key_of(model))
    assert done is not None
    assert not done[0]
    assert "chat template" in done[1]
    assert find_light_encoder(key_of(model)) is None
    assert export_light(model, key_of(model)) is None


def test_an_export_that_differs_is_refused(smart: Callable[..., SmartModel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smart_retrieval.model.light.export.TOLERANCE", -1.0)
    model = smart("mean")
    done = export_light(model, key_of(model))
    assert done is not None
    assert not done[0]
    assert "anchors that differ by" in done[1]
    assert find_light_encoder(key_of(model)) is None


def test_an_error_of_a_library_is_a_refusal(smart: Callable[..., SmartModel], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr("torch.jit.trace", fail)
    model = smart("mean")
    assert "RuntimeError: no such operator" in str(export_light(model, key_of(model)))


def test_switched_off(smart: Callable[..., SmartModel], monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    model = smart("mean")
    exported(model)
    assert export_light(model, key_of(model)) is None  # there already
    monkeypatch.setenv("SMART_LIGHT", "off")
    assert find_light_encoder(key_of(model)) is None
    shutil.rmtree(cache)
    assert export_light(model, key_of(model)) is None
    assert not cache.exists()


# -- the cache -------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(tiny: Callable[[str], Path], tmp_path: Path) -> SmartModel:
    """A model in a folder that may be written to."""
    shutil.copytree(tiny("mean"), tmp_path / "model")
    return SmartModel(tmp_path / "model", readout=Readout(), device="cpu")


def flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["model.pt", "pooling.pt", "tokenizer.json", "entry.json"])
def test_a_damaged_entry_is_made_again(name: str, smart: Callable[..., SmartModel], cache: Path) -> None:
    model = smart("mean")
    exported(model)
    (file,) = cache.glob(f"*/{name}")
    for damage in (lambda: flip(file, file.stat().st_size // 3), file.unlink):
        damage()
        assert find_light_encoder(key_of(model)) is None
        exported(model)
    assert len(list(cache.iterdir())) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_what_others_could_have_written_is_not_used(smart: Callable[..., SmartModel], cache: Path) -> None:
    model = smart("mean")
    exported(model)
    (entry,) = cache.iterdir()
    entry.chmod(0o777)
    assert find_light_encoder(key_of(model)) is None
    entry.chmod(0o700)
    moved = entry.rename(entry.with_name("f" * 64))
    entry.symlink_to(moved, target_is_directory=True)
    assert find_light_encoder(key_of(model)) is None
    entry.unlink()
    shutil.copytree(moved, entry)  # under the name of another model: its own checksums hold
    (entry / "entry.json").write_text((moved / "entry.json").read_text().replace(entry.name, "e" * 64))
    with pytest.raises(UntrustedEntryError, match="checksum"):
        read_entry(entry)


def test_a_model_that_was_changed_is_not_trusted(copied: SmartModel, cache: Path) -> None:
    weights = Path(copied.name, "model.safetensors")
    before = weights.read_bytes()
    exported(copied)
    (entry,) = cache.iterdir()
    seen = json.loads((entry / "entry.json").read_text())["identities"][str(weights)]
    weights.write_bytes(before)  # touched, and the same
    assert find_light_encoder(key_of(copied)) is not None
    assert json.loads((entry / "entry.json").read_text())["identities"][str(weights)] != seen
    flip(weights, len(before) - 5)
    assert find_light_encoder(key_of(copied)) is None
    weights.write_bytes(before)
    assert find_light_encoder(key_of(copied)) is not None
    (Path(copied.name) / "smart").mkdir()
    (Path(copied.name) / "smart" / "config.json").write_text("{}")
    assert find_light_encoder(key_of(copied)) is None


def test_a_model_whose_files_changed_since_it_was_loaded_is_not_exported(copied: SmartModel, cache: Path) -> None:
    time.sleep(0.02)
    flip(Path(copied.name, "model.safetensors"), -5)
    done = export_light(copied, key_of(copied))
    assert done is not None
    assert "changed while it was loaded" in done[1]
    assert list(cache.iterdir()) == []


def test_other_settings_have_entries_of_their_own(copied: SmartModel, cache: Path) -> None:
    key = key_of(copied)
    exported(copied)
    for change in ({"fingerprint": "0"}, {"max_length": 5}, {"prompts": {"query": "q: "}}):
        assert find_light_encoder(EntryKey(key.name, {**key.identity, **change})) is None
    assert EntryKey("no/such/model/here", key.identity).folder() is None
    assert EntryKey("//server/share", key.identity).folder() is None


def test_unused_entries_are_removed(
    smart: Callable[..., SmartModel], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = smart("mean")
    exported(model)
    (first,) = cache.iterdir()
    os.utime(first, (0, 0))
    assert find_light_encoder(key_of(model)) is not None
    assert time.time() - first.stat().st_mtime < 100  # as it is in use
    other_readout = model.with_readout(Readout((-2,)))
    exported(other_readout)
    (second,) = set(cache.iterdir()) - {first}
    os.utime(second, (0, 0))
    abandoned = cache / ".unfinished-1"
    abandoned.mkdir()
    os.utime(abandoned, (0, 0))
    monkeypatch.setattr("smart_retrieval.model.light.entry.versions", lambda _: {"torch": "9"})
    assert find_light_encoder(key_of(model)) is None
    exported(model)
    assert {first, second} < set(cache.iterdir())  # another environment may use the first, and an index the second
    assert not abandoned.exists()
    os.utime(first, (0, 0))
    exported(other_readout)
    assert first.exists()
    assert not second.exists()


def test_a_cache_that_cannot_be_written_to(
    smart: Callable[..., SmartModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SMART_CACHE", str(tmp_path / "file"))
    model = smart("mean")
    done = export_light(model, key_of(model))
    assert done is not None
    assert not done[0]
    assert "no exported model can be kept" in done[1]
    assert find_light_encoder(key_of(model)) is None


def _write(folder: Path, started: Any, number: int) -> None:
    def make(into: Path) -> dict[str, Any]:
        (into / "tokenizer.json").write_text("{}")
        for name in ("model.pt", "pooling.pt"):
            (into / name).write_bytes(bytes([number]) * 100_000)
        return {"runtime": "torchscript"}

    started.wait()
    write_entry(folder, "model", [], make, 0.0)


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot fork")
def test_two_processes_at_once(cache: Path) -> None:
    context = multiprocessing.get_context("fork")
    started, folder = context.Barrier(4), cache / ("a" * 64)
    processes = [context.Process(target=_write, args=(folder, started, number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 4
    entry = read_entry(folder)
    assert entry is not None
    contents = [file.read() for file in entry.exported]
    for file in entry.exported:
        file.close()
    assert len(set(b"".join(contents))) == 1
    assert [path.name for path in cache.iterdir()] == [folder.name]
