"""Texts for others: no path of this machine in any of them."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

from ...errors import SmartError

# A path from a root, of two names or more, POSIX or Windows; only its last name is shown.
_POSIX = re.compile(r"(?<![\w:/.<~-])(?:file://)?~?(?:/[^\s/'\"<>|,;:()]+)+/([^\s/'\"<>|,;:()]*)")
_WINDOWS = re.compile(r"(?<!\w)(?:[A-Za-z]:[\\/]|\\\\)(?:[^\\/:*?\"<>|\r\n']+[\\/])*([^\\/:*?\"<>|\r\n'\s]*)")


class Messages:
    """Takes paths out of texts.

    Args:
        indexes: Folders by the names they are shown under.
    """

    def __init__(self, indexes: Mapping[str, Path]) -> None:
        self._known = sorted(((str(path), name) for name, path in indexes.items()), key=lambda pair: -len(pair[0]))

    def of(self, error: BaseException) -> str:
        """What an error says; of one that was not foreseen, nothing."""
        if not isinstance(error, SmartError):
            return "an internal error; the server's log has the details"
        path = str(getattr(error, "path", ""))
        return self.text(str(error).replace(path, shown_source(path) or "") if path else str(error))

    def text(self, text: str) -> str:
        """A text without paths."""
        text = self.without_known(text)
        return _WINDOWS.sub(r"\1", _POSIX.sub(r"\1", text))

    def without_known(self, text: str, *more: str) -> str:
        """A text, or a page, without the folders of the indexes and these."""
        for path, name in (*self._known, *((path, "") for path in more)):
            for written in dict.fromkeys((path, repr(path)[1:-1], html.escape(path))):
                if len(written) > 1:
                    text = text.replace(written, name)
        return text


def shown_source(source: str | None) -> str | None:
    """A source relative to the indexed folder; of a path from a root only the last name.

    Example:
        >>> shown_source("guide/logs.md"), shown_source("/srv/notes/logs.md"), shown_source("https://a.org/x")
        ('guide/logs.md', 'logs.md', 'https://a.org/x')
    """
    if source is None:
        return None
    if source.startswith("file:") or PurePosixPath(source).is_absolute() or PureWindowsPath(source).is_absolute():
        return re.split(r"[\\/]", source.rstrip("\\/"))[-1]
    return source


def shown_model(name: str) -> str:
    """A model's name; of a folder only the last part."""
    if "@" in name:
        name = name.partition("@")[0]
    return shown_source(name) or name
