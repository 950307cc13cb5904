"""The mapped files: four flat arrays that only grow, and a stamp that says how far they count.

A stamp is replaced atomically after the arrays it describes are on the disk, so a run that dies in between leaves the
old stamp and bytes beyond its sizes, which the next writer overwrites. Readers map no further than their stamp, so
arrays may grow under them. Files of another name are left from an earlier build and are cleared away.
"""

from __future__ import annotations

import json
import os
import secrets
import zlib
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ...files import atomic_file
from ...types import Array
from ..store.schema import State
from ..store.store import Store
from . import ann
from .arrays import RowFile, file_checksum
from .snapshot import Segment

FORMAT = "smart-derived/1"
DTYPES = {"anchors": "<f4", "codes": "u1", "offsets": "<i8", "rowids": "<i8"}
_ENDINGS = {"anchors": "f4", "codes": "u8", "offsets": "i8", "rowids": "i8"}
BATCH = 2000


@dataclass(frozen=True)
class Stamp:
    """What the files mirror."""

    uuid: str  # of the index
    generation: int  # of the codec
    commit: int  # the commit they show
    token: int  # that commit's random token
    name: str  # beginning of the files' names
    rows: int  # in the files, deleted ones included
    tokens: int  # token codes in them
    last_rowid: int  # no row up to here is missing
    anchor_dim: int
    code_width: int
    checksums: dict[str, int]  # CRC-32 of each array
    dead: int = 0  # number of deleted rows; their positions are in ``<name>.dead-<commit>.i64``
    dead_checksum: int = 0  # CRC-32 of that file
    ann: ann.AnnStamp | None = None  # the anchor index beside them

    def shape(self, array: str) -> tuple[int, ...]:
        """Shape of one array."""
        shapes: dict[str, tuple[int, ...]] = {
            "anchors": (self.rows, self.anchor_dim),
            "codes": (self.tokens, self.code_width),
            "offsets": (self.rows + 1,),
            "rowids": (self.rows,),
        }
        return shapes[array]

    def size(self, array: str) -> int:
        """Bytes of one array."""
        return int(np.prod(self.shape(array))) * np.dtype(DTYPES[array]).itemsize

    def to_json(self) -> str:
        """The stamp with its own checksum."""
        body = {"format": FORMAT, **asdict(self)}
        return json.dumps({**body, "checksum": zlib.crc32(json.dumps(body, sort_keys=True).encode())}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Stamp:
        """The inverse of :meth:`to_json`."""
        body = json.loads(text)
        if not isinstance(body, dict) or body.pop("checksum", None) != zlib.crc32(
            json.dumps(body, sort_keys=True).encode()
        ):
            raise ValueError("the stamp does not match its checksum")
        if body.pop("format") != FORMAT:
            raise ValueError("the stamp is of another format")
        found = body.pop("ann", None)
        return cls(**body, ann=None if found is None else ann.AnnStamp(**found))


class MirrorFiles:
    """The folder ``derived/`` of an index; made when something is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, stamp: Stamp, array: str) -> Path:
        return self.folder / f"{stamp.name}.{array}.{_ENDINGS[array]}"

    def _dead_path(self, stamp: Stamp) -> Path:
        return self.folder / f"{stamp.name}.dead-{stamp.commit}.i64"

    # -- reading -----------------------------------------------------------------------------------------------

    def load(self, store: Store) -> tuple[Stamp, Segment, Array] | None:
        """Map the files if they mirror a commit of this very database, whole.

        Reads the stamp, the offsets, the rowids and the positions of deleted rows; anchors and codes are only mapped.

        Returns:
            Stamp, arrays and the positions of deleted rows; ``None`` if anything is missing, stale or damaged.
        """
        for _ in range(5):
            try:
                stamp = Stamp.from_json((self.folder / "stamp.json").read_text(encoding="utf-8"))
            except (OSError, ValueError, TypeError, KeyError):
                return None
            manifest = store.manifest
            token = store.commit_token(stamp.commit)
            mine = (manifest.uuid, store.generation, manifest.anchor_dim, manifest.code_width, token)
            if mine != (stamp.uuid, stamp.generation, stamp.anchor_dim, stamp.code_width, stamp.token):
                return None
            try:
                return stamp, *self._map(stamp)
            except FileNotFoundError:
                continue  # a writer has just replaced them: read its stamp
            except (OSError, ValueError):
                return None
        return None

    def _map(self, stamp: Stamp) -> tuple[Segment, Array]:
        arrays: dict[str, Array] = {}
        for array, dtype in DTYPES.items():
            path, shape, size = self._path(stamp, array), stamp.shape(array), stamp.size(array)
            if path.stat().st_size < size:
                raise ValueError(f"{path.name} is too short")
            # A plain view: np.memmap's own class would slow every small operation down. An empty file cannot be mapped.
            mapped = np.memmap(path, dtype, "r", shape=shape).view(np.ndarray) if size else np.empty(shape, dtype)
            arrays[array] = mapped
        dead = np.fromfile(self._dead_path(stamp), "<i8")
        # Checked on every opening: a wrong number here would read beyond an array.
        if any(zlib.crc32(arrays[name].data) != stamp.checksums[name] for name in ("offsets", "rowids")):
            raise ValueError("offsets or rowids do not match their checksum")
        if zlib.crc32(dead.data) != stamp.dead_checksum:
            raise ValueError("the deleted rows do not match their checksum")
        return Segment(**arrays, file=RowFile(self._path(stamp, "anchors"), arrays["anchors"])), dead

    def verify(self, stamp: Stamp) -> list[str]:
        """Read all arrays and compare them with the stamp's checksums; returns what is wrong, in words."""
        problems = []
        for array in DTYPES:
            path = self._path(stamp, array)
            with suppress(OSError):
                if file_checksum(path, stamp.size(array)) == stamp.checksums[array]:
                    continue
            problems.append(f"derived file {path.name} does not match its checksum")
        return problems if stamp.ann is None else problems + stamp.ann.verify(self.folder)

    # -- writing -----------------------------------------------------------------------------------------------

    def write(
        self,
        store: Store,
        state: State,
        base: Stamp | None = None,
        dead: Array | None = None,
        advance: Callable[[int], None] = lambda rows: None,
    ) -> Stamp:
        """Bring the files up to a commit: append to ``base``, or rewrite all of them without it.

        To be called inside :meth:`Store.reading`, holding the folder's lock.

        Args:
            store: The database.
            state: The commit that the read transaction sees.
            base: The stamp to go on from.
            dead: Positions of deleted rows in ``base``, ``[n]`` int64.
            advance: Called with the number of rows written since the last call.
        """
        self.folder.mkdir(exist_ok=True)
        manifest = store.manifest
        stamp = base or Stamp(
            uuid=manifest.uuid,
            generation=state.generation,
            commit=0,
            token=0,
            name=f"g{secrets.token_hex(5)}",
            rows=0,
            tokens=0,
            last_rowid=0,
            anchor_dim=manifest.anchor_dim,
            code_width=manifest.code_width,
            checksums=dict.fromkeys(DTYPES, 0),
        )
        stamp = self._append(store, stamp, advance, new=base is None)
        positions = np.zeros(0, "<i8") if dead is None else np.asarray(dead, "<i8")
        stamp = replace(
            stamp,
            commit=state.number,
            token=store.commit_token(state.number) or 0,
            last_rowid=state.last_rowid,
            dead=len(positions),
            dead_checksum=zlib.crc32(positions.data),
        )
        with atomic_file(self._dead_path(stamp), durable=True) as partial:
            partial.write_bytes(positions.tobytes())
        self.put(stamp)
        return stamp

    def put(self, stamp: Stamp) -> None:
        """Replace the stamp, once everything that it names is on the disk, and clear away what it does not name."""
        with atomic_file(self.folder / "stamp.json", durable=True) as partial:
            partial.write_text(stamp.to_json(), encoding="utf-8")
        kept = {self._path(stamp, array).name for array in DTYPES} | {self._dead_path(stamp).name}
        kept |= {stamp.ann.file} if stamp.ann is not None else set()
        for path in [*self.folder.glob("g*.*"), *self.folder.glob(".*.part")]:
            if path.suffix in (".f4", ".u8", ".i8", ".i64", ann.SUFFIX, ".part") and path.name not in kept:
                with suppress(OSError):  # Windows keeps what another process has mapped; the next writer tries again
                    path.unlink()

    def _append(self, store: Store, stamp: Stamp, advance: Callable[[int], None], *, new: bool) -> Stamp:
        checksums = dict(stamp.checksums)
        rows, tokens = stamp.rows, stamp.tokens
        with ExitStack() as stack:
            files = {a: stack.enter_context(self._path(stamp, a).open("wb" if new else "r+b")) for a in DTYPES}

            def append(array: str, values: Array) -> None:
                block = np.ascontiguousarray(values, DTYPES[array])
                files[array].write(block.data)
                checksums[array] = zlib.crc32(block.data, checksums[array])

            if new:
                append("offsets", np.zeros(1, np.int64))
            else:
                for array, file in files.items():
                    file.truncate(stamp.size(array))  # bytes of a run that died before its stamp
                    file.seek(stamp.size(array))
            for vectors in store.iterate(BATCH, after=stamp.last_rowid):
                append("rowids", vectors.rowids)
                append("anchors", unit_anchors(vectors.anchors))
                append("codes", vectors.codes)
                append("offsets", vectors.offsets[1:] + tokens)
                rows, tokens = rows + len(vectors.rowids), tokens + len(vectors.codes)
                advance(len(vectors.rowids))
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
        return replace(stamp, rows=rows, tokens=tokens, checksums=checksums)


def unit_anchors(anchors: Array) -> Array:
    """Rows of unit length, float32; rows of zeros stay zeros.

    Not :func:`~smart_retrieval.core.hybrid.unit_rows`, whose last bits differ: files that grow must not mix the two.
    """
    lengths = np.linalg.norm(anchors.astype(np.float64), axis=1, keepdims=True)
    scaled: Array = (anchors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
    return scaled
