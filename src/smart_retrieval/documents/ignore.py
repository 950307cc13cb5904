"""Which files ``.gitignore`` files leave out, nested ones included, with git's own rules (pathspec)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import normalize

from ..files import read_bytes
from .readers.text import decode

_MOST_BYTES = 2**20


def patterns(lines: Iterable[str]) -> Any:
    """Compile lines in the syntax of ``.gitignore``, for names in NFC; a `ValueError` says which is no pattern."""
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(normalize("NFC", line) for line in lines)


@dataclass(frozen=True)
class IgnoreRules:
    """The rules in force in a folder: those of its own ``.gitignore`` before those of the folders above.

    `levels` are outermost first: a folder, what to put before paths relative to it, and compiled rules.
    """

    levels: tuple[tuple[Path, str, Any], ...] = ()

    def entering(self, folder: Path) -> IgnoreRules:
        """The rules within a subfolder; its ``.gitignore`` is read if there is one that can be."""
        file = folder / ".gitignore"
        try:
            text, _ = decode(read_bytes(file, _MOST_BYTES), file)
            spec = patterns(text.splitlines())
        except Exception:  # missing, not permitted, binary or malformed: then it ignores nothing
            return self
        return IgnoreRules((*self.levels, (folder, "", spec)))

    def ignores(self, path: Path, *, is_folder: bool) -> bool:
        """Whether a file or folder is left out; the innermost rule that matches it decides."""
        for folder, prefix, spec in reversed(self.levels):
            if not path.is_relative_to(folder) or path == folder:
                continue
            relative = prefix + path.relative_to(folder).as_posix() + ("/" if is_folder else "")
            found = spec.check_file(normalize("NFC", relative)).include
            if found is not None:
                return bool(found)
        return False


def rules_above(root: Path) -> IgnoreRules:
    """The rules that reach a folder from above it: those of its git checkout, if it lies within one.

    They do not count if they leave out the folder itself, as it was named explicitly.
    """
    real = root.resolve()
    above: list[Path] = []
    for parent in real.parents:
        if (real / ".git").exists():
            break  # itself the top of a checkout
        above.append(parent)
        if (parent / ".git").exists():
            break
    else:
        return IgnoreRules()
    rules = IgnoreRules()
    for parent in reversed(above):
        rules = rules.entering(parent)
    if any(rules.ignores(part, is_folder=True) for part in (real, *above[:-1])):
        return IgnoreRules()
    return IgnoreRules(
        tuple((root, real.relative_to(folder).as_posix() + "/", spec) for folder, _, spec in rules.levels)
    )
