"""What a model is for, where that is less than its architecture suggests: ``smart/purpose.json`` in its folder."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import ReadoutError, SmartWarning

_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Purpose:
    """What a model was trained on: in words, and the words it knows."""

    what: str
    words: frozenset[str]

    def unknown_words(self, texts: Iterable[str]) -> list[str]:
        """Words that the model has never seen, each once, in their order."""
        found = (word.lower() for text in texts for word in _WORD.findall(text))
        return [word for word in dict.fromkeys(found) if word not in self.words]

    def warn(self, name: str, texts: Iterable[str]) -> None:
        """Say which words of queries mean nothing to the model of this name."""
        if unknown := self.unknown_words(texts):
            shown = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
            warnings.warn(
                f"model {name!r} is {self.what}; it has never seen these words: {shown}. What it finds for them is "
                "chance",
                SmartWarning,
                stacklevel=3,
            )


def read_purpose(folder: Path) -> Purpose | None:
    """The purpose that a model's folder declares; None for most models."""
    file = folder / "smart" / "purpose.json"
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return Purpose(str(found["what"]), frozenset(map(str, found["words"])))
    except (ValueError, KeyError, TypeError) as error:
        raise ReadoutError(f"purpose {str(file)!r}: found {error}, expected an object with what and words") from error
