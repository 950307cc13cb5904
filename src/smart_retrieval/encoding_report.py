"""What an encoding met on its way: items cut off, empty, or left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class Failure(NamedTuple):
    """An item that could not be read: its position among those given, and why."""

    position: int
    reason: str


@dataclass(frozen=True)
class EncodingReport:
    """What an encoding met on its way; added up when embeddings are concatenated.

    Args:
        items: Items encoded.
        truncated: Items longer than the model's limit, of which the end was cut off.
        truncated_tokens: Tokens cut off, over all items.
        empty: Items without any content; their anchor stands in as their one token.
        failures: Items left out because their media could not be read (``on_error="skip"``).
    """

    items: int = 0
    truncated: int = 0
    truncated_tokens: int = 0
    empty: int = 0
    failures: tuple[Failure, ...] = ()

    def __add__(self, other: EncodingReport) -> EncodingReport:
        return EncodingReport(
            self.items + other.items,
            self.truncated + other.truncated,
            self.truncated_tokens + other.truncated_tokens,
            self.empty + other.empty,
            self.failures + other.failures,
        )

    def to_dict(self) -> dict[str, Any]:
        """The counts by name, and the failures where there are any."""
        counts: dict[str, Any] = {
            "items": self.items,
            "truncated": self.truncated,
            "truncated_tokens": self.truncated_tokens,
            "empty": self.empty,
        }
        return counts | ({"failures": [list(failure) for failure in self.failures]} if self.failures else {})

    @classmethod
    def from_dict(cls, counts: Mapping[str, Any]) -> EncodingReport:
        """The inverse of :meth:`to_dict`."""
        failures = tuple(Failure(int(position), str(reason)) for position, reason in counts.get("failures", ()))
        return cls(**{**counts, "failures": failures})
