"""Exports a model for its queries, after comparing every kind of text with what the model itself gives."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ...backbones.checkpoints import local_folder, only_errors_logged
from ...backbones.sentence_transformer import SentenceTransformerBackbone
from ...backbones.tokenizing import TOKENIZING
from ...backbones.word_roles import WordRoles
from ...core.head import ROLES_KEY
from ...embeddings import SmartEmbeddings
from ...errors import SmartError
from ...inputs import Item
from ...types import counted_elsewhere
from ..encoding import Encoder
from .encoder import LightEncoder
from .entry import TOKENIZER, Entry, EntryKey, UntrustedEntryError, discard, has_entry, switched_off, write_entry
from .runtime import FILES, ONNX, OUTPUTS, POOLED, runtime_here

if TYPE_CHECKING:
    from ..smart_model import SmartModel

#: Largest difference of an anchor's or token vector's component, relative to a length of 1 at least.
TOLERANCE = 1e-5
_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
_LONGEST = 512  # tokens of the longest probe; what is longer is left to the model itself
_MOST_BYTES = 1_000_000_000  # loading takes two or three times as much memory
_ROLES_COMPARED = 20_000  # ids of the vocabulary
_OPSET = 17


class _CannotExportError(Exception):
    """Why a model is left to torch."""


def export_light(
    model: SmartModel, key: EntryKey, announce: Callable[[str], object] = lambda line: None
) -> tuple[bool, str] | None:
    """Export a model for its queries, once.

    Args:
        model: The model, on the CPU and as it was loaded from its files.
        key: Where it goes.
        announce: Told what begins, as it takes a while.

    Returns:
        Whether it was exported, and what to tell the user; None where nothing was to be done.
    """
    folder = None if switched_off() or model.device != "cpu" else key.folder()
    if folder is None:
        return None
    try:
        if has_entry(folder):
            return None
    except UntrustedEntryError:
        discard(folder)
    backbone = model.backbone
    sources = {local_folder(key.name, None), local_folder(backbone.source, backbone.revision)} - {None}
    refused = ""

    def make(into: Path) -> dict[str, Any]:
        nonlocal refused
        announce("exporting the model once, for searches that start faster (SMART_LIGHT=off does without)")
        try:
            return _exported(model, into)
        except OSError:
            raise
        except Exception as error:  # tracing runs code of many libraries; whatever it raises, torch is right
            refused = str(error) if isinstance(error, _CannotExportError) else f"{type(error).__name__}: {error}"
            for file in into.iterdir():
                file.unlink()
            refused = " ".join(refused.split())[:200]
            return {"refused": refused}

    try:
        write_entry(folder, key.model, [source for source in sources if source], make, model.loaded_at)
    except (OSError, UntrustedEntryError, SmartError) as error:
        return False, f"searches go on loading torch: no exported model can be kept ({error})"
    if refused:
        return False, f"searches go on loading torch: this model cannot be exported ({refused})"
    return True, f"exported the model to {folder}"


class _Transformer(nn.Module):
    """From queries' ids to the states that their anchors are pooled from, and the vectors of all positions."""

    def __init__(self, model: SmartModel, names: list[str], others: dict[str, Any]) -> None:
        super().__init__()
        self._names, self._others, self._layers = names, others, _pooled_layers(model)
        self.backbone, self.head = model.backbone.model, model.head  # whose weights are exported
        self._encoder = Encoder(model.backbone, model.head)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        behind: dict[str, Any] = {}  # the transformer, before other modules change what it gave
        hook = self.backbone[0].register_forward_hook(lambda module, given, found: behind.update(found))
        try:
            features = {**self._others, **dict(zip(self._names, inputs, strict=True))}
            features = self._encoder.computed(features, "query")
        finally:
            hook.remove()
        states = behind["all_layer_embeddings"] if self._layers else [behind["token_embeddings"]]
        chosen = [states[layer] for layer in self._layers or [0]]
        return torch.cat(chosen, dim=-1), self.head.at_all_positions(features)


class _Pooling(nn.Module):
    """What everything behind the transformer makes of its states: the anchor."""

    def __init__(self, model: SmartModel, others: dict[str, Any]) -> None:
        super().__init__()
        self._others, self._parts = others, max(1, len(_pooled_layers(model)))
        self.behind = nn.ModuleList(list(model.backbone.model)[1:])

    def forward(self, states: Tensor, attention_mask: Tensor) -> Tensor:
        anchors = []
        for state in states.chunk(self._parts, dim=-1):
            features = {**self._others, "token_embeddings": state, "attention_mask": attention_mask}
            for module in self.behind:
                features = module(features)
            anchors.append(features["sentence_embedding"])
        return torch.cat(anchors, dim=-1).float()


def _pooled_layers(model: SmartModel) -> list[int]:
    """The layers that anchors are pooled from; none for the model's own states."""
    layer: int | list[int] | None = model.identity().get("anchor_layer")
    return [] if layer is None else [layer] if isinstance(layer, int) else list(layer)


def _exported(model: SmartModel, into: Path) -> dict[str, Any]:
    """Write tokenizer and model; the rest of what the encoder needs."""
    backbone, runtime = model.backbone, runtime_here()
    weights = list(backbone.model.parameters())
    if not isinstance(backbone, SentenceTransformerBackbone) or model.modalities != {"text"}:
        raise _CannotExportError("it is no model of texts alone")
    if "server" in backbone.identity() or any(weight.dtype != torch.float32 for weight in weights):
        raise _CannotExportError("its weights are not here, or not in float32")
    if 4 * sum(weight.numel() for weight in weights) > _MOST_BYTES:
        raise _CannotExportError(f"it is larger than {_MOST_BYTES / 1e9:g} GB")
    prompt = backbone.prompt_for("query", None, None)
    with TOKENIZING.held:  # the backend is left with the truncation of queries
        # Of two lengths, so that what is traced takes several, and padding.
        features = backbone.preprocess(["how do I rotate the logs", "logs"], prompt=prompt, task="query")
        backend = getattr(model.tokenizer, "backend_tokenizer", None)
        if backend is None or features.get("modality", "text") != "text":
            raise _CannotExportError("its inputs are rendered by a chat template, or by a slow tokenizer")
        tokenizer = backend.to_str()
    names = [name for name, value in features.items() if isinstance(value, Tensor) and name != ROLES_KEY]
    if not {"input_ids"} <= set(names) <= _INPUTS:
        raise _CannotExportError(f"it takes {', '.join(names)}")
    others = {name: value for name, value in features.items() if name not in names and name != ROLES_KEY}
    with backbone.running.held:
        given = tuple(features[name] for name in names)
        transformer = _Transformer(model, names, others).eval()
        with torch.no_grad():
            states, _ = transformer(*given)
        pooled = (states, features["attention_mask"])
        parts = ((transformer, given, names), (_Pooling(model, others).eval(), pooled, list(POOLED)))
        for (module, inputs, takes), gives, file in zip(parts, OUTPUTS, FILES[runtime], strict=True):
            _trace(module, inputs, takes, gives, runtime, into / file)
    about = {
        "runtime": runtime,
        "inputs": names,
        "prompt": prompt,
        "around": list(backbone.template_lengths(prompt, "query")),
        "special_ids": sorted(backbone.special_ids),
        "unk_token_id": getattr(model.tokenizer, "unk_token_id", None),
        "encode_special_tokens": bool(backend.encode_special_tokens),
        "token_filter": model.readout.token_filter,
        "max_length": backbone.max_length,
        "longest": min(backbone.max_length or _LONGEST, _LONGEST),
        "batched": False,
    }
    files = tuple((into / file).open("rb") for file in FILES[runtime])
    about["batched"] = _compare(model, LightEncoder(Entry(about, tokenizer, files)))
    (into / TOKENIZER).write_text(tokenizer, encoding="utf-8")
    return about


def _trace(
    module: nn.Module, inputs: tuple[Tensor, ...], names: list[str], gives: tuple[str, ...], runtime: str, file: Path
) -> None:
    """Write a part of the exported model."""
    with warnings.catch_warnings(), torch.no_grad(), only_errors_logged():
        warnings.simplefilter("ignore")  # tracing warns of every branch on a shape; the comparison decides
        if runtime == ONNX:
            axes = {name: {0: "queries", 1: "tokens"} for name in (*names, *gives) if name != "anchor"}
            torch.onnx.export(
                module, inputs, file, input_names=names, output_names=list(gives), opset_version=_OPSET, dynamo=False,
                dynamic_axes={**axes, **({"anchor": {0: "queries"}} if "anchor" in gives else {})},
            )  # fmt: skip
        else:
            torch.jit.save(torch.jit.trace(module, inputs, check_trace=False), str(file))  # type: ignore[no-untyped-call]


def _compare(model: SmartModel, light: LightEncoder) -> bool:
    """Refuse an export that does not give what the model gives, whatever the text.

    Returns:
        Whether texts padded together get the very bits that each gets alone.
    """
    size = len(light.tokenizer)
    ids = np.arange(0, size, max(1, size // _ROLES_COMPARED))
    if not np.array_equal(light.word_roles(ids), WordRoles(model.tokenizer, model.backbone.special_ids)(ids)):
        raise _CannotExportError("its tokenizer spells words differently without transformers")
    items, alone = [Item(text) for text in probe_texts(model)], list[SmartEmbeddings | None]()
    with counted_elsewhere():
        for item in items:
            found, wanted = light.encode_query(item), model.encode_query(item, show_progress=False)
            if found is not None and (difference := _difference(found, wanted)):
                raise _CannotExportError(f"{difference} of {item.text[:40]!r}")
            alone.append(found)
        try:
            together = dict(light.encode_queries(items, batched=True))
        except Exception:  # a runtime may take one shape only
            return False
    return all(_same_bits(found, together[place]) for place, found in enumerate(alone))


def probe_texts(model: SmartModel) -> list[str]:
    """Texts of all lengths up to and beyond the model's limit, and of all kinds of characters."""
    draw = random.Random(0)
    tokenizer, limit = model.tokenizer, min(model.max_length or _LONGEST, _LONGEST)
    words = [tokenizer.decode([draw.randrange(len(tokenizer))]).strip() or "the" for _ in range(2 * limit)]
    lengths = sorted({1, 2, 3, 5, 8, 16, 40, limit // 4, 2 * limit})
    specials = " ".join(tokenizer.all_special_tokens)
    kinds = [
        " ", "?!", "how do I rotate the logs", "  Two  blanks\n\tand a line ", "ÄÖÜ ß ǅ ﬁ Ⅻ", "日本語のテキスト",
        "نص عربي", "😀 👩\u200d👩\u200d👧 ☃", "\u0378\ue000 xqzjv", "C++ & R&D, 50 %: 'don''t' [MASK]",
        f"a {specials} b", "a\u0000b\u200bc\ufeff",
    ]  # fmt: skip
    return [*kinds, *(" ".join(words[:length]) for length in lengths if length > 0)]


def _same_bits(one: SmartEmbeddings | None, other: SmartEmbeddings | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("anchors", "token_vectors"))


def _difference(found: SmartEmbeddings, wanted: SmartEmbeddings) -> str:
    """What differs, or nothing."""
    for name in ("token_ids", "roles", "offsets"):
        if not np.array_equal(getattr(found, name), getattr(wanted, name)):
            return f"other {name.replace('_', ' ')} without torch"
    if found.report != wanted.report:
        return "another count of cut-off tokens without torch"
    for name in ("anchors", "token_vectors"):
        one, other = (np.asarray(getattr(encoded, name), np.float64) for encoded in (found, wanted))
        scale = np.maximum(1.0, np.linalg.norm(other, axis=1, keepdims=True))
        difference = float((np.abs(one - other) / scale).max(initial=0))
        if one.shape != other.shape or not difference <= TOLERANCE:
            return f"{name.replace('_', ' ')} that differ by {difference:.1e} without torch"
    return ""
