"""The arithmetic that a backbone computes in: bfloat16 where the processor has units for it and is faster with them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.head import ROLES_KEY
from ..errors import UnsupportedModelError, one_of
from ..inputs import Item
from .checkpoints import COMPUTES

if TYPE_CHECKING:
    from .backbone import Backbone

#: How much faster bfloat16 has to be before ``"auto"`` takes it.
MIN_SPEEDUP = 1.2
_WORST_COSINE = 0.99  # of an anchor in bfloat16 with the one in float32; sound models stay above .999
_TEXT = "the house stands beside the water and the mill behind it turns all day " * 40
_ITEMS, _TOKENS = 2, 128  # of a timed pass
_ROUNDS, _PATIENCE = 3, 0.5  # pairs of timed passes, and seconds after which no further pair begins


@dataclass(frozen=True)
class Compute:
    """What a backbone computes in, what was asked for, and why it is this."""

    name: str = "float32"
    asked: str = "float32"
    reason: str = "as asked"

    @property
    def queries(self) -> str:
        """What queries are computed in: float32 unless bfloat16 was asked for by name.

        They are few, and in bfloat16 on both sides MiniLM lost .0027 of nDCG@10 on one collection, with queries in
        float32 .0014 at most (benchmarks/results/compute_quality.json).
        """
        return self.name if self.asked == "bfloat16" else "float32"

    @classmethod
    def settled(cls, backbone: Backbone, asked: str) -> Compute:
        """What is meant by ``"auto"``, ``"float32"`` or ``"bfloat16"`` for this backbone on this machine."""
        if asked not in COMPUTES:
            raise UnsupportedModelError(f"compute: {one_of(asked, COMPUTES)}")
        if asked == "float32":
            return cls()
        reason = backbone.no_bfloat16 or _not_as_loaded(backbone)
        if asked == "bfloat16":
            if backbone.no_bfloat16:
                raise UnsupportedModelError(f"model {backbone.name!r}: found compute='bfloat16', but {reason}")
            _check(backbone, _features(backbone, 8))
            return cls("bfloat16", asked)
        reason = reason or _not_automatic(backbone)
        return cls("float32", asked, reason) if reason else _calibrated(backbone)


def bfloat16_units() -> bool:
    """Whether the processor reports instructions that multiply bfloat16: AVX512_BF16, AMX, or those of Arm."""
    # Of recent versions of torch; with an older one there are none.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any("bf16" in name and found is True for name, found in capabilities.items())


def _not_as_loaded(backbone: Backbone) -> str:
    """Why a model that was loaded in half precision stays as it is."""
    found = backbone.weights_dtype
    return "" if found == "float32" else f"its weights were loaded in {found}"


def _not_automatic(backbone: Backbone) -> str:
    """Why bfloat16 is not to be taken unasked."""
    if backbone.modalities != {"text"}:
        return "its quality in bfloat16 was measured on text models alone"
    if backbone.model.device.type != "cpu":
        return f"the model is on {backbone.model.device}, and auto decides for processors"
    return "" if bfloat16_units() else "this processor reports no bfloat16 units"


def _features(backbone: Backbone, tokens: int, items: int = 1) -> dict[str, Any]:
    """A short batch of about so many tokens each."""
    text = _TEXT[: 5 * min(tokens, backbone.max_length or tokens)]
    features = backbone.preprocess([backbone.load(Item(text))] * items, prompt=None, task="document")
    device = backbone.model.device
    moved = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in features.items()}
    return {name: value for name, value in moved.items() if name != ROLES_KEY}


def _anchors(backbone: Backbone, features: dict[str, Any], compute: str) -> Tensor:
    with torch.inference_mode():
        anchors: Tensor = backbone.forward(dict(features), "document", compute)["sentence_embedding"]
    return anchors.float()


def _check(backbone: Backbone, features: dict[str, Any]) -> None:
    """An error where the model does not run in bfloat16, or gives something else."""
    try:
        found, wanted = (_anchors(backbone, features, compute) for compute in ("bfloat16", "float32"))
        cosine = float(torch.cosine_similarity(found, wanted).min())
    except RuntimeError as error:  # of mixed types, for one
        reason = " ".join(str(error).split())[:200]
        raise UnsupportedModelError(f"model {backbone.name!r}: it does not run in bfloat16 ({reason})") from error
    if not cosine >= _WORST_COSINE:
        raise UnsupportedModelError(
            f"model {backbone.name!r}: found anchors in bfloat16 whose cosine with those in float32 is {cosine:.4f}, "
            f"expected at least {_WORST_COSINE}"
        )


def _calibrated(backbone: Backbone) -> Compute:
    """The faster of the two for this model, here and now."""
    features = _features(backbone, _TOKENS, _ITEMS)
    try:
        _check(backbone, features)
    except UnsupportedModelError as error:
        return Compute("float32", "auto", str(error))
    best = {"float32": float("inf"), "bfloat16": float("inf")}
    threads, began = torch.get_num_threads(), time.perf_counter()
    # In processor time of this thread alone, so that whatever else keeps the machine busy does not decide.
    torch.set_num_threads(1)
    try:
        for done in range(_ROUNDS):
            if done and time.perf_counter() - began > _PATIENCE:
                break
            for name in best:
                start = time.thread_time()
                _anchors(backbone, features, name)
                best[name] = min(best[name], time.thread_time() - start)
    finally:
        torch.set_num_threads(threads)
    speedup = best["float32"] / best["bfloat16"]
    name = "bfloat16" if speedup >= MIN_SPEEDUP else "float32"
    return Compute(name, "auto", f"bfloat16 is {speedup:.1f} x as fast as float32 here")
