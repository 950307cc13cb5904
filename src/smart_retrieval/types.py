"""Types that several packages share: the array alias, and the report of an encoding."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypeAlias

from numpy.typing import NDArray

from .errors import SmartWarning

Array: TypeAlias = NDArray[Any]

_counted: ContextVar[bool] = ContextVar("counted", default=False)


@contextmanager
def counted_elsewhere() -> Iterator[None]:
    """Reports of encodings, and of filters that nothing passes, do not warn while the block runs in this thread.

    Its caller counts them.
    Not ``warnings.catch_warnings``, which changes the filters of all threads.
    """
    token = _counted.set(True)
    try:
        yield
    finally:
        _counted.reset(token)


def is_counted_elsewhere() -> bool:
    """Whether this runs inside :func:`counted_elsewhere`."""
    return _counted.get()


class Failure(NamedTuple):
    """An item that could not be read: its position among those given, and why."""

    position: int
    reason: str


@dataclass(frozen=True)
class EncodingReport:
    """What was cut off, empty or skipped in an encoding; added up when embeddings are concatenated.

    Args:
        items: Items encoded.
        truncated: Items longer than the model's limit, of which the end was cut off.
        truncated_tokens: Tokens cut off, over all items.
        empty: Items without content: no word that the model knows, no picture. Their anchor represents them.
        failures: Items left out because their files could not be read (``on_error="skip"``).
    """

    items: int = 0
    truncated: int = 0
    truncated_tokens: int = 0
    empty: int = 0
    failures: tuple[Failure, ...] = ()

    def __add__(self, other: EncodingReport) -> EncodingReport:
        return EncodingReport(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def to_dict(self) -> dict[str, Any]:
        """The counts by name, and the failures where there are any."""
        counts = {field.name: getattr(self, field.name) for field in fields(self)}
        failures = [list(failure) for failure in counts.pop("failures")]
        return counts | ({"failures": failures} if failures else {})

    @classmethod
    def from_dict(cls, counts: Mapping[str, Any]) -> EncodingReport:
        """The inverse of :meth:`to_dict`."""
        failures = tuple(Failure(int(position), str(reason)) for position, reason in counts.get("failures", ()))
        return cls(**{**counts, "failures": failures})

    def warn(self, noun: str, max_length: int | None) -> None:
        """Warn of items cut off, skipped or empty, at the line that called ``encode_query`` or ``encode_document``."""
        if is_counted_elsewhere():
            return
        messages = []
        if self.truncated:
            messages.append(
                f"{self.truncated} of {self.items} {noun} are longer than the model's {max_length} tokens: "
                f"{self.truncated_tokens} tokens at their ends were not encoded; split them, or raise max_length"
            )
        if self.failures:
            first = self.failures[0]
            messages.append(
                f"{len(self.failures)} {noun} were skipped because they could not be read, the first of them item "
                f"{first.position}: {first.reason}"
            )
        if self.empty:
            messages.append(
                f"{self.empty} of {self.items} {noun} have no content (a word that the model knows, a picture): little "
                "but their anchor represents them"
            )
        for message in messages:
            warnings.warn(message, SmartWarning, stacklevel=4)
