"""The mapped files: four flat arrays that only grow, and a stamp that says how far they count.

A stamp is replaced atomically after the arrays it describes are on the disk, so a run that dies in between leaves the
old stamp and bytes beyond its sizes, which the next writer overwrites. Readers map no further than their stamp, so
arrays may grow under them. Files of another name are left from an earlier build and are cleared away.

Every file is compared with its checksum before it is used. Large ones are read for it once, whatever the number of
processes: ``checked.json`` says of which inode, size and times that was. Small ones are read at each opening.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
from collections.abc import Callable, Iterator, Set
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from ...checksums import (
    bytes_checksum,
    file_checksum,
    file_identity,
    known_checksum,
    signed,
    unsigned,
)
from ...files import atomic_file
from ...types import Array
from ..store.lock import file_lock
from ..store.schema import State
from ..store.store import Store
from . import ann
from .ann import AnnStamp
from .arrays import LARGE_BYTES, RowFile
from .column_files import FORMAT as COLUMNS_FORMAT
from .column_files import SUFFIX as COLUMNS_SUFFIX
from .column_files import ColumnsStamp
from .snapshot import Segment

FORMAT = "smart-derived/1"
STAMP, CHECKED = "stamp.json", "checked.json"
DTYPES = {"anchors": "<f4", "codes": "u1", "offsets": "<i8", "rowids": "<i8"}
_ENDINGS = {"anchors": "f4", "codes": "u8", "offsets": "i8", "rowids": "i8"}
_SUFFIXES = (".f4", ".u8", ".i8", ".i64", ann.SUFFIX, COLUMNS_SUFFIX, ".part")
BATCH = 2000
_NAME = re.compile(r"g[0-9a-f]{10}(\.(ann|columns)-[0-9a-f]{8})?")


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
    ann: AnnStamp | None = None  # the anchor index beside them
    columns: tuple[ColumnsStamp, ...] = ()  # the columns of metadata beside them

    @property
    def beside(self) -> tuple[AnnStamp | ColumnsStamp, ...]:
        """What else is there."""
        return (*([] if self.ann is None else [self.ann]), *self.columns)

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
        return math.prod(self.shape(array)) * np.dtype(DTYPES[array]).itemsize

    def to_json(self) -> str:
        """The stamp with its own checksum."""
        return json.dumps(signed({"format": FORMAT, **asdict(self)}), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Stamp:
        """The inverse of :meth:`to_json`."""
        body = unsigned(json.loads(text))
        found, columns = body.pop("ann", None), body.pop("columns", ())
        if found is not None:
            found = AnnStamp(**{part.name: found[part.name] for part in fields(AnnStamp)})
        columns = [one for one in columns if one.get("format") == COLUMNS_FORMAT]
        made = tuple(ColumnsStamp(**{part.name: one[part.name] for part in fields(ColumnsStamp)}) for one in columns)
        others = {part.name: body[part.name] for part in fields(cls) if part.name not in ("ann", "columns")}
        stamp = cls(**others, ann=found, columns=made)
        stamp._check_values()
        return stamp

    def _check_values(self) -> None:
        """Refuse what no writer writes: the names are of files that are opened, and the numbers are of bytes."""
        names, numbers = [self.name], [*self.checksums.values()]
        numbers += [getattr(self, part.name) for part in fields(self) if part.type == "int"]
        for made in self.beside:
            names.append(made.file.removesuffix(ann.SUFFIX).removesuffix(COLUMNS_SUFFIX))
            numbers += [getattr(made, part.name) for part in fields(made) if part.type == "int"]
        if not all(_NAME.fullmatch(name) for name in names) or self.checksums.keys() != DTYPES.keys():
            raise ValueError("it names other files")
        if not all(type(number) is int and 0 <= number < 1 << 62 for number in numbers):
            raise ValueError("it holds other numbers")


class DamagedFileError(ValueError):
    """A mapped file is not what was written; internal, since what follows is that it is written anew."""


class MirrorFiles:
    """The folder ``derived/`` of an index; made when something is written.

    Attributes:
        problem: What was wrong with the files when they were last looked at; empty if nothing was damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problem = ""

    def _path(self, stamp: Stamp, array: str) -> Path:
        return self.folder / f"{stamp.name}.{array}.{_ENDINGS[array]}"

    def _dead_path(self, stamp: Stamp) -> Path:
        return self.folder / f"{stamp.name}.dead-{stamp.commit}.i64"

    def _checksums(self, stamp: Stamp) -> Iterator[tuple[Path, int, int]]:
        """Each file of a stamp but the anchor index, how many of its bytes count, and their checksum."""
        for array in DTYPES:
            yield self._path(stamp, array), stamp.size(array), stamp.checksums[array]
        yield self._dead_path(stamp), 8 * stamp.dead, stamp.dead_checksum

    # -- reading -----------------------------------------------------------------------------------------------

    def load(self, store: Store) -> tuple[Stamp, Segment, Array] | None:
        """Map the files if they mirror a commit of this very database, whole.

        Returns:
            Stamp, arrays and the positions of deleted rows; ``None`` if anything is missing, stale or damaged.
        """
        self.problem = ""
        for _ in range(5):
            try:
                stamp = self.stamp()
                if stamp is None or not _is_of(stamp, store):
                    return None
                for path, size, checksum in self._checksums(stamp):
                    self._check(path, size, checksum)
                return stamp, *self._map(stamp)
            except FileNotFoundError:
                continue  # a writer has just replaced them: read its stamp
            except DamagedFileError as error:
                self.problem = str(error)
                return None
            except (OSError, ValueError):
                return None
        return None

    def stamp(self) -> Stamp | None:
        """The stamp as it lies there; None if there is none."""
        try:
            return Stamp.from_json((self.folder / STAMP).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DamagedFileError(f"derived file {STAMP} is damaged ({error})") from error

    def _check(self, path: Path, size: int, checksum: int) -> None:
        """Compare a file with its checksum, unless somebody did so since it was last written to."""
        identity = file_identity(path)
        if path.is_symlink():  # to a file that an appending writer would change
            raise DamagedFileError(f"derived file {path.name} is a link")
        if identity[1] < size:
            raise DamagedFileError(f"derived file {path.name} is too short")
        noted = self._noted() if size >= LARGE_BYTES else {}
        entry = [*identity, size, checksum]
        if noted.get(path.name) == entry:
            return
        if known_checksum(path, size) != checksum:
            raise DamagedFileError(f"derived file {path.name} does not match its checksum")
        if size >= LARGE_BYTES:
            self._note({**noted, path.name: entry})

    def check_beside(self, stamp: AnnStamp | ColumnsStamp) -> bool:
        """Whether a file is there and what was written."""
        self.problem = ""
        try:
            self._check(self.folder / stamp.file, stamp.size, stamp.checksum)
        except DamagedFileError as error:
            self.problem = str(error)
        except OSError:
            return False
        return not self.problem

    def _noted(self) -> dict[str, list[int]]:
        """Large files that were compared: inode, bytes, times, bytes that count, and checksum, by name."""
        try:
            found = json.loads((self.folder / CHECKED).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _note(self, noted: dict[str, list[int]]) -> None:
        with suppress(OSError), atomic_file(self.folder / CHECKED) as partial:  # it may be a folder of somebody else
            partial.write_text(json.dumps(noted), encoding="utf-8")

    def _map(self, stamp: Stamp) -> tuple[Segment, Array]:
        arrays: dict[str, Array] = {}
        for array, dtype in DTYPES.items():
            path, shape, size = self._path(stamp, array), stamp.shape(array), stamp.size(array)
            # A plain view: np.memmap's own class would slow every small operation down. An empty file cannot be mapped.
            mapped = np.memmap(path, dtype, "r", shape=shape).view(np.ndarray) if size else np.empty(shape, dtype)
            arrays[array] = mapped
        dead = np.fromfile(self._dead_path(stamp), "<i8", stamp.dead)
        # Whoever made them: a wrong number here would read beyond an array.
        offsets, rowids = arrays["offsets"], arrays["rowids"]
        steps = np.diff(offsets)
        if offsets[0] != 0 or offsets[-1] != stamp.tokens or (steps < 0).any() or (np.diff(rowids) <= 0).any():
            raise DamagedFileError("derived files: rows or offsets do not ascend")
        if len(dead) and not 0 <= dead.min() <= dead.max() < stamp.rows:
            raise DamagedFileError("derived files: found deleted rows beyond the last")
        return Segment(**arrays, file=RowFile(self._path(stamp, "anchors"), arrays["anchors"])), dead

    def verify(self, store: Store) -> list[str]:
        """Read all files as they lie, and compare them with their checksums and with the database.

        Returns:
            What is wrong, in words. Files that are missing or of another commit are none: nothing uses them.
        """
        try:
            stamp = self.stamp()
            if stamp is None or not _is_of(stamp, store):
                return []
            files = list(self._checksums(stamp))
            files += [(self.folder / made.file, made.size, made.checksum) for made in stamp.beside]
        except DamagedFileError as error:
            return [str(error)]
        except (OSError, TypeError, KeyError, ValueError) as error:
            return [f"derived file {STAMP} is damaged ({error})"]
        problems = []
        for path, size, checksum in files:
            with suppress(OSError):
                if path.stat().st_size >= size and file_checksum(path, size) == checksum:
                    continue
            problems.append(f"derived file {path.name} does not match its checksum")
        return problems or self._differences(stamp, store)

    def _differences(self, stamp: Stamp, store: Store) -> list[str]:
        """Whether the rows are those of the database."""
        try:
            segment, dead = self._map(stamp)
        except (OSError, ValueError) as error:
            return [str(error)]
        gone = np.union1d(segment.rowids[dead], store.deleted_since(stamp.commit))
        seen, wrong = 0, 0
        for vectors in store.iterate(BATCH):
            known = vectors.rowids <= stamp.last_rowid
            here, places = segment.places(vectors.rowids[known])
            seen += len(places)
            if not here.all():
                wrong += int(np.count_nonzero(~here))
                continue
            lengths = np.diff(vectors.offsets)[: len(places)]
            if not np.array_equal(segment.offsets[places + 1] - segment.offsets[places], lengths):
                wrong += 1
                continue
            own = vectors.codes[: vectors.offsets[len(places)]]
            rows = np.repeat(segment.offsets[places] - vectors.offsets[: len(places)], lengths) + np.arange(len(own))
            same = np.array_equal(segment.anchors[places], unit_anchors(vectors.anchors[: len(places)]))
            wrong += not (same and np.array_equal(segment.codes[rows], own))
        wrong += seen + int(np.isin(segment.rowids, gone).sum()) != len(segment.rowids)
        return ["the derived files do not hold what the database holds"] if wrong else []

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
        stamp = base or empty_stamp(store, state)
        stamp = self._append(store, stamp, advance, new=base is None)
        positions = np.zeros(0, "<i8") if dead is None else np.asarray(dead, "<i8")
        stamp = replace(
            stamp,
            commit=state.number,
            token=store.commit_token(state.number) or 0,
            last_rowid=state.last_rowid,
            dead=len(positions),
            dead_checksum=bytes_checksum(positions),
        )
        with atomic_file(self._dead_path(stamp), durable=True) as partial:
            partial.write_bytes(positions.tobytes())
        self.put(stamp)
        return stamp

    def put(self, stamp: Stamp) -> None:
        """Replace the stamp, once everything that it names is on the disk, and clear away what it does not name."""
        # What was just written needs no reading.
        large = [entry for entry in self._checksums(stamp) if entry[1] >= LARGE_BYTES]
        if large:
            self._note({path.name: [*file_identity(path), size, checksum] for path, size, checksum in large})
        with atomic_file(self.folder / STAMP, durable=True) as partial:
            partial.write_text(stamp.to_json(), encoding="utf-8")
        kept = {self._path(stamp, array).name for array in DTYPES} | {self._dead_path(stamp).name}
        self._clear(kept | {made.file for made in stamp.beside})

    def clear(self) -> None:
        """Remove files that are of no use to a small index any more, unless another process is writing."""
        with suppress(OSError):
            if not (self.folder / STAMP).exists():
                return
            with file_lock(self.folder / "lock", 0) as held:
                if held:
                    (self.folder / STAMP).unlink(missing_ok=True)
                    (self.folder / CHECKED).unlink(missing_ok=True)
                    self._clear(set())

    def _clear(self, kept: Set[str]) -> None:
        for path in [*self.folder.glob("g*.*"), *self.folder.glob(".*.part")]:
            if path.suffix in _SUFFIXES and path.name not in kept:
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
                checksums[array] = bytes_checksum(block, checksums[array])

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


def empty_stamp(store: Store, state: State) -> Stamp:
    """Of no rows yet."""
    manifest = store.manifest
    return Stamp(
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


def _is_of(stamp: Stamp, store: Store) -> bool:
    """Whether a stamp is of this database, its codec, and a commit of its history."""
    manifest = store.manifest
    token = store.commit_token(stamp.commit)
    mine = (manifest.uuid, store.generation, manifest.anchor_dim, manifest.code_width, token)
    return mine == (stamp.uuid, stamp.generation, stamp.anchor_dim, stamp.code_width, stamp.token)


def unit_anchors(anchors: Array) -> Array:
    """Rows of unit length, float32; rows of zeros stay zeros.

    Not :func:`~smart_retrieval.core.hybrid.unit_rows`, whose last bits differ: files that grow must not mix the two.
    """
    lengths = np.linalg.norm(anchors.astype(np.float64), axis=1, keepdims=True)
    scaled: Array = (anchors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
    return scaled
