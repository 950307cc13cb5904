"""A transformer in bfloat16 beside the one that it was made of."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn


def weights_state(module: nn.Module) -> list[tuple[int, int]]:
    """Something that changes whenever the module's weights do, in place or by others in their stead."""
    # PyTorch's own count of writes, which autograd relies on; tensors of inference mode have none.
    weights = module.parameters()
    return [(weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in weights]


def bfloat16_copy(module: nn.Module) -> nn.Module:
    """A module that shares everything with this one but its weights, and gives float32.

    Buffers stay in float32: a rotary embedding's frequencies would lose their positions.
    """
    shared = [getattr(module, name, None) for name in ("tokenizer", "processor")]
    shared += [getattr(inner, "config", None) for inner in module.modules()]
    memo: dict[int, Any] = {id(one): one for one in shared if one is not None}
    for weight in module.parameters():
        half = weight.detach().bfloat16() if weight.is_floating_point() else weight.detach()
        memo[id(weight)] = nn.Parameter(half, requires_grad=False)
    copied = copy.deepcopy(module, memo)
    copied.register_forward_hook(_in_float32)
    return copied.eval()


def _in_float32(module: Any, inputs: Any, features: dict[str, Any]) -> dict[str, Any]:
    """What the module wrote, in float32, so that pooling and everything behind it are computed as ever."""
    for name in ("token_embeddings", "sentence_embedding"):
        if name in features:
            features[name] = features[name].float()
    if "all_layer_embeddings" in features:
        features["all_layer_embeddings"] = tuple(state.float() for state in features["all_layer_embeddings"])
    return features
