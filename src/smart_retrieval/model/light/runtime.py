"""What runs an exported model: ONNX Runtime where it is installed, else TorchScript, which needs torch alone."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from importlib.metadata import version
from io import BytesIO
from typing import Any

from ...types import Array

#: An exported model: the anchor ``[1, Da]`` and the vectors of all positions ``[1, T, Dt]`` of named ids ``[1, T]``.
Run = Callable[[Mapping[str, Array]], tuple[Array, Array]]

ONNX, TORCHSCRIPT = "onnx", "torchscript"
#: The exported model's file.
FILES = {ONNX: "model.onnx", TORCHSCRIPT: "model.pt"}
_PACKAGES = {ONNX: ("onnx", "onnxruntime"), TORCHSCRIPT: ("torch",)}


def runtime_here() -> str:
    """The best runtime that is installed; ``onnx`` needs the extra ``fast-cpu``."""
    return ONNX if all(importlib.util.find_spec(name) for name in _PACKAGES[ONNX]) else TORCHSCRIPT


def versions(runtime: str) -> dict[str, str]:
    """Versions of what an exported model was computed with, and is run by."""
    names = ("sentence-transformers", "transformers", "tokenizers", "torch", *_PACKAGES[runtime])
    return {name: version(name) for name in dict.fromkeys(names)}


def load_run(runtime: str, exported: bytes, inputs: list[str]) -> Run:
    """An exported model, ready to run: on the calling thread alone, so that threads and forks can share it."""
    return _onnx(exported) if runtime == ONNX else _torchscript(exported, inputs)


def _onnx(exported: bytes) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])

    def run(features: Mapping[str, Array]) -> tuple[Array, Array]:
        anchor, vectors = session.run(["anchor", "vectors"], dict(features))
        return anchor, vectors

    return run


def _torchscript(exported: bytes, inputs: list[str]) -> Run:
    import torch

    module: Any = torch.jit.load(BytesIO(exported), map_location="cpu")  # type: ignore[no-untyped-call]
    loaded_in = os.getpid()

    def run(features: Mapping[str, Array]) -> tuple[Array, Array]:
        if os.getpid() != loaded_in:
            torch.set_num_threads(1)  # OpenMP's threads did not come along, and a pass would wait for them
        # Unoptimised: the optimiser compiles for seconds before it is of use.
        with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            anchor, vectors = module(*(torch.from_numpy(features[name]) for name in inputs))
        return anchor.numpy(), vectors.numpy()

    return run
