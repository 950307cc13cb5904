"""Windows and batches: bounded memory however many texts come, little padding within a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class BatchLimits:
    """How much is in flight at once."""

    batch_size: int = 64  # most items in one forward pass
    batch_tokens: int = 8_192  # most padded tokens (items x longest item) in one forward pass; bounds activations
    window_tokens: int = 65_536  # most tokens sorted by length together; bounds what waits to be handed on
    window_items: int = 4_096  # most items sorted together


def windows(items: Iterable[T], size: Callable[[T], int], limits: BatchLimits) -> Iterator[list[T]]:
    """Cut a stream into consecutive windows within the limits; reads one item further than the window it yields.

    ``size`` gives an item's estimated tokens.
    """
    window: list[T] = []
    tokens = 0
    for item in items:
        own = size(item)
        if window and (tokens + own > limits.window_tokens or len(window) >= limits.window_items):
            yield window
            window, tokens = [], 0
        window.append(item)
        tokens += own
    if window:
        yield window


def length_sorted_batches(
    sizes: Sequence[int], limits: BatchLimits, lengths: Sequence[int] | None = None
) -> Iterator[list[int]]:
    """Indices of one window's items in batches of like lengths, longest first.

    Longest first, so that a batch too large for the machine fails at once and not after an hour. ``lengths`` orders
    items of one size, by their characters for one: estimates are capped at the model's limit, and many texts that seem
    to reach it do not.
    """
    ties = lengths if lengths is not None else sizes
    order = sorted(range(len(sizes)), key=lambda index: (-sizes[index], -ties[index]))
    batch: list[int] = []
    for index in order:
        # The first of a batch is its longest, so it alone sets the padded width.
        widest = sizes[batch[0] if batch else index]
        if batch and (len(batch) >= limits.batch_size or widest * (len(batch) + 1) > limits.batch_tokens):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
