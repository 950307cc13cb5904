"""The picture a document is: its kind, its size, its thumbnail, its grid of visual tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .grids import PlacedGrid

KINDS = ("image", "page", "video")


@dataclass(frozen=True)
class Media:
    """The picture a document is, or begins with.

    Args:
        kind: ``"image"``, ``"page"`` (of a PDF) or ``"video"``.
        width: In pixels, as the model was given it; None where that is not known.
        height: Likewise.
        times: Of a video, the second each frame was taken at.
        grids: Its visual tokens; empty where tokens were pooled.
        preview: The thumbnail's bytes (a WebP or JPEG file) where they are at hand; :meth:`thumbnail` fetches them.
        load: Reads the thumbnail from the index.

    Example:
        >>> Media("page", 600, 800).to_dict()
        {'kind': 'page', 'width': 600, 'height': 800, 'times': []}
    """

    kind: str
    width: int | None = None
    height: int | None = None
    times: tuple[float, ...] = ()
    grids: tuple[PlacedGrid, ...] = ()
    preview: bytes = field(default=b"", repr=False)
    load: Callable[[], bytes] | None = field(default=None, repr=False, compare=False)

    def thumbnail(self) -> bytes:
        """A small picture, as the bytes of an image file; empty if none was kept or the document is gone.

        Raises:
            SmartError: The index it comes from was closed.
            IndexDamagedError: It does not match its checksum.
        """
        return self.preview or (self.load() if self.load is not None else b"")

    def to_dict(self, *, thumbnail: bool = False) -> dict[str, Any]:
        """JSON-able.

        Args:
            thumbnail: Add the thumbnail, in Base64.
        """
        found: dict[str, Any] = {
            "kind": self.kind,
            "width": self.width,
            "height": self.height,
            "times": list(self.times),
        }
        if thumbnail:
            from base64 import b64encode

            found["thumbnail"] = b64encode(self.thumbnail()).decode() or None
        return found

    def values(self) -> tuple[Any, ...]:
        """What is stored of it but the thumbnail."""
        grids = json.dumps([grid.to_list() for grid in self.grids], separators=(",", ":"))
        return (self.kind, self.width, self.height, json.dumps([float(time) for time in self.times]), grids)
