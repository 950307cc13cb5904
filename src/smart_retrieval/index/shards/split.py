"""Splitting an index into shards and putting shards together: codes, anchors and IDF counts are copied as they are."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

from ...errors import IndexFormatError, IndexMismatchError, SmartError
from ...files import settled
from ...types import Array
from ..document_store import DocumentStore
from ..smart_index import SmartIndex
from ..store.folder import FILE
from ..store.manifest import Manifest
from ..store.records import Record
from ..store.store import Store

_BATCH = 1000
# What the shards of one index have in common, and indexes that are merged.
_COMMON = (
    "model", "codec", "anchor_dim", "code_width", "readout", "prompts", "pooling", "scoring", "lexical", "folding",
    "language", "root",
)  # fmt: skip


def shard_of(id: str, shards: int) -> int:
    """The number of the shard that a document is in, from 0.

    Example:
        >>> [shard_of(id, 4) for id in ("guide.md#1", "guide.md#2", "guide.md#3")]
        [1, 0, 0]
    """
    return int.from_bytes(hashlib.sha256(id.encode()).digest()[:8], "big") % shards


def as_shard(manifest: Manifest, whole: str, number: int, shards: int) -> Manifest:
    """The manifest of one shard of an index, all of which are known by the name of the ``whole``."""
    limits = {**manifest.limits, "codec": manifest.codec, "shard": [number, shards], "whole": whole}
    return replace(manifest, limits=limits, uuid=uuid4().hex)


def shard_folders(folder: str | Path) -> list[Path]:
    """The shards in a folder that :func:`split_index` wrote, in their order; none where there are none."""
    return sorted(place.parent for place in Path(folder).glob(f"shard-*/{FILE}"))


def split_index(index: SmartIndex, folder: str | Path, shards: int) -> list[Path]:
    """Copy an index into shards, which :class:`ShardedIndex` searches as one.

    A document's shard follows from its id. All shards have the index's codec, for good, and its calibration: the codec
    of an index that is to grow should be fitted before (``optimize``). Files are not indexed into a shard: to take up
    new ones, add to the :class:`ShardedIndex`, or index the folder into the whole index and split that again.

    Args:
        index: The index; it stays as it is.
        folder: Where the shards are written, as ``shard-00000``, ...; it must not exist, or be empty.
        shards: How many.

    Returns:
        The shards' folders.

    Raises:
        SmartError: ``shards`` is not at least 1, or there are no documents.
        IndexFormatError: Something is in the folder already.

    Example:
        >>> split_index(index, "docs.shards", 4)  # doctest: +SKIP
    """
    if shards < 1:
        raise SmartError(f"split: found {shards} shards, expected 1 or more")
    if not len(index):
        raise SmartError(f"split: found no documents in {str(index.path)!r}, expected some: there is nothing to split")
    whole, calibration = uuid4().hex, index.calibration().to_dict()

    def manifest(number: int) -> Manifest:
        return as_shard(replace(index.store.manifest, calibration=calibration), whole, number, shards)

    with written(folder) as partial, ExitStack() as stack, index.store.reading():
        stores = [
            stack.enter_context(Store.create(partial / f"shard-{number:05d}", manifest(number), index.store.codec()))
            for number in range(shards)
        ]
        for records in stored_records(index.store):
            for number, store in enumerate(stores):
                store.add([record for record in records if shard_of(record.id, shards) == number])
        for path, entry in index.store.files.all().items():
            stores[shard_of(path, shards)].files.put(entry)
    return shard_folders(folder)


def merge_indexes(indexes: Sequence[SmartIndex], path: str | Path) -> Path:
    """Copy shards, or any indexes of one model and codec, into one new index.

    Args:
        indexes: The indexes; they stay as they are.
        path: The new index's folder; it must not exist, or be empty.

    Returns:
        Its path.

    Raises:
        IndexMismatchError: They were made with different models, settings or codecs, or of a split index one is
            missing.
        DuplicateIdError: Two of them hold a document of one id.
        IndexFormatError: Something is in the folder already.
    """
    first = check_alike([one.store for one in indexes])
    own = {key: value for key, value in first.limits.items() if key not in ("shard", "whole")}
    same = all(one.store.manifest.calibration == first.calibration for one in indexes)
    manifest = replace(first, limits=own, calibration=first.calibration if same else {}, uuid=uuid4().hex)
    with written(path) as partial:
        with Store.create(partial, manifest, indexes[0].store.codec()) as store:
            for one in indexes:
                with one.store.reading():
                    for records in stored_records(one.store):
                        store.add(records)
                    for entry in one.store.files.all().values():
                        store.files.put(entry)
        with SmartIndex.open(partial, indexes[0].encoder.given) as merged:
            merged.optimize()
    return settled(path)


def check_alike(stores: Sequence[DocumentStore]) -> Manifest:
    """The manifest of the first, once all are known to be of one model, settings and codec, and no shard is missing."""
    if not stores:
        raise IndexMismatchError("found no index, expected one or more")
    manifests = [one.manifest for one in stores]
    for (left, before), (right, after) in pairwise(zip(stores, manifests, strict=True)):
        different = differences(before, after)
        if not different and left.codec() != right.codec():
            different = ["codec's tables: fit one codec and share it"]
        if different:
            raise IndexMismatchError(
                f"found {str(left.path)!r} and {str(right.path)!r}, which differ in {', '.join(different)}; expected "
                "indexes of one model, settings and codec"
            )
    parts = [(one.limits.get("whole"), *one.limits.get("shard", (0, 0))) for one in manifests]
    _check_whole([part for part in parts if part[0] is not None], len(parts))
    return manifests[0]


def differences(before: Manifest, after: Manifest) -> list[str]:
    """In what two manifests differ that those of the shards of one index do not."""
    return [name for name in _COMMON if getattr(before, name) != getattr(after, name)]


def _check_whole(parts: Sequence[tuple[Any, ...]], given: int) -> None:
    """Refuse shards of different splits, one shard twice, and a split of which a shard is missing."""
    if not parts:
        return
    count = parts[0][2]
    wanted = {(parts[0][0], number, count) for number in range(count)}
    if given != count or set(parts) != wanted:
        missing = sorted(part[1] for part in wanted - set(parts))
        raise IndexMismatchError(
            f"found {given} indexes, expected all {count} shards of one split, each once"
            + (f"; missing: {', '.join(map(str, missing))}" if missing else "")
        )


@contextmanager
def written(folder: str | Path) -> Iterator[Path]:
    """A folder written under another name, which takes its own when all went well and disappears otherwise."""
    target = settled(folder)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise IndexFormatError(f"found something at {str(target)!r} already; name another folder, or remove it")
    partial = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
    partial.mkdir(parents=True)
    try:
        yield partial
        if target.exists():
            target.rmdir()
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def stored_records(store: Store, rowids: Array | None = None, batch: int = _BATCH) -> Iterator[list[Record]]:
    """Documents as they are stored, in order; wrap the loop in ``store.reading()`` to see one commit.

    Args:
        store: Where they are.
        rowids: Which; all when None.
        batch: Documents a list.
    """
    parts = (
        store.iterate(batch)
        if rowids is None
        else (store.read_vectors(rowids[start : start + batch]) for start in range(0, len(rowids), batch))
    )
    for vectors in parts:
        documents = store.get(rowids=vectors.rowids)
        yield [
            Record(
                document.id,
                vectors.anchors[i],
                vectors.codes[vectors.offsets[i] : vectors.offsets[i + 1]],
                vectors.token_ids[vectors.id_offsets[i] : vectors.id_offsets[i + 1]],
                document.text,
                document.source,
                document.page,
                document.heading,
                document.metadata,
                document.media,
            )
            for i, document in enumerate(documents)
        ]
