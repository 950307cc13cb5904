"""Types that several rooms share: the array alias, and the report of an encoding."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from numpy.typing import NDArray

from .errors import SmartWarning

Array: TypeAlias = NDArray[Any]


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


def warn_of(report: EncodingReport, noun: str, max_length: int | None) -> None:
    """Say on whose account something was passed over, at the line that called ``encode_query`` or ``encode_document``.

    Args:
        report: What was met.
        noun: ``"queries"`` or ``"documents"``.
        max_length: The model's limit.

    Warns:
        SmartWarning: Items were cut off, skipped, or without content.
    """
    messages = []
    if report.truncated:
        messages.append(
            f"{report.truncated} of {report.items} {noun} are longer than the model's {max_length} tokens: "
            f"{report.truncated_tokens} tokens at their ends were not encoded; split them, or raise max_length"
        )
    if report.failures:
        first = report.failures[0]
        messages.append(
            f"{len(report.failures)} {noun} were skipped because they could not be read, the first of them item "
            f"{first.position}: {first.reason}"
        )
    if report.empty:
        messages.append(
            f"{report.empty} of {report.items} {noun} have no content: nothing but their anchor and the prompt "
            "speaks for them"
        )
    for message in messages:
        warnings.warn(message, SmartWarning, stacklevel=4)
