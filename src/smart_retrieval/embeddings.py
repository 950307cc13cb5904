"""SmartEmbeddings: the anchors and token vectors of a batch, in memory and on disk."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import ArrayLike

from .checksums import arrays_checksum, bytes_checksum, file_checksum, known_checksum, signed, unsigned
from .errors import EmbeddingsError
from .files import atomic_file, naming, settled
from .types import Array, EncodingReport

FORMAT = "smart-embeddings/1"
_ARRAYS = ("anchors", "token_vectors", "offsets", "token_ids", "roles", "grid_rows", "grid_offsets")
# Offsets of items begin with a row that no batch brings along.
_FIRST: dict[str, Array] = dict.fromkeys(("offsets", "grid_offsets"), np.zeros(1, np.int64))
_ABOUT = "embeddings.json"
_GRID_KINDS = ("image", "video", "audio")


class TokenStrings(Protocol):
    """What is needed of a tokenizer here: ids to strings."""

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        """The vocabulary's strings of these ids."""
        ...


class Grid(NamedTuple):
    """One picture's, video's or sound's place among an item's tokens: t x h x w of them, row by row.

    Sound is one row of one step: w tokens in the order of time.

    Example:
        >>> Grid("image", 1, 3, 4).tokens
        12
    """

    kind: str  # "image", "video" or "audio"
    t: int
    h: int
    w: int

    @property
    def tokens(self) -> int:
        """Token vectors it covers."""
        return self.t * self.h * self.w


class SmartEmbeddings:
    """A ragged batch of N items: an anchor each, and T_i token vectors each.

    Args:
        anchors: ``[N, Da]`` float, as the backbone gives them (unit length only if the backbone normalises).
        token_vectors: ``[sum T_i, Dt]`` float, unit length, items one after another.
        offsets: ``[N + 1]`` int64; item i owns rows ``offsets[i]:offsets[i + 1]``.
        token_ids: ``[sum T_i]`` int32 vocabulary ids, -1 where a position has none; all -1 when left out.
        roles: ``[sum T_i]`` uint8, each token's role (text, prompt, image, ...); all text when left out.
        grids: The visual grids of each item, in the order of its visual tokens; none when left out.
        tokenizer: Turns ids into strings for :meth:`token_strings`; not saved.
        report: What the encoding met.

    Raises:
        EmbeddingsError: The shapes do not fit together.

    Example:
        >>> import numpy as np
        >>> two = SmartEmbeddings(np.eye(2, 4), np.eye(3, 4), [0, 1, 3])
        >>> len(two), two[1].token_vectors.shape, two.lengths.tolist()
        (2, (2, 4), [1, 2])
    """

    def __init__(
        self,
        anchors: ArrayLike,
        token_vectors: ArrayLike,
        offsets: ArrayLike,
        token_ids: ArrayLike | None = None,
        roles: ArrayLike | None = None,
        *,
        grids: Sequence[Sequence[Grid]] | None = None,
        tokenizer: TokenStrings | None = None,
        report: EncodingReport | None = None,
    ) -> None:
        self.anchors: Array = np.asanyarray(anchors)
        self.token_vectors: Array = np.asanyarray(token_vectors)
        self.offsets: Array = np.asarray(offsets, dtype=np.int64)
        total = self.token_vectors.shape[0] if self.token_vectors.ndim else 0
        self.token_ids: Array = (
            np.full(total, -1, np.int32) if token_ids is None else np.asanyarray(token_ids, dtype=np.int32)
        )
        # 3 is TokenRole.TEXT; the name is not imported, so that this file knows arrays only.
        self.roles: Array = np.full(total, 3, np.uint8) if roles is None else np.asanyarray(roles, dtype=np.uint8)
        self.grid_rows, self.grid_offsets = _grid_arrays(grids, len(self.anchors) if self.anchors.ndim else 0)
        self.tokenizer = tokenizer
        self._check()
        self.report = report if report is not None else EncodingReport(items=len(self.anchors))

    def _check(self) -> None:
        if self.anchors.ndim != 2 or self.token_vectors.ndim != 2:
            raise EmbeddingsError(
                f"found anchors of shape {self.anchors.shape} and token vectors of shape {self.token_vectors.shape}, "
                "expected [N, Da] and [tokens, Dt]"
            )
        total = len(self.token_vectors)
        offsets = self.offsets
        well_formed = offsets.shape == (len(self.anchors) + 1,) and offsets[0] == 0 and offsets[-1] == total
        if not well_formed or (np.diff(offsets) < 0).any():
            shown = offsets.tolist() if offsets.size < 9 else f"of shape {offsets.shape}"
            raise EmbeddingsError(
                f"found offsets {shown} for {len(self.anchors)} items "
                f"and {total} token vectors, expected N + 1 ascending numbers from 0 to {total}"
            )
        for name in ("token_ids", "roles"):
            if getattr(self, name).shape != (total,):
                raise EmbeddingsError(f"found {name} of shape {getattr(self, name).shape}, expected ({total},)")

    def _check_grids(self) -> None:
        rows, offsets = self.grid_rows, self.grid_offsets
        bounds = offsets.shape == (len(self) + 1,) and offsets[0] == 0 and offsets[-1] == len(rows)
        if rows.ndim != 2 or rows.shape[1] != 4 or not bounds or (np.diff(offsets) < 0).any():
            raise EmbeddingsError(
                f"found grid_rows of shape {rows.shape} and grid_offsets of shape {offsets.shape} for {len(self)} "
                "items, expected [G, 4] and N + 1 ascending numbers from 0 to G"
            )
        if len(rows) and (not np.isin(rows[:, 0], range(len(_GRID_KINDS))).all() or (rows[:, 1:] < 1).any()):
            raise EmbeddingsError("found grid_rows that are no kind (0 to 2) and three sizes above 0")

    # -- size and shape ----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.anchors)

    @property
    def anchor_dim(self) -> int:
        """Da."""
        return int(self.anchors.shape[1])

    @property
    def token_dim(self) -> int:
        """Dt."""
        return int(self.token_vectors.shape[1])

    @property
    def lengths(self) -> Array:
        """Token vectors of each item, ``[N]`` int64."""
        return np.diff(self.offsets)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.to_numpy().values())

    @property
    def grids(self) -> list[tuple[Grid, ...]]:
        """The visual grids of each item, in the order of its visual tokens; empty for text."""
        rows = [Grid(_GRID_KINDS[kind], t, h, w) for kind, t, h, w in self.grid_rows.tolist()]
        bounds = self.grid_offsets.tolist()
        return [tuple(rows[start:stop]) for start, stop in pairwise(bounds)]

    def __repr__(self) -> str:
        return (
            f"SmartEmbeddings({len(self)} items, anchors {self.anchor_dim}d, "
            f"{len(self.token_vectors)} token vectors {self.token_dim}d {self.token_vectors.dtype})"
        )

    # -- items -------------------------------------------------------------------------------------------------

    def __array__(self, *_: Any, **__: Any) -> Array:
        raise EmbeddingsError("found embeddings, which are several arrays; take .anchors or .token_vectors")

    def __getitem__(self, key: int | slice | Sequence[int] | Array) -> SmartEmbeddings:
        """One item, a slice or chosen items, always as a batch; a slice of step 1 copies nothing."""
        size = len(self)
        if isinstance(key, int | np.integer) and not isinstance(key, bool):
            if not -size <= key < size:
                raise IndexError(f"found index {key}, expected one below {size}")
            key = slice(int(key) % size, int(key) % size + 1)
        if isinstance(key, slice):
            start, stop, step = key.indices(size)
            if step == 1:
                return self._part(slice(start, max(start, stop)))
            key = np.arange(start, stop, step)
        chosen = np.asarray(key)
        if chosen.dtype == bool:
            if chosen.shape != (size,):
                raise IndexError(f"found a mask of shape {chosen.shape}, expected ({size},)")
            chosen = chosen.nonzero()[0]
        if chosen.size and not np.issubdtype(chosen.dtype, np.integer):
            raise IndexError(f"found indices of type {chosen.dtype}, expected whole numbers or a mask")
        if chosen.size and (chosen.min() < -size or chosen.max() >= size):
            raise IndexError(f"found an index beyond {size} items")
        return self._part(chosen.astype(np.int64) % max(size, 1))

    def _part(self, items: slice | Array) -> SmartEmbeddings:
        tokens, offsets = _rows(self.offsets, items)
        grids, grid_offsets = _rows(self.grid_offsets, items)
        arrays = {name: getattr(self, name)[tokens] for name in ("token_vectors", "token_ids", "roles")}
        arrays |= {"anchors": self.anchors[items], "offsets": offsets}
        return self._of(arrays | {"grid_rows": self.grid_rows[grids], "grid_offsets": grid_offsets}, self.tokenizer)

    def __iter__(self) -> Iterator[SmartEmbeddings]:
        return (self[index] for index in range(len(self)))

    def with_rows(self, kept: Array) -> SmartEmbeddings:
        """The same items with some of their token vectors, without grids: a visual token may be missing.

        Args:
            kept: ``[sum T_i]`` bool.
        """
        arrays = {name: getattr(self, name)[kept] for name in ("token_vectors", "token_ids", "roles")}
        offsets = np.concatenate([[0], np.cumsum(kept)])[self.offsets]
        return self._of(arrays | {"anchors": self.anchors, "offsets": offsets}, self.tokenizer, self.report)

    def token_strings(self, index: int, tokenizer: TokenStrings | None = None) -> list[str]:
        """The token strings of one item, as the vocabulary spells them; ``""`` where a position has no id.

        Args:
            index: The item.
            tokenizer: Needed only for embeddings that were loaded from disk: ``model.tokenizer``.

        Raises:
            EmbeddingsError: There is no tokenizer.
        """
        tokenizer = tokenizer or self.tokenizer
        if tokenizer is None:
            raise EmbeddingsError("found no tokenizer beside these embeddings; pass tokenizer=model.tokenizer")
        ids = self[index].token_ids.tolist()
        known = iter(tokenizer.convert_ids_to_tokens([i for i in ids if i >= 0]))
        return [next(known) if i >= 0 else "" for i in ids]

    @classmethod
    def concatenate(cls, parts: Iterable[SmartEmbeddings]) -> SmartEmbeddings:
        """All items of several batches, in order; of parts that an iterator gives, one at most is in memory twice.

        Raises:
            EmbeddingsError: No part, or widths that differ.
        """
        left = list(parts)
        if not left:
            raise EmbeddingsError("found nothing to concatenate, expected at least one batch")
        widths = {(part.anchor_dim, part.token_dim) for part in left}
        if len(widths) > 1:
            raise EmbeddingsError(f"found widths {sorted(widths)} (anchor, token), expected the same in every part")
        groups: list[tuple[list[SmartEmbeddings], Array | None]] = [([part], None) for part in left]
        del left
        return cls.in_order(groups)

    @classmethod
    def in_order(cls, groups: list[tuple[list[SmartEmbeddings], Array | None]]) -> SmartEmbeddings:
        """All items of groups of batches, group after group, copying every token vector once.

        Args:
            groups: Batches of equal widths, and in which order their items come: ``[N]`` int64, indices into those of
                the group's batches one after another; None for the order they are in. The list is emptied: each group
                is let go once it is copied.
        """
        batches = [batch for group, _ in groups for batch in group]
        if len(batches) == 1 and _is_ascending(groups[0][1]):
            return batches[0]
        dtype = np.result_type(*(batch.token_vectors.dtype for batch in batches))
        vectors = np.empty((sum(len(batch.token_vectors) for batch in batches), batches[0].token_dim), dtype)
        tokenizer, report = batches[0].tokenizer, sum((batch.report for batch in batches), EncodingReport())
        del batches
        pieces = {name: [_FIRST[name]] if name in _FIRST else [] for name in _ARRAYS if name != "token_vectors"}
        tokens = grids = 0
        while groups:
            group, order = groups.pop(0)
            arrays = _joined(group, order)
            arrays |= {"offsets": arrays["offsets"][1:] + tokens, "grid_offsets": arrays["grid_offsets"][1:] + grids}
            for name, array in arrays.items():
                pieces[name].append(array)
            grids += len(arrays["grid_rows"])
            for rows in _vectors(group, order):
                vectors[tokens : tokens + len(rows)] = rows
                tokens += len(rows)
        joined = {name: np.concatenate(own) for name, own in pieces.items()}
        return cls._of(joined | {"token_vectors": vectors}, tokenizer, report)

    def astype(self, dtype: str) -> SmartEmbeddings:
        """The same batch with token vectors of another dtype, ``"float16"`` for one; anchors stay as they are."""
        vectors = self.token_vectors.astype(dtype)
        return self._of(self.to_numpy() | {"token_vectors": vectors}, self.tokenizer, self.report)

    # -- NumPy and files ---------------------------------------------------------------------------------------

    def to_numpy(self) -> dict[str, Array]:
        """The arrays by name: anchors, token_vectors, offsets, token_ids, roles, grid_rows, grid_offsets."""
        return {name: getattr(self, name) for name in _ARRAYS}

    @classmethod
    def from_numpy(cls, arrays: Mapping[str, ArrayLike]) -> SmartEmbeddings:
        """Embeddings from :meth:`to_numpy`'s arrays; all but the first three may be left out.

        Raises:
            EmbeddingsError: An array is missing, unknown or of the wrong shape.
        """
        missing = [name for name in _ARRAYS[:3] if name not in arrays]
        unknown = sorted(set(arrays) - set(_ARRAYS))
        if missing or unknown:
            raise EmbeddingsError(f"found arrays {sorted(arrays)}: missing {missing}, unknown {unknown}")
        embeddings = cls._of(arrays)
        embeddings._check_grids()
        return embeddings

    @classmethod
    def _of(
        cls,
        arrays: Mapping[str, ArrayLike],
        tokenizer: TokenStrings | None = None,
        report: EncodingReport | None = None,
    ) -> SmartEmbeddings:
        tokens = (arrays["token_vectors"], arrays["offsets"], arrays.get("token_ids"), arrays.get("roles"))
        embeddings = cls(arrays["anchors"], *tokens, tokenizer=tokenizer, report=report)
        if "grid_rows" in arrays and "grid_offsets" in arrays:
            embeddings.grid_rows = np.asanyarray(arrays["grid_rows"])
            embeddings.grid_offsets = np.asarray(arrays["grid_offsets"], np.int64)
        return embeddings

    def save(self, path: str | Path) -> Path:
        """Write to one ``.safetensors`` file, or to a folder that can be memory-mapped.

        Args:
            path: A name that ends in ``.safetensors``, or a folder.

        Returns:
            The path written.
        """
        path = Path(path)
        if path.suffix == ".safetensors":
            from safetensors.numpy import save_file

            arrays = {name: np.ascontiguousarray(array) for name, array in self.to_numpy().items()}
            about = {"format": FORMAT, "report": json.dumps(self.report.to_dict())}
            with atomic_file(path) as partial:
                save_file(arrays, partial, about | {"crc32": str(arrays_checksum(about, arrays))})
        else:
            with EmbeddingsWriter(path) as writer:
                writer.append(self)
        return path

    @classmethod
    def load(cls, path: str | Path, *, mmap: bool = False) -> SmartEmbeddings:
        """Read what :meth:`save` or a streamed encoding wrote.

        Args:
            path: The file or folder.
            mmap: Map a folder's arrays into memory instead of reading them.

        Raises:
            EmbeddingsError: The file is missing, damaged or of another format.
        """
        path = Path(path)
        if not path.exists():
            raise EmbeddingsError(f"embeddings {str(path)!r}: found no such file or folder")
        try:
            arrays, about = _read_folder(path, mmap) if path.is_dir() else _read_safetensors(path)
            report = EncodingReport.from_dict(about["report"])
        except EmbeddingsError:
            raise
        except Exception as error:  # a damaged file raises many kinds
            reason = f"{type(error).__name__}: {error}"
            raise EmbeddingsError(f"embeddings {str(path)!r}: cannot be read ({reason})") from error
        embeddings = cls.from_numpy(arrays)
        embeddings.report = report
        return embeddings


def _grid_arrays(grids: Sequence[Sequence[Grid]] | None, items: int) -> tuple[Array, Array]:
    """Grids as ``[G, 4]`` int32 (kind, t, h, w) and offsets ``[N + 1]`` int64."""
    if grids is None:
        return np.zeros((0, 4), np.int32), np.zeros(items + 1, np.int64)
    if len(grids) != items:
        raise EmbeddingsError(f"found grids of {len(grids)} items, expected {items}")
    rows = [[_GRID_KINDS.index(kind), t, h, w] for own in grids for kind, t, h, w in own]
    offsets = np.cumsum([0, *(len(own) for own in grids)])
    return np.asarray(rows, np.int32).reshape(-1, 4), offsets


def _rows(offsets: Array, items: slice | Array) -> tuple[slice | Array, Array]:
    """Rows of chosen items of a ragged array (slices are of step 1), and the offsets of those items alone."""
    if isinstance(items, slice):
        own = offsets[items.start : items.stop + 1]
        return slice(int(own[0]), int(own[-1])), own - own[0]
    lengths = np.diff(offsets)[items]
    own = np.concatenate([[0], np.cumsum(lengths)])
    # Row r of the result is row (start of its item) + (r - start of its item in the result) of this batch.
    return np.repeat(offsets[items] - own[:-1], lengths) + np.arange(own[-1]), own


def _is_ascending(order: Array | None) -> bool:
    return order is None or bool((np.diff(order) > 0).all())


def _joined(batches: Sequence[SmartEmbeddings], order: Array | None) -> dict[str, Array]:
    """All arrays of these batches but the token vectors, their items in this order."""
    names = ("anchors", "token_ids", "roles", "grid_rows")
    arrays = {name: np.concatenate([getattr(batch, name) for batch in batches]) for name in names}
    for name, flat in (("offsets", ("token_ids", "roles")), ("grid_offsets", ("grid_rows",))):
        lengths = [np.diff(getattr(batch, name)) for batch in batches]
        offsets = np.concatenate([_FIRST[name], *lengths]).cumsum()
        rows, arrays[name] = _rows(offsets, slice(0, len(offsets) - 1) if order is None else order)
        arrays |= {one: arrays[one][rows] for one in flat}
    return arrays if order is None else arrays | {"anchors": arrays["anchors"][order]}


def _vectors(batches: Sequence[SmartEmbeddings], order: Array | None) -> Iterator[Array]:
    """Views of the token vectors of these batches, their items in this order."""
    if order is None:
        yield from (batch.token_vectors for batch in batches)
    else:
        items = [rows for batch in batches for rows in np.split(batch.token_vectors, batch.offsets[1:-1])]
        yield from (items[place] for place in order)


def _continuing(batch: SmartEmbeddings, tokens: int, grids: int) -> dict[str, Array]:
    """A batch's arrays as they continue those of earlier batches, which have so many tokens and grids in all."""
    offsets = {"offsets": batch.offsets[1:] + tokens, "grid_offsets": batch.grid_offsets[1:] + grids}
    return batch.to_numpy() | offsets


def _read_folder(path: Path, mmap: bool) -> tuple[dict[str, Array], dict[str, Any]]:
    about = path / _ABOUT
    if not about.is_file():
        raise EmbeddingsError(
            f"embeddings {str(path)!r}: found no {_ABOUT}: not a folder of embeddings, or its encoding was cut "
            "off; encode again"
        )
    facts = json.loads(about.read_text(encoding="utf-8"))
    _check_format(path, facts.get("format"))
    facts = unsigned(facts, optional=True)
    checksums = facts.pop("arrays", None)  # those of the first versions have none
    arrays = {}
    for name in _ARRAYS:
        file, is_grid = path / f"{name}.npy", name.startswith("grid_")
        # Folders of the first versions have no grids. Grids are few, and an array without rows cannot be mapped.
        if checksums is not None or not is_grid or file.is_file():
            arrays[name] = np.load(file, mmap_mode="r" if mmap and not is_grid else None, allow_pickle=False)
            if checksums is not None and _array_entry(arrays[name], file) != checksums[name]:
                raise EmbeddingsError(f"embeddings {str(path)!r}: {name} does not match its checksum; encode again")
    return arrays, facts


def _check_format(path: Path, found: Any) -> None:
    if found != FORMAT:
        raise EmbeddingsError(f"embeddings {str(path)!r}: found format {found!r}, expected {FORMAT!r}")


def _array_entry(array: Array, file: Path) -> list[int]:
    """What is recorded of an array's file: CRC-32 of its header, and of the array behind it."""
    start = file.stat().st_size - array.nbytes
    return [file_checksum(file, start), known_checksum(file, start=start)]


def _read_safetensors(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    _check_format(path, metadata.get("format"))
    checksum = metadata.pop("crc32", None)
    if unknown := sorted(set(metadata) - {"format", "report"}):
        raise EmbeddingsError(
            f"embeddings {str(path)!r}: found unknown entries {unknown}: damaged, or of a new version"
        )
    # Files of the first versions have none.
    if checksum is not None and checksum != str(arrays_checksum(metadata, arrays)):
        raise EmbeddingsError(f"embeddings {str(path)!r}: it does not match its checksum; encode again")
    return arrays, {"report": json.loads(metadata.get("report", "{}"))}


class EmbeddingsWriter:
    """Appends batches to a folder; memory holds one batch at a time, whatever the number of items.

    They are written to a hidden sibling folder, which takes the place of an earlier one when the writer closes, so a
    folder that exists is complete. An exception inside the ``with`` block removes the partial folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = settled(path)
        if self.path.exists() and not _holds_only_embeddings(self.path):
            raise EmbeddingsError(
                f"embeddings {str(self.path)!r}: found a file or a folder of something else, expected a new path"
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A unique name: two writers to one path do not mix, and no other folder is touched.
        self._part = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", suffix=".part", dir=self.path.parent))
        self._arrays: dict[str, _GrowingArray] = {}
        self._tokens = self._grids = 0
        self.report = EncodingReport()

    def append(self, batch: SmartEmbeddings) -> None:
        """Add a batch, of the widths and dtypes of the first."""
        arrays = _continuing(batch, self._tokens, self._grids)
        if not self._arrays:
            for name, array in arrays.items():
                self._arrays[name] = _GrowingArray(self._part / f"{name}.npy", array)
            for name, array in _FIRST.items():
                self._arrays[name].append(array)
        for name, array in arrays.items():
            self._arrays[name].append(array)
        self._tokens += len(batch.token_vectors)
        self._grids += len(batch.grid_rows)
        self.report += batch.report

    def close(self) -> None:
        """Finish the files and put the folder in its place; an error if nothing was appended."""
        if not self._arrays:
            self.abort()
            raise EmbeddingsError(f"embeddings {str(self.path)!r}: nothing was encoded, so there is nothing to write")
        entries = {name: array.close() for name, array in self._arrays.items()}
        about = signed({"format": FORMAT, "report": self.report.to_dict(), "arrays": entries})
        (self._part / _ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        if self.path.exists():
            shutil.rmtree(self.path)
        os.replace(self._part, self.path)

    def abort(self) -> None:
        """Drop what was written."""
        for array in self._arrays.values():
            with suppress(OSError):  # a full disk has no room for what it still holds
                array.file.close()
        shutil.rmtree(self._part, ignore_errors=True)

    def __enter__(self) -> EmbeddingsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with naming(self.path):
                    self.close()
        finally:
            self.abort()  # of what has its place nothing is left


class _GrowingArray:
    """One .npy file that grows along its first axis; NumPy's header leaves room for the number to grow."""

    def __init__(self, path: Path, first: Array) -> None:
        self.dtype, self.row_shape, self.rows, self.checksum = first.dtype, first.shape[1:], 0, 0
        self.file: IO[bytes] = path.open("w+b")
        self._write_header()

    def _write_header(self) -> None:
        self.file.seek(0)
        shape = (self.rows, *self.row_shape)
        header = {"descr": npy.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(self.file, header)

    def append(self, rows: Array) -> None:
        if rows.dtype != self.dtype or rows.shape[1:] != self.row_shape:
            raise EmbeddingsError(
                f"found rows of {rows.dtype} {rows.shape[1:]}, expected {self.dtype} {self.row_shape} as before"
            )
        block = np.ascontiguousarray(rows)
        with naming(self.file.name):
            self.file.write(block.data)
        self.checksum = bytes_checksum(block, self.checksum)
        self.rows += len(rows)

    def close(self) -> list[int]:
        """Finish the file; its entry, see :func:`_array_entry`."""
        self._write_header()
        start = self.file.tell()
        self.file.close()
        return [file_checksum(Path(self.file.name), start), self.checksum]


def _holds_only_embeddings(path: Path) -> bool:
    """Whether nothing but an earlier encoding, or nothing at all, would be lost by replacing this folder."""
    own = {_ABOUT, *(f"{name}.npy" for name in _ARRAYS)}
    return path.is_dir() and {entry.name for entry in path.iterdir()} <= own
