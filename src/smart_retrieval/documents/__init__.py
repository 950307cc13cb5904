"""Files to passages: find them, read their text into sections under headings, cut it into passages that fit the model.

``scan`` finds files, ``read_file`` turns one into sections, ``split`` cuts those into passages. Nothing here loads what
a document points at, runs what it holds, or expands what it defines.

Example:
    >>> log = SkipLog()
    >>> for file, document in read_files(scan("docs", skipped=log), log):  # doctest: +SKIP
    ...     passages = list(split(document.sections, max_tokens=256, count_tokens=count, source=file.relative))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names
from ..files import FoundFile as FoundFile
from ..files import SkipLog as SkipLog
from ..files import Skipped as Skipped
from ..files import UnreadableFileError as UnreadableFileError
from ..files import content_hash as content_hash

if TYPE_CHECKING:
    from .passages import Passage as Passage
    from .passages import split as split
    from .read import ReadOptions as ReadOptions
    from .read import format_of as format_of
    from .read import read_file as read_file
    from .read import read_files as read_files
    from .read import stream_file as stream_file
    from .readers.jsonl import JsonlFields as JsonlFields
    from .readers.pdf.words import Word as Word
    from .readers.pdf.words import find_words as find_words
    from .readers.pdf.words import page_words as page_words
    from .sections import Document as Document
    from .sections import Section as Section
    from .walk import scan as scan

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "passages": ("Passage", "split"),
        "read": ("ReadOptions", "format_of", "read_file", "read_files", "stream_file"),
        "readers.jsonl": ("JsonlFields",),
        "readers.pdf.words": ("Word", "find_words", "page_words"),
        "sections": ("Document", "Section"),
        "walk": ("scan",),
    },
    ["FoundFile", "SkipLog", "Skipped", "UnreadableFileError", "content_hash"],
)
