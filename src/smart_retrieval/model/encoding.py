"""From items to SmartEmbeddings: one forward pass a batch, one window in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..backbones.backbone import GRIDS_KEY, Backbone
from ..core.batching import BatchLimits, length_sorted_batches, windows
from ..core.head import ROLES_KEY, TokenHead
from ..core.roles import TokenRole
from ..embeddings import EmbeddingsWriter, Grid, SmartEmbeddings
from ..errors import EmptyInputError, MediaError, NonFiniteError
from ..inputs import Item, item_of
from ..types import EncodingReport, Failure

_CONTENT = (TokenRole.TEXT, TokenRole.IMAGE, TokenRole.VIDEO)


@dataclass
class Encoder:
    """A backbone and a token head, run over items.

    Args:
        backbone: The untouched model.
        head: Reads token vectors out of its states.
        dtype: NumPy dtype of the token vectors handed out, ``"float32"`` or ``"float16"``.
    """

    backbone: Backbone
    head: TokenHead
    dtype: str = "float32"

    def stream(
        self,
        values: Iterable[Any],
        *,
        task: str,
        prompt: str | None,
        limits: BatchLimits,
        advance: Callable[[int], None],
        on_error: str = "raise",
    ) -> Iterator[SmartEmbeddings]:
        """Encode a stream window by window, each in the order the items came.

        Args:
            values: Any number of whatever :func:`~smart_retrieval.inputs.item_of` takes.
            task: ``"query"`` or ``"document"``.
            prompt: The prompt's text, or None.
            limits: What may be in flight at once.
            advance: Called with the number of items each batch finished.
            on_error: ``"raise"``, or ``"skip"`` items whose media cannot be read and name them in the report.

        Raises:
            EmptyInputError: An item is of no known kind.
            MediaError: A file cannot be read.
            NonFiniteError: The model gave NaN or infinity.
        """
        first = 0
        items = (item_of(value, position) for position, value in enumerate(values))
        for window in windows(items, self.backbone.estimated_tokens, limits):
            loaded, positions, failures = self._load(window, first, on_error)
            first += len(window)
            advance(len(failures))
            if loaded:
                done = self._window(loaded, positions, task=task, prompt=prompt, limits=limits, advance=advance)
                done.report += EncodingReport(failures=failures)
                yield done
            elif failures:
                yield self._nothing(failures)

    def _load(self, window: list[Item], first: int, on_error: str) -> tuple[list[Item], list[int], tuple[Failure, ...]]:
        """Open the media of a window; items, their positions in the stream, and what could not be opened."""
        loaded: list[Item] = []
        positions: list[int] = []
        failures: list[Failure] = []
        for position, item in enumerate(window, first):
            try:
                loaded.append(self.backbone.load(item))
                positions.append(position)
            except MediaError as error:
                if on_error == "raise":
                    raise MediaError(f"item {position}: {error}") from error
                failures.append(Failure(position, str(error)))
        return loaded, positions, tuple(failures)

    def _nothing(self, failures: tuple[Failure, ...]) -> SmartEmbeddings:
        """No item at all, as when none of a window could be read."""
        width = self.head.width(
            self.backbone.output_size if self.head.readout.reads_last_state_only else self.backbone.hidden_size
        )
        return SmartEmbeddings(
            np.zeros((0, self.backbone.anchor_dim), np.float32),
            np.zeros((0, width), self.dtype),
            [0],
            tokenizer=self.backbone.tokenizer,
            report=EncodingReport(failures=failures),
        )

    def _window(
        self,
        items: list[Item],
        positions: list[int],
        *,
        task: str,
        prompt: str | None,
        limits: BatchLimits,
        advance: Callable[[int], None],
    ) -> SmartEmbeddings:
        indices: list[int] = []
        parts: list[SmartEmbeddings] = []
        sizes = [self.backbone.estimated_tokens(item) for item in items]
        # inference_mode as Sentence Transformers uses it; without it the states' graph would be kept alive.
        with torch.inference_mode():
            for batch in length_sorted_batches(sizes, limits, [len(item.text) for item in items]):
                for chosen, features in self._fitting(batch, items, prompt, task, limits):
                    own = [items[i] for i in chosen]
                    parts.append(self._forward(own, features, task, prompt, [positions[i] for i in chosen]))
                    indices.extend(chosen)
                    advance(len(chosen))
        return _in_order(parts, indices)

    def _fitting(
        self, batch: list[int], items: Sequence[Item], prompt: str | None, task: str, limits: BatchLimits
    ) -> Iterator[tuple[list[int], dict[str, Any]]]:
        """Tokenise a batch; cut it in two as long as it holds more padded tokens than allowed."""
        features = self.backbone.preprocess([items[i] for i in batch], prompt=prompt, task=task)
        if len(batch) > 1 and features["input_ids"].numel() > limits.batch_tokens:
            middle = len(batch) // 2
            yield from self._fitting(batch[:middle], items, prompt, task, limits)
            yield from self._fitting(batch[middle:], items, prompt, task, limits)
        else:
            yield batch, features

    def _forward(
        self, items: list[Item], features: dict[str, Any], task: str, prompt: str | None, positions: list[int]
    ) -> SmartEmbeddings:
        model = self.backbone.model
        model.eval()
        device = model.device
        features = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in features.items()}
        # The roles are ours: a model that takes any keyword would be handed them.
        roles = features.pop(ROLES_KEY)
        grids = features.pop(GRIDS_KEY, None)
        ids = features["input_ids"]
        report = self._report(items, features, prompt, task, roles)
        features = {**model(features, task=task), ROLES_KEY: roles}
        kept_vectors, kept = self.head.flat(features)
        anchors = features["sentence_embedding"].float().cpu().numpy()
        vectors = kept_vectors.cpu().numpy()
        counts = kept.sum(dim=1).cpu().numpy()
        offsets = np.concatenate([[0], np.cumsum(counts)])
        _check_finite(anchors, vectors, offsets, items, positions)
        # A position that stands in for an item without content carries the anchor, and a visual one its patch, not
        # the word of its placeholder.
        own = roles[kept]
        wordless = (own == int(TokenRole.SPECIAL)) | (own == int(TokenRole.IMAGE)) | (own == int(TokenRole.VIDEO))
        return SmartEmbeddings(
            anchors,
            vectors.astype(self.dtype, copy=False),
            offsets,
            torch.where(wordless, -1, ids[kept]).int().cpu().numpy(),
            own.cpu().numpy(),
            grids=grids,
            tokenizer=self.backbone.tokenizer,
            report=report,
        )

    def _report(
        self, items: list[Item], features: dict[str, Any], prompt: str | None, task: str, roles: Tensor
    ) -> EncodingReport:
        cut = self.backbone.cut_tokens(items, features, prompt=prompt, task=task)
        content = torch.isin(roles, roles.new_tensor([int(role) for role in _CONTENT])).any(dim=1)
        return EncodingReport(
            items=len(items),
            truncated=sum(count > 0 for count in cut),
            truncated_tokens=sum(cut),
            empty=int(content.logical_not().sum()),
        )


def gathered(windows: Iterator[SmartEmbeddings], out: str | Path | None, task: str) -> SmartEmbeddings:
    """All windows in one: in memory, or in a folder and memory-mapped from there.

    Args:
        windows: What :meth:`Encoder.stream` yields; nothing is read before the folder is known to be usable.
        out: The folder; None for memory.
        task: ``"query"`` or ``"document"``, for the message.

    Raises:
        EmptyInputError: There was nothing at all.
        EmbeddingsError: The folder holds something else.
    """
    nothing = EmptyInputError(f"found no {task} to encode, expected at least one text or picture")
    if out is None:
        parts = list(windows)
        if not parts:
            raise nothing
        return SmartEmbeddings._join(parts)
    with EmbeddingsWriter(out) as writer:
        for window in windows:
            writer.append(window)
            del window  # else it would stay while the next one is encoded
        if not writer.report.items and not writer.report.failures:
            raise nothing
    return SmartEmbeddings.load(out, mmap=True)


def _in_order(parts: list[SmartEmbeddings], indices: list[int]) -> SmartEmbeddings:
    """Batches as one window in the order of its items, each vector copied once.

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
    grids: list[tuple[Grid, ...]] = [()] * len(indices)
    report = EncodingReport()
    done = 0
    for part in parts:
        own = indices[done : done + len(part)]
        anchors[own] = part.anchors
        if len(part.grid_rows):
            for index, item_grids in zip(own, part.grids, strict=True):
                grids[index] = item_grids
        for index, start, stop in zip(own, part.offsets[:-1].tolist(), part.offsets[1:].tolist(), strict=True):
            rows = slice(int(offsets[index]), int(offsets[index + 1]))
            vectors[rows] = part.token_vectors[start:stop]
            ids[rows] = part.token_ids[start:stop]
            roles[rows] = part.roles[start:stop]
        done += len(part)
        report += part.report
    return SmartEmbeddings(anchors, vectors, offsets, ids, roles, grids=grids, tokenizer=first.tokenizer, report=report)


def _check_finite(
    anchors: NDArray[Any], vectors: NDArray[Any], offsets: NDArray[Any], items: list[Item], positions: list[int]
) -> None:
    # One sum a row finds NaN and infinity at a fraction of a full scan's cost.
    sums = vectors.sum(axis=1)
    if np.isfinite(sums).all() and np.isfinite(anchors.sum(axis=1)).all():
        return
    bad_rows = (~np.isfinite(sums)).nonzero()[0]
    bad = set(np.searchsorted(offsets, bad_rows, side="right") - 1)
    bad |= set((~np.isfinite(anchors.sum(axis=1))).nonzero()[0])
    worst = min(bad, key=lambda row: positions[row])
    raise NonFiniteError(
        f"found NaN or infinity in the encoding of {len(bad)} of {len(items)} items, first item "
        f"{positions[worst]} ({items[worst].text[:60]!r}); load the model in float32, or leave the item out"
    )
