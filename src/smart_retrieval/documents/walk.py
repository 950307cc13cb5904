"""Find the files of a folder in a fixed order, and record what was skipped.

Symbolic links are followed by default, also out of the folder, as notes are often linked. A link's target is never read
twice nor walked in circles, and each file outside the folder is marked. For a folder from an untrusted source, or an
index that others may search, pass ``follow_symlinks=False`` or ``outside=False``: a link in it may point at any file
that the process may read.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unicodedata import normalize

from ..errors import MediaError
from ..files import (
    NOT_REGULAR,
    OF_THE_SYSTEM,
    FoundFile,
    SkipLog,
    Skipped,
    UnreadableFileError,
    is_of_the_system,
    os_error,
    typed_name,
    valid_name,
)
from .ignore import IgnoreRules, patterns, rules_above

HIDDEN = "hidden"
IGNORED = "ignored by .gitignore"
EXCLUDED = "excluded"
NOT_INCLUDED = "not included"
LINK = "symbolic link, not followed"
SAME = "symbolic link to what is read anyway"
OUTSIDE = "symbolic link out of the folder, not followed"


def scan(
    root: str | Path,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    *,
    follow_symlinks: bool = True,
    outside: bool = True,
    hidden: bool = False,
    respect_ignore: bool = True,
    skipped: SkipLog | None = None,
) -> Iterator[FoundFile]:
    """Find the files under a folder.

    The order is fixed: files before folders, each sorted by name, what links lead to at the end.

    Args:
        root: A folder, or a single file, which is then found whatever its name.
        include: Patterns as in ``.gitignore``, relative to the root: ``*.md`` at any depth, ``/a.md`` at the top,
            ``docs/**/*.md``. If any are given, only files that match are found.
        exclude: Patterns of the same kind for files and folders to leave out; wins over `include`.
        follow_symlinks: Whether to follow symbolic links (see the module's notes).
        outside: Whether to follow those that lead out of the root.
        hidden: Whether to find files and folders whose names begin with a dot. ``.git`` is never entered.
        respect_ignore: Whether to leave out what ``.gitignore`` files name, nested ones and those of the git checkout
            around the root included.
        skipped: Receives what was skipped and why. A folder is one record, however much is in it.

    Raises:
        MediaError: The root is missing or cannot be read, or a pattern is malformed.

    Example:
        >>> [file.relative for file in scan("docs", include=["*.md"])]  # doctest: +SKIP
        ['guide.md', 'reference/api.md']
    """
    # A wrong path or pattern is an error now, not at the first step of the iteration.
    walk = _Walk(Path(root), include, exclude, skipped if skipped is not None else SkipLog())
    walk.follow, walk.outside, walk.hidden, walk.respect = follow_symlinks, outside, hidden, respect_ignore
    return walk.run()


def _shown(path: Path) -> str:
    """A path as valid Unicode, ``/`` between folders."""
    return valid_name(path.as_posix())


def _time_of(status: os.stat_result) -> int:
    """Time of last change in 64 bits, as a database takes it; beyond the year 2262 it goes on from 1677."""
    return (status.st_mtime_ns + 2**63) % 2**64 - 2**63


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _typed_pattern(line: str) -> str:
    """A pattern whose bytes that are no UTF-8 match those of names."""
    typed = typed_name(line)
    return line if typed == line else typed.replace("\\", "\\\\")


def _spec(lines: Sequence[str], what: str) -> Any:
    try:
        return patterns(_typed_pattern(line) for line in lines) if lines else None
    except ValueError as error:
        raise MediaError(
            f"found a malformed pattern in {what} {list(lines)}: {error}; expected .gitignore syntax"
        ) from error


class _Walk:
    """One run over a root."""

    follow = outside = respect = True
    hidden = False

    def __init__(self, root: Path, include: Sequence[str], exclude: Sequence[str], skipped: SkipLog) -> None:
        self._root = root
        self._include = _spec(include, "include")
        self._exclude = _spec(exclude, "exclude")
        self._skipped = skipped
        self._links: deque[tuple[Path, IgnoreRules, bool]] = deque()
        # The rules in force in each folder walked, by identity: a link to a file there leads to nothing new if that
        # file is found by itself.
        self._walked: dict[tuple[int, int], tuple[Path, IgnoreRules]] = {}
        self._linked: set[tuple[int, int]] = set()
        try:
            mode = root.stat().st_mode
            if is_of_the_system(root):
                raise UnreadableFileError(root, OF_THE_SYSTEM)
            if stat.S_ISDIR(mode):
                os.scandir(root).close()
            elif not stat.S_ISREG(mode):
                raise UnreadableFileError(root, "neither a file nor a folder")
            self._real_root = root.resolve()
        except OSError as error:
            raise os_error(root, error) from error

    def run(self) -> Iterator[FoundFile]:
        if not self._root.is_dir():
            status = self._root.stat()
            yield FoundFile(self._root, _shown(Path(self._root.name)), status.st_size, _time_of(status))
            return
        yield from self._folders(self._root, rules_above(self._root) if self.respect else IgnoreRules(), False)
        while self._links:
            yield from self._link(*self._links.popleft())

    def _folders(self, top: Path, rules: IgnoreRules, outside: bool) -> Iterator[FoundFile]:
        """Files of a folder and its subfolders; links wait until all real files are found."""
        stack = [(top, rules)]
        while stack:
            folder, rules = stack.pop()
            try:
                identity = _identity(folder.stat())
                with os.scandir(folder) as entries:
                    names = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                self._skipped.add(Skipped.from_error(self._relative(folder), error))
                continue
            if identity in self._walked:
                continue
            if is_of_the_system(folder):  # whose links lead in circles
                self._skipped.add(Skipped(self._relative(folder) + "/", OF_THE_SYSTEM))
                continue
            inner = rules.entering(folder) if self.respect else rules
            self._walked[identity] = (folder, inner)
            subfolders = []
            for entry in names:
                path = folder / entry.name
                try:
                    if entry.is_symlink():
                        self._links.append((path, inner, outside))
                    elif entry.is_dir():
                        if not self._left_out(path, inner, is_folder=True):
                            subfolders.append((path, inner))
                    elif not self._left_out(path, inner, is_folder=False):
                        yield from self._file(path, entry.stat(), outside)
                except OSError as error:
                    self._skipped.add(Skipped.from_error(self._relative(path), error))
            stack += reversed(subfolders)

    def _link(self, path: Path, rules: IgnoreRules, outside: bool) -> Iterator[FoundFile]:
        """What a symbolic link leads to, unless it is found without it."""
        relative = self._relative(path)
        try:
            status = path.stat()
            real = path.resolve()
        except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
            reason = "broken symbolic link" if isinstance(error, FileNotFoundError) else "symbolic link in a circle"
            if not self._left_out(path, rules, is_folder=False):
                self._skipped.add(Skipped(relative, reason, failed=True))
            return
        is_folder = stat.S_ISDIR(status.st_mode)
        if self._left_out(path, rules, is_folder=is_folder):
            return
        identity = _identity(status)
        leaves = outside or not real.is_relative_to(self._real_root)
        if not self.follow or (leaves and not self.outside):
            self._skipped.add(Skipped(relative, OUTSIDE if self.follow else LINK, str(real)))
        elif is_folder and identity not in self._walked and not self._real_root.is_relative_to(real):
            yield from self._folders(path, rules, leaves)
        elif is_folder or identity in self._linked or self._found_by_itself(real):
            self._skipped.add(Skipped(relative, SAME, str(real)))
        else:
            self._linked.add(identity)
            yield from self._file(path, status, leaves)

    def _found_by_itself(self, real: Path) -> bool:
        """Whether the file a link leads to lies in a folder walked, and is not left out there."""
        try:
            folder, rules = self._walked[_identity(real.parent.stat())]
        except (KeyError, OSError):
            return False
        return not self._left_out(folder / real.name, rules, is_folder=False, record=False)

    def _left_out(self, path: Path, rules: IgnoreRules, *, is_folder: bool, record: bool = True) -> bool:
        """Whether the rules leave this out; recorded if so."""
        name = self._relative(path) + ("/" if is_folder else "")
        composed = normalize("NFC", name)  # as the patterns are
        reason = ""
        if path.name == ".git" or (path.name.startswith(".") and not self.hidden):
            reason = HIDDEN
        elif self._exclude is not None and self._exclude.match_file(composed):
            reason = EXCLUDED
        elif rules.ignores(path, is_folder=is_folder):
            reason = IGNORED
        elif self._include is not None and not is_folder and not self._include.match_file(composed):
            reason = NOT_INCLUDED
        if reason and record:
            self._skipped.add(Skipped(name, reason))
        return bool(reason)

    def _file(self, path: Path, status: os.stat_result, outside: bool) -> Iterator[FoundFile]:
        """A regular file; devices, pipes and sockets are recorded and skipped."""
        if stat.S_ISREG(status.st_mode):
            yield FoundFile(path, self._relative(path), status.st_size, _time_of(status), outside)
        else:
            self._skipped.add(Skipped(self._relative(path), NOT_REGULAR))

    def _relative(self, path: Path) -> str:
        return _shown(path.relative_to(self._root)) if path != self._root else "."
