"""As what the files of a folder are indexed: as text, or as what they look like."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SmartError, UnsupportedModelError, one_of
from ..media import visual_format_of

CHOICES = ("auto", "text", "pages")


def settle_files_as(asked: str, modalities: Collection[str]) -> str:
    """``"text"`` or ``"pages"``, from what was asked for and what the model takes.

    Args:
        asked: ``"pages"``: PDFs as pictures of their pages, pictures, videos, and text files as text. ``"text"``: what
            can be read as text. ``"auto"``: pages if the model takes pictures.
        modalities: Of the model.

    Raises:
        SmartError: It is none of these.
        UnsupportedModelError: Pages, and the model takes no pictures.

    Example:
        >>> settle_files_as("auto", {"text", "image"}), settle_files_as("auto", {"text"})
        ('pages', 'text')
    """
    if asked not in CHOICES:
        raise SmartError(f"files as: {one_of(asked, CHOICES)}")
    if asked == "pages" and "image" not in modalities:
        raise UnsupportedModelError(
            f"files as pages: found a model that takes {', '.join(sorted(modalities))}, expected one that takes "
            "images; choose another model, or text"
        )
    return asked if asked != "auto" else "pages" if "image" in modalities else "text"


@dataclass(frozen=True)
class VisualFiles:
    """Which files of a folder are indexed as pictures.

    Args:
        pages: Whether any are.
        modalities: What the model takes.

    Example:
        >>> files = VisualFiles.of({"files_as": "pages", "modalities": ["text", "image"]})
        >>> [files.takes(Path(name)) for name in ("a.PDF", "b.png", "c.mp4", "d.txt")]
        [True, True, False, False]
    """

    pages: bool = False
    modalities: frozenset[str] = frozenset({"text"})

    @classmethod
    def of(cls, limits: Mapping[str, Any]) -> VisualFiles:
        """As an index's manifest says; text where it was made before it could say so."""
        return cls(limits.get("files_as") == "pages", frozenset(limits.get("modalities", ("text",))))

    def takes(self, path: Path) -> bool:
        """Whether a file is indexed as pictures."""
        kind = visual_format_of(path)
        return self.pages and bool(kind) and ("video" if kind == "video" else "image") in self.modalities
