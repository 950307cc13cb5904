"""Files and folders to inputs: find them, read them, cut their text into passages that fit the model.

``scan`` finds files, ``read_file`` turns one into sections under headings, ``split`` cuts those into passages. Nothing
here loads what a document points at, runs what it holds, or expands what it defines.

Example:
    >>> log = SkipLog()
    >>> for file, document in read_files(scan("docs", skipped=log), log):  # doctest: +SKIP
    ...     passages = list(split(document.sections, max_tokens=256, count_tokens=count, source=file.relative))
"""

from .jsonl import JsonlFields
from .passages import split
from .problems import SkipLog, Skipped, UnreadableFileError
from .readers import ReadOptions, format_of, read_file, read_files, stream_file
from .sections import Document, Passage, Section
from .walk import FoundFile, content_hash, scan

__all__ = [
    "Document",
    "FoundFile",
    "JsonlFields",
    "Passage",
    "ReadOptions",
    "Section",
    "SkipLog",
    "Skipped",
    "UnreadableFileError",
    "content_hash",
    "format_of",
    "read_file",
    "read_files",
    "scan",
    "split",
    "stream_file",
]
