"""Files are opened in one way: regular files only, so that a pipe or a device can never hang or flood a run."""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path

from .problems import UnreadableFileError, os_error


def open_local(path: str | Path) -> BufferedReader:
    """Open a regular file for reading bytes; the caller closes it.

    Raises:
        UnreadableFileError: It is missing, not permitted, or not a regular file.

    Example:
        >>> open_local("no/such/file")
        Traceback (most recent call last):
        smart_retrieval.media.problems.UnreadableFileError: cannot read no/such/file: no such file or directory
    """
    try:
        # Opening a named pipe would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise os_error(path, error) from error
    except ValueError as error:  # a NUL character in the name
        raise UnreadableFileError(path, "not the name of a file", str(error)) from error
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        file = os.fdopen(descriptor, "rb")
    except OSError as error:  # a folder
        os.close(descriptor)
        raise os_error(path, error) from error
    if not regular:
        file.close()
        raise UnreadableFileError(path, "not a regular file")
    return file
