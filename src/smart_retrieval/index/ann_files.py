"""The anchor index as a derived file: written, found again, checked.

The stamp of the derived files (:class:`~smart_retrieval.index.derived_files.Stamp`) names it together with its size and
checksums, so that it can belong to no other rows. What faiss reads when it opens the file (everything but codes and
ids) is checked each time; codes and ids stay mapped, and a wrong one costs a candidate, no more.
"""

from __future__ import annotations

import os
import secrets
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import MissingExtraError, SmartWarning
from ..extras import require
from ..progress import progress
from .ann import AnchorIndex
from .ann_build import build, calibrate, extend
from .records import Array

SUFFIX = ".faiss"
_BYTES_AT_ONCE = 1 << 22
_BAR_FROM = 100_000
_warned = False


@dataclass(frozen=True)
class AnnStamp:
    """What is known about the file.

    Args:
        file: Its name.
        rows: Rows of the base that it covers.
        trained: Rows there were when it was trained.
        probes: Lists to look into.
        size: Bytes.
        head: Bytes that are not codes or ids.
        head_checksum: CRC-32 of them.
        checksum: CRC-32 of the file.
    """

    file: str
    rows: int
    trained: int
    probes: int
    size: int
    head: int
    head_checksum: int
    checksum: int


def faiss_module() -> Any | None:
    """The faiss module, or None after a warning (once) where it is not installed.

    Warns:
        SmartWarning: It is not installed.
    """
    global _warned
    try:
        return require("faiss", "ann")
    except MissingExtraError as error:
        if not _warned:
            _warned = True
            warnings.warn(f"every search reads all anchors of this large index: {error}", SmartWarning, stacklevel=2)
        return None


def load(faiss: Any, folder: Path, stamp: AnnStamp, anchor_dim: int) -> AnchorIndex | None:
    """Map the file; None if it is missing or not what was written."""
    path = folder / stamp.file
    try:
        if path.stat().st_size != stamp.size or _checksum(path, stamp.head) != stamp.head_checksum:
            return None
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except (OSError, RuntimeError):
        return None
    if not isinstance(index, faiss.IndexIVFScalarQuantizer) or (index.d, index.ntotal) != (anchor_dim, stamp.rows):
        return None
    return AnchorIndex(faiss, index, stamp.rows, stamp.probes)


def write(faiss: Any, folder: Path, name: str, anchors: Array, before: AnnStamp | None) -> AnnStamp:
    """Build a file over all anchors of the base, or write an earlier one with the newer rows added.

    Args:
        faiss: The module.
        folder: Where.
        name: The base's name.
        anchors: The base's anchors, ``[n, Da]``.
        before: A file to go on from. It is trained anew once its rows have doubled.
    """
    if before is not None and len(anchors) < 2 * before.trained and _checksum(folder / before.file) == before.checksum:
        index, trained, probes = faiss.read_index(str(folder / before.file)), before.trained, before.probes
        extend(index, anchors, lambda rows: None)
    else:
        with progress("Indexing anchors", len(anchors), None if len(anchors) >= _BAR_FROM else False) as advance:
            index, trained = build(faiss, anchors, advance), len(anchors)
            probes = calibrate(faiss, index, anchors)
    path = folder / f"{name}.ann-{secrets.token_hex(4)}{SUFFIX}"
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:  # faiss's own, a full disk for one
        path.unlink(missing_ok=True)
        raise OSError(f"{path.name} cannot be written ({error})") from error
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    size = path.stat().st_size
    head = size - len(anchors) * (int(index.code_size) + 8)
    return AnnStamp(path.name, len(anchors), trained, probes, size, head, _checksum(path, head), _checksum(path))


def verify(folder: Path, stamp: AnnStamp) -> list[str]:
    """Read the whole file; what is wrong with it, in words."""
    path = folder / stamp.file
    try:
        whole = path.stat().st_size == stamp.size and _checksum(path) == stamp.checksum
    except OSError:
        whole = False
    return [] if whole else [f"derived file {path.name} does not match its checksum"]


def _checksum(path: Path, size: int | None = None) -> int:
    """CRC-32 of a file, or of its first bytes."""
    checksum, left = 0, path.stat().st_size if size is None else size
    with path.open("rb") as file:
        while left > 0 and (block := file.read(min(left, _BYTES_AT_ONCE))):
            checksum, left = zlib.crc32(block, checksum), left - len(block)
    return checksum
