"""An index belongs to one folder: which one, and whether another is the same folder in a new place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import IndexMismatchError
from ..media import FoundFile
from .manifest import Manifest
from .records import FileEntry

if TYPE_CHECKING:
    from .store import Store


def claim_root(
    store: Store, root: Path, found: Sequence[FoundFile], known: Mapping[str, FileEntry], *, sync: bool
) -> None:
    """Note the folder whose files the index holds, or check that this is the one.

    Ids and sources are paths relative to the folder. Those of a second folder would replace the first one's where names
    agree, and ``sync`` would delete the rest. A folder that was moved or copied is recognised by its files: most of
    them are known by the same path and size.

    Args:
        store: The index's store.
        root: What is about to be indexed: a folder, or a file in it.
        found: Files found there.
        known: Files the index holds.
        sync: Whether files that are not found are about to be deleted.

    Raises:
        IndexMismatchError: The index belongs to another folder.
    """
    if not found:
        return  # nothing that could replace anything; sync itself refuses to empty an index
    with store.reading() as connection:
        owner = Manifest.read(connection).root
    home = str((root if root.is_dir() else root.parent).resolve())
    if owner == home:
        return
    if owner and known and not _same_files(found, known, whole=sync):
        inside = Path(home).is_relative_to(owner)
        advice = (
            "index that folder, with include for this part of it"
            if inside
            else "index this one into an index of its own, or put both under one folder and index that"
        )
        raise IndexMismatchError(
            f"index {str(store.path)!r}: found the files of {owner!r}, asked to index {home!r}; an index belongs to "
            f"one folder: {advice}"
        )
    with store.transaction() as handle:
        # Not a commit of its own: no document changes.
        Manifest.put(handle.connection, "root", home)
    store.reload()


def _same_files(found: Sequence[FoundFile], known: Mapping[str, FileEntry], *, whole: bool) -> bool:
    """Whether most of the files are known under the same path and size.

    Args:
        found: Files of a folder.
        known: Files of the index.
        whole: Of all that are known; else the folder may be a part, or the index may.
    """
    entries = [(file, known.get(file.relative)) for file in found if file.size]
    same = sum(entry is not None and entry.size == file.size for file, entry in entries)
    total = len(known) if whole else min(len(known), len(entries))
    return total > 0 and 2 * same >= total
