"""From items to SmartEmbeddings: one forward pass a batch, one window in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Required, TypedDict, Unpack

import numpy as np
import torch
from torch import Tensor

from ..backbones.backbone import GRIDS_KEY, Backbone
from ..core.head import ROLES_KEY, SIDE_KEY, TokenHead
from ..embeddings import EmbeddingsWriter, SmartEmbeddings
from ..errors import EmptyInputError, MediaError
from ..inputs import Item, item_of
from ..types import Array, EncodingReport, Failure
from .assembling import assembled
from .batching import BatchLimits, length_sorted_batches, windows


@dataclass(frozen=True)
class _Run:
    """How one stream of items is encoded."""

    task: str
    prompt: str | None
    limits: BatchLimits
    advance: Callable[[int], None]


@dataclass(frozen=True)
class EncodedWindow:
    """Batches of a window's items, and the order that brings the items back to their places."""

    batches: list[SmartEmbeddings]
    order: Array
    failures: tuple[Failure, ...]


class StreamOptions(TypedDict, total=False):
    """The keyword arguments of :meth:`Encoder.windows`."""

    task: Required[str]
    prompt: Required[str | None]
    limits: Required[BatchLimits]
    advance: Required[Callable[[int], None]]
    on_error: str


@dataclass
class Encoder:
    """A backbone and a token head, run over items; ``dtype`` is the NumPy type of the token vectors handed out."""

    backbone: Backbone
    head: TokenHead
    dtype: str = "float32"
    # The hidden state that anchors are pooled from, or several, whose anchors stand side by side; None for the model's.
    anchor_layer: int | Sequence[int] | None = None
    compute: str = "float32"  # or "bfloat16", of the transformer
    compute_queries: str = "float32"  # likewise: queries are few, and in bfloat16 they cost quality

    @property
    def state_dim(self) -> int:
        """Width of a hidden state that the readout reads."""
        last_only = self.head.readout.reads_last_state_only
        return self.backbone.output_size if last_only else self.backbone.hidden_size

    @property
    def token_dim(self) -> int:
        """Width of a token vector."""
        return self.head.width(self.state_dim)

    def stream(self, values: Iterable[Any], **options: Unpack[StreamOptions]) -> Iterator[SmartEmbeddings]:
        """As :meth:`windows`, each window's items in their order."""
        return (joined([window]) for window in self.windows(values, **options))

    def windows(
        self,
        values: Iterable[Any],
        *,
        task: str,
        prompt: str | None,
        limits: BatchLimits,
        advance: Callable[[int], None],
        on_error: str = "raise",
    ) -> Iterator[EncodedWindow]:
        """Encode whatever :func:`~smart_retrieval.inputs.item_of` takes, window by window.

        ``advance`` is called with the number of items each batch finished. With ``on_error="skip"``, items whose files
        cannot be read are listed in the report instead of raising.
        """
        run = _Run(task, prompt, limits, advance)
        first = 0
        items = (item_of(value, position) for position, value in enumerate(values))
        for window in windows(items, self.backbone.estimated_tokens, limits):
            loaded, failures = self._load(window, first, on_error)
            first += len(window)
            advance(len(failures))
            yield self._window(loaded, failures, run)

    def _load(self, window: list[Item], first: int, on_error: str) -> tuple[list[tuple[int, Item]], list[Failure]]:
        """The items of a window with their pictures opened, each with its position in the stream; and the failures."""
        loaded: list[tuple[int, Item]] = []
        failures: list[Failure] = []
        for position, item in enumerate(window, first):
            try:
                loaded.append((position, self.backbone.load(item)))
            except MediaError as error:
                if on_error == "raise":
                    raise MediaError(f"item {position}: {error}") from error
                failures.append(Failure(position, str(error)))
        return loaded, failures

    def _nothing(self) -> SmartEmbeddings:
        """No item at all, as when none of a window could be read."""
        anchors = np.zeros((0, self.anchor_dim), np.float32)
        vectors = np.zeros((0, self.token_dim), self.dtype)
        return SmartEmbeddings(anchors, vectors, [0], tokenizer=self.backbone.tokenizer)

    def _window(self, items: Sequence[tuple[int, Item]], failures: list[Failure], run: _Run) -> EncodedWindow:
        if not items:
            return EncodedWindow([self._nothing()], np.arange(0), tuple(failures))
        order: list[int] = []
        # inference_mode as Sentence Transformers uses it; without it the states' graph would be kept alive.
        with torch.inference_mode():
            batches = list(self._batches(items, order, run))
        return EncodedWindow(batches, np.argsort(order), tuple(failures))

    def _batches(self, items: Sequence[tuple[int, Item]], order: list[int], run: _Run) -> Iterator[SmartEmbeddings]:
        """Encode the items in batches of like lengths, noting in ``order`` which items they are."""
        sizes = self.backbone.token_lengths([item for _, item in items], prompt=run.prompt, task=run.task)
        lengths = [len(item.text) for _, item in items]
        pending = [*length_sorted_batches(sizes, run.limits, lengths)][::-1]
        while pending:
            batch = pending.pop()
            chosen = [items[i] for i in batch]
            features = self.backbone.preprocess([item for _, item in chosen], prompt=run.prompt, task=run.task)
            if len(batch) > 1 and features["input_ids"].numel() > run.limits.batch_tokens:
                middle = len(batch) // 2  # more padded tokens than expected
                pending += [batch[middle:], batch[:middle]]
                continue
            order += batch
            yield self._forward(chosen, features, run)
            run.advance(len(batch))

    def computed(self, features: dict[str, Any], task: str) -> dict[str, Any]:
        """The features with what the model makes of them: states, and the anchor under ``sentence_embedding``."""
        compute = self.compute_queries if task == "query" else self.compute
        features = {**self.backbone.forward(features, task, compute), SIDE_KEY: task}
        if self.anchor_layer is not None:
            layers = [self.anchor_layer] if isinstance(self.anchor_layer, int) else self.anchor_layer
            last = len(features["all_layer_embeddings"]) - 1
            anchors = [
                features["sentence_embedding"] if layer == last else _pooled(self.backbone.model, features, layer)
                for layer in layers
            ]
            features["sentence_embedding"] = torch.cat(anchors, dim=-1)
        return features

    @property
    def anchor_dim(self) -> int:
        """Width of an anchor, or of several side by side."""
        return self.backbone.anchor_dim * (len(self.anchor_layer) if isinstance(self.anchor_layer, Sequence) else 1)

    def _forward(self, items: list[tuple[int, Item]], features: dict[str, Any], run: _Run) -> SmartEmbeddings:
        # First, while the features still know the tokenizer's own record.
        cut = self.backbone.cut_tokens([item for _, item in items], features, prompt=run.prompt, task=run.task)
        device = self.backbone.model.device
        features = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in features.items()}
        # The roles are ours: a model that takes any keyword would be handed them.
        roles = features.pop(ROLES_KEY)
        grids = features.pop(GRIDS_KEY, None)
        ids = features["input_ids"]
        features = {**self.computed(features, run.task), ROLES_KEY: roles}
        kept_vectors, kept = self.head.flat(features)
        return assembled(
            items,
            features["sentence_embedding"].float().cpu().numpy(),
            kept_vectors.cpu().numpy(),
            ids=ids.cpu().numpy(),
            roles=roles.cpu().numpy(),
            kept=kept.cpu().numpy(),
            cut=cut,
            dtype=self.dtype,
            grids=grids,
            tokenizer=self.backbone.tokenizer,
        )


def _pooled(model: Any, features: dict[str, Any], layer: int) -> Tensor:
    """The anchors that everything behind the transformer makes of another hidden state, ``[B, Da]``."""
    features = {**features, "token_embeddings": features["all_layer_embeddings"][layer]}
    for module in list(model)[1:]:
        features = module(features)
    pooled: Tensor = features["sentence_embedding"]
    return pooled


def at_least_one(values: Iterable[Any], task: str) -> Iterator[Any]:
    """The same values, and an error behind them where there are none."""
    found = False
    for value in values:
        found = True
        yield value
    if not found:
        raise EmptyInputError(f"found no {task} to encode, expected at least one text or picture")


def joined(windows: Iterable[EncodedWindow]) -> SmartEmbeddings:
    """All items of the windows in their order."""
    failures: list[Failure] = []
    groups: list[tuple[list[SmartEmbeddings], Array | None]] = []
    for batches, order, failed in ((window.batches, window.order, window.failures) for window in windows):
        groups.append((batches, order))
        failures += failed
        del batches  # else the last would stay while they are copied
    embeddings = SmartEmbeddings.in_order(groups)
    embeddings.report += EncodingReport(failures=tuple(failures))
    return embeddings


def gathered(windows: Iterator[EncodedWindow], out: str | Path | None) -> SmartEmbeddings:
    """All windows of :meth:`Encoder.windows` in one: in memory, or in the folder ``out`` and memory-mapped from there.

    Nothing is encoded before the folder is known to be usable.
    """
    if out is None:
        return joined(windows)
    with EmbeddingsWriter(out) as writer:
        for window in windows:
            writer.append(joined([window]))
            del window  # else it would stay while the next one is encoded
    return SmartEmbeddings.load(out, mmap=True)
