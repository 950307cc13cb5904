"""What runs an exported model: ONNX Runtime where it is installed, else TorchScript, which needs torch alone."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from io import BufferedReader
from typing import Any

from ...types import Array

#: The transformer: of named ids ``[B, T]`` the states that anchors are pooled from, ``[B, T, H]``, and the token
#: vectors of all positions, ``[B, T, Dt]``. What pools: of states and attention mask the anchors, ``[B, Da]``.
Run = Callable[[Mapping[str, Array]], list[Array]]

ONNX, TORCHSCRIPT = "onnx", "torchscript"
#: The exported model's files: the transformer, and what pools its states.
FILES = {ONNX: ("model.onnx", "pooling.onnx"), TORCHSCRIPT: ("model.pt", "pooling.pt")}
#: What each of the two gives.
OUTPUTS = (("states", "vectors"), ("anchor",))
#: What the second takes.
POOLED = ("states", "attention_mask")
_PACKAGES = {ONNX: ("onnx", "onnxruntime"), TORCHSCRIPT: ("torch",)}


def runtime_here() -> str:
    """The best runtime that is installed; ``onnx`` needs the extra ``fast-cpu``."""
    return ONNX if all(importlib.util.find_spec(name) for name in _PACKAGES[ONNX]) else TORCHSCRIPT


def import_runtime() -> None:
    """Import what an ONNX model is loaded with; torch is left to where it is needed."""
    if runtime_here() == ONNX:
        with suppress(Exception):  # found again, and said, where it is used
            for name in ("tokenizers", "onnxruntime"):
                importlib.import_module(name)


def versions(runtime: str) -> dict[str, str]:
    """Versions of what an exported model was computed with, and is run by."""
    names = ("sentence-transformers", "transformers", "tokenizers", "torch", *_PACKAGES[runtime])
    return {name: version(name) for name in dict.fromkeys(names)}


def load_runs(runtime: str, exported: Sequence[BufferedReader], inputs: list[str]) -> tuple[Run, Run]:
    """Both parts of an exported model, run on the calling thread alone, so that threads and forks can share them.

    Their files are closed afterwards.
    """
    transformer, pooling = exported
    with transformer, pooling:
        if runtime == ONNX:
            return _onnx(transformer, OUTPUTS[0]), _onnx(pooling, OUTPUTS[1])
        return _torchscript(transformer, inputs), _torchscript(pooling, POOLED)


def _onnx(exported: BufferedReader, outputs: Sequence[str]) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # By a name of the open file, where there are such: read by ONNX Runtime itself, it is not copied twice.
    name = f"/dev/fd/{exported.fileno()}"
    os.lseek(exported.fileno(), 0, os.SEEK_SET)  # where such a name goes on from where the file was read to
    source = name if os.path.exists(name) else exported.read()
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    taken = {one.name for one in session.get_inputs()}  # what has no effect was left out

    def run(features: Mapping[str, Array]) -> list[Array]:
        found: list[Array] = session.run(outputs, {name: value for name, value in features.items() if name in taken})
        return found

    return run


def _torchscript(exported: BufferedReader, inputs: Sequence[str]) -> Run:
    import torch

    module: Any = torch.jit.load(exported, map_location="cpu")  # type: ignore[no-untyped-call]
    loaded_in = os.getpid()

    def run(features: Mapping[str, Array]) -> list[Array]:
        if os.getpid() != loaded_in:
            torch.set_num_threads(1)  # OpenMP's threads did not come along, and a pass would wait for them
        # Unoptimised: the optimiser compiles for seconds before it is of use.
        with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            found = module(*(torch.from_numpy(features[name]) for name in inputs))
        return [part.numpy() for part in (found if isinstance(found, tuple) else (found,))]

    return run
