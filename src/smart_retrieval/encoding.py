"""From texts to SmartEmbeddings: one forward pass a batch, one window in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .backbones.sentence_transformer import SentenceTransformerBackbone
from .batching import BatchLimits, length_sorted_batches, windows
from .embeddings import EncodingReport, SmartEmbeddings
from .errors import EmptyInputError, NonFiniteError
from .readout.head import ROLES_KEY, TokenHead
from .readout.roles import TokenRole


@dataclass
class Encoder:
    """A backbone and a token head, run over texts.

    Args:
        backbone: The untouched model.
        head: Reads token vectors out of its states.
        dtype: NumPy dtype of the token vectors handed out, ``"float32"`` or ``"float16"``.
    """

    backbone: SentenceTransformerBackbone
    head: TokenHead
    dtype: str = "float32"

    def stream(
        self,
        texts: Iterable[str],
        *,
        task: str,
        prompt: str | None,
        limits: BatchLimits,
        advance: Callable[[int], None],
    ) -> Iterator[SmartEmbeddings]:
        """Encode a stream window by window, each in the order the texts came.

        Args:
            texts: Any number of texts.
            task: ``"query"`` or ``"document"``.
            prompt: The prompt's text, or None.
            limits: What may be in flight at once.
            advance: Called with the number of items each batch finished.

        Raises:
            EmptyInputError: An item is not a string.
            NonFiniteError: The model gave NaN or infinity.
        """
        first = 0
        for window in windows(_checked(texts), self.backbone.max_length, limits):
            yield self._window(window, first, task=task, prompt=prompt, limits=limits, advance=advance)
            first += len(window)

    def _window(
        self,
        texts: list[str],
        first: int,
        *,
        task: str,
        prompt: str | None,
        limits: BatchLimits,
        advance: Callable[[int], None],
    ) -> SmartEmbeddings:
        indices: list[int] = []
        parts: list[SmartEmbeddings] = []
        # inference_mode as Sentence Transformers uses it; without it the states' graph would be kept alive.
        with torch.inference_mode():
            for batch in length_sorted_batches(texts, self.backbone.max_length, limits):
                for piece in self._fitting(batch, texts, prompt, task, limits):
                    chosen, features = piece
                    parts.append(self._forward([texts[i] for i in chosen], features, task, prompt, first, chosen))
                    indices.extend(chosen)
                    advance(len(chosen))
        return _in_order(parts, indices)

    def _fitting(
        self, batch: list[int], texts: Sequence[str], prompt: str | None, task: str, limits: BatchLimits
    ) -> Iterator[tuple[list[int], dict[str, Any]]]:
        """Tokenise a batch; cut it in two as long as it holds more padded tokens than allowed."""
        features = self.backbone.preprocess([texts[i] for i in batch], prompt=prompt, task=task)
        if len(batch) > 1 and features["input_ids"].numel() > limits.batch_tokens:
            middle = len(batch) // 2
            yield from self._fitting(batch[:middle], texts, prompt, task, limits)
            yield from self._fitting(batch[middle:], texts, prompt, task, limits)
        else:
            yield batch, features

    def _forward(
        self,
        texts: list[str],
        features: dict[str, Any],
        task: str,
        prompt: str | None,
        first: int,
        indices: list[int],
    ) -> SmartEmbeddings:
        model = self.backbone.model
        model.eval()
        device = model.device
        features = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in features.items()}
        # The roles are ours: a model that takes any keyword would be handed them.
        roles = features.pop(ROLES_KEY)
        ids, attended = features["input_ids"], features["attention_mask"].bool()
        report = self._report(texts, attended.sum(dim=1).tolist(), prompt, task, roles)
        features = {**model(features, task=task), ROLES_KEY: roles}
        kept_vectors, kept = self.head.flat(features)
        anchors = features["sentence_embedding"].float().cpu().numpy()
        vectors = kept_vectors.cpu().numpy()
        counts = kept.sum(dim=1).cpu().numpy()
        offsets = np.concatenate([[0], np.cumsum(counts)])
        _check_finite(anchors, vectors, offsets, texts, [first + i for i in indices])
        # A position that stands in for an item without content carries the anchor, not its own token.
        stand_in = roles[kept] == int(TokenRole.SPECIAL)
        return SmartEmbeddings(
            anchors,
            vectors.astype(self.dtype, copy=False),
            offsets,
            torch.where(stand_in, -1, ids[kept]).int().cpu().numpy(),
            roles[kept].cpu().numpy(),
            tokenizer=self.backbone.tokenizer,
            report=report,
        )

    def _report(
        self, texts: list[str], lengths: list[int], prompt: str | None, task: str, roles: Tensor
    ) -> EncodingReport:
        limit = self.backbone.max_length
        # Only a text that fills the limit can have been cut; only those are counted a second time.
        full = [text for text, length in zip(texts, lengths, strict=True) if limit is not None and length >= limit]
        missing = [count - (limit or 0) for count in self.backbone.token_counts(full, prompt=prompt, task=task)]
        empty = int((roles == int(TokenRole.TEXT)).any(dim=1).logical_not().sum())
        return EncodingReport(
            items=len(texts),
            truncated=sum(count > 0 for count in missing),
            truncated_tokens=sum(count for count in missing if count > 0),
            empty=empty,
        )


def _in_order(parts: list[SmartEmbeddings], indices: list[int]) -> SmartEmbeddings:
    """Batches as one window in the order of its texts, each vector copied once.

    Args:
        parts: The batches.
        indices: Position in the window of each of their items, batch after batch.
    """
    lengths = np.empty(len(indices), np.int64)
    lengths[indices] = np.concatenate([part.lengths for part in parts])
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    first = parts[0]
    anchors = np.empty((len(indices), first.anchor_dim), first.anchors.dtype)
    vectors = np.empty((int(offsets[-1]), first.token_dim), first.token_vectors.dtype)
    ids, roles = np.empty(len(vectors), np.int32), np.empty(len(vectors), np.uint8)
    report = EncodingReport()
    done = 0
    for part in parts:
        own = indices[done : done + len(part)]
        anchors[own] = part.anchors
        for index, start, stop in zip(own, part.offsets[:-1].tolist(), part.offsets[1:].tolist(), strict=True):
            rows = slice(int(offsets[index]), int(offsets[index + 1]))
            vectors[rows] = part.token_vectors[start:stop]
            ids[rows] = part.token_ids[start:stop]
            roles[rows] = part.roles[start:stop]
        done += len(part)
        report += part.report
    return SmartEmbeddings(anchors, vectors, offsets, ids, roles, tokenizer=first.tokenizer, report=report)


def _checked(texts: Iterable[str]) -> Iterator[str]:
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise EmptyInputError(
                f"item {position}: found {type(text).__name__} ({str(text)[:40]!r}), expected a string"
            )
        yield text


def _check_finite(
    anchors: NDArray[Any], vectors: NDArray[Any], offsets: NDArray[Any], texts: list[str], indices: list[int]
) -> None:
    # One sum a row finds NaN and infinity at a fraction of a full scan's cost.
    sums = vectors.sum(axis=1)
    if np.isfinite(sums).all() and np.isfinite(anchors.sum(axis=1)).all():
        return
    bad_rows = (~np.isfinite(sums)).nonzero()[0]
    bad = set(np.searchsorted(offsets, bad_rows, side="right") - 1)
    bad |= set((~np.isfinite(anchors.sum(axis=1))).nonzero()[0])
    worst = min(bad, key=lambda row: indices[row])
    raise NonFiniteError(
        f"found NaN or infinity in the encoding of {len(bad)} of {len(texts)} items, first item {indices[worst]} "
        f"({texts[worst][:60]!r}); load the model in float32, or leave the item out"
    )
