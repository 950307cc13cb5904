"""Export a stock late-interaction model, where one gives exactly this model's token vectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.roles import TOKEN_FILTERS, kept_rows
from ..errors import UnsupportedModelError

if TYPE_CHECKING:
    from ..model.smart_model import SmartModel

_SAMPLES = ["one", "how do I rotate the logs", "A longer sentence, with punctuation; and a number: 42."]
_TOLERANCE = 1e-4


def export_multi_vector_encoder(model: SmartModel, out: str | Path) -> Path:
    """Write a folder that plain ``MultiVectorEncoder(out)`` opens, with the token vectors of this model and no anchor.

    What is written is loaded again and compared before the path is returned.

    Args:
        model: A text model that reads its last state, with no adapter or one whose layer norm has no bias.
        out: The folder.

    Returns:
        The folder.

    Raises:
        UnsupportedModelError: Stock modules cannot give the same token vectors; the message says why.

    Example:
        >>> export_multi_vector_encoder(SmartModel("minilm", preset="paper"), "stock")  # doctest: +SKIP
    """
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Normalize
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    if reason := _why_not_exact(model):
        raise UnsupportedModelError(f"model {model.name!r} cannot become a stock MultiVectorEncoder: {reason}")
    backbone = model.backbone
    words = backbone.tokenizer.convert_ids_to_tokens(_dropped_ids(model))
    modules: list[Any] = [backbone.transformer, *_dense(model)]
    modules += [MultiVectorMask(words, skiplist_tasks=["query", "document"]), Normalize("token_embeddings")]
    stock = MultiVectorEncoder(
        modules=modules, device=model.device, prompts=backbone.prompts, similarity_fn_name="meanmaxsim"
    )
    folder = Path(out)
    with backbone.config_as_loaded():
        stock.save_pretrained(str(folder))
    _check(model, folder)
    return folder


def _dropped_ids(model: SmartModel) -> list[int]:
    """Vocabulary ids that the readout drops wherever they stand."""
    backbone = model.backbone
    vocabulary = np.arange(len(backbone.tokenizer))
    kept = kept_rows(backbone.word_roles(vocabulary), model.readout.token_filter)
    return sorted(backbone.special_ids | set(vocabulary[~kept].tolist()))


def _why_not_exact(model: SmartModel) -> str | None:
    """What of this model stock modules cannot do; None where they can do all of it."""
    from ..backbones.sentence_transformer import SentenceTransformerBackbone

    backbone, readout, adapter = model.backbone, model.readout, model.adapter
    if not isinstance(backbone, SentenceTransformerBackbone) or len(backbone.modalities) > 1:
        return (
            f"family {backbone.family!r} renders its inputs in a way of its own, which the stock loader does not know"
        )
    if not readout.reads_last_state_only:
        return f"it reads layers {list(readout.layers)}, stock modules only the last state"
    kinds = [type(module).__name__ for module in backbone.model]
    if len(kinds) < 2 or "Pooling" not in kinds[1]:
        return f"its modules are {' > '.join(kinds)}, expected a transformer and its pooling first"
    prompts = {task: backbone.prompt_for(task, None, None) for task in ("query", "document")}
    if readout.token_filter not in TOKEN_FILTERS:
        return f"its token filter {readout.token_filter!r} looks at more than words, the stock mask at nothing else"
    if readout.token_filter == "content":
        around = any(backbone.template_lengths(prompt, task) != (0, 0, 0) for task, prompt in prompts.items())
        rendered = (backbone.rendered("word", prompt=prompt, task=task) for task, prompt in prompts.items())
        if around and any(role.name in ("PROMPT", "TEMPLATE") for tokens in rendered for _, role in tokens):
            return "its token filter drops prompt or template tokens, the stock mask only listed words"
    if adapter is not None and adapter.config.kind != "linear":
        return f"its adapter is of the kind {adapter.config.kind!r}, a stock projection is linear"
    if adapter is not None and bool((adapter.norm.bias != 0).any()):
        return "its adapter's layer norm has a bias, which no stock projection before the normalisation can hold"
    return None


def _dense(model: SmartModel) -> list[Any]:
    """Norm and projection as one matrix: centring is linear, and the unit length cancels the norm's scale."""
    import torch
    from sentence_transformers.base.modules import Dense

    adapter = model.adapter
    if adapter is None:
        return []
    size = adapter.config.input_size
    with torch.no_grad():
        centred = torch.eye(size, dtype=torch.float64) - 1 / size
        weight = adapter.projection.weight.double().cpu() * adapter.norm.weight.double().cpu() @ centred
    return [
        Dense(
            size,
            adapter.config.width,
            bias=False,
            activation_function=torch.nn.Identity(),
            init_weight=weight.float(),
            module_input_name="token_embeddings",
        )
    ]


def _check(model: SmartModel, folder: Path) -> None:
    from sentence_transformers import MultiVectorEncoder

    stock = MultiVectorEncoder(str(folder), device=model.device)
    for task in ("query", "document"):
        ours = getattr(model, f"encode_{task}")(_SAMPLES)
        theirs = getattr(stock, f"encode_{task}")(_SAMPLES, convert_to_numpy=True)
        for i, vectors in enumerate(theirs):
            own = ours[i].token_vectors
            if vectors.shape != own.shape or np.abs(vectors - own).max() > _TOLERANCE:
                raise UnsupportedModelError(
                    f"model {model.name!r}: the stock model written to {str(folder)!r} encodes {_SAMPLES[i]!r} as a "
                    f"{task} otherwise than this one; do not use it"
                )
