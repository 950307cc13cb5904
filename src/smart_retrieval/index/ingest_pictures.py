"""A file's pictures as rows of the index: the pages of a PDF, an image, a video."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from ..inputs import Item, VideoSource
from ..media import FoundFile, SkipLog, visual_inputs
from .watched import Watched


def picture_id(source: str, kind: str, page: int | None) -> str:
    """The id of a picture.

    Example:
        >>> picture_id("report.pdf", "page", 3), picture_id("clip.mp4", "video", None)
        ('report.pdf#page=3', 'clip.mp4#video')
    """
    return f"{source}#page={page}" if kind == "page" else f"{source}#{kind}"


def picture_rows(file: FoundFile, skipped: SkipLog) -> Generator[dict[str, Any], None, None]:
    """The pictures of one file, in order; none is decoded before the model asks for it.

    Args:
        file: The file.
        skipped: Receives the pages that cannot be read.

    Yields:
        Rows for :meth:`~smart_retrieval.index.smart_index.SmartIndex.add_encoded`, without text. Their ``item`` is what
        the model is to encode.

    Raises:
        MediaError: The file cannot be read.
        MissingExtraError: A package for its format is not installed.
    """
    for found in visual_inputs(file.path, skipped=skipped, relative=file.relative):
        source = found.source
        item = Item(video=source) if isinstance(source, VideoSource) else Item(images=(source,))
        watched = Watched(item, found.kind)
        yield {
            "id": picture_id(file.relative, found.kind, found.page),
            "text": "",
            "source": file.relative,
            "page": found.page,
            "item": watched.item,
            "media": watched,
        }
