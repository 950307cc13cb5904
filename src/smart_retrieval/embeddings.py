"""SmartEmbeddings: anchors and token vectors of many items in a handful of NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .encoding_report import EncodingReport
from .errors import EmbeddingsError

Floats = NDArray[Any]
Integers = NDArray[Any]

ARRAYS = ("anchors", "token_vectors", "offsets", "token_ids", "roles", "grid_rows", "grid_offsets")
_NEEDED = ARRAYS[:3]
FORMAT = "smart-embeddings/1"


class TokenStrings(Protocol):
    """The one thing asked of a tokenizer here: ids to strings."""

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        """The vocabulary's strings of these ids."""
        ...


class Grid(NamedTuple):
    """One picture's or video's place among an item's visual tokens: t x h x w of them, row by row.

    Example:
        >>> Grid("image", 1, 3, 4).tokens
        12
    """

    kind: str  # "image" or "video"
    t: int
    h: int
    w: int

    @property
    def tokens(self) -> int:
        """Token vectors it covers."""
        return self.t * self.h * self.w


_KINDS = ("image", "video")


class SmartEmbeddings:
    """A ragged batch of N items: an anchor each, and T_i token vectors each.

    Args:
        anchors: ``[N, Da]`` float, as the backbone gives them (unit length only if the backbone normalises).
        token_vectors: ``[sum T_i, Dt]`` float, unit length, items one after another.
        offsets: ``[N + 1]`` int64; item i owns rows ``offsets[i]:offsets[i + 1]``.
        token_ids: ``[sum T_i]`` int32 vocabulary ids, -1 where a position has none; all -1 when left out.
        roles: ``[sum T_i]`` uint8 :class:`~smart_retrieval.readout.roles.TokenRole`; all text when left out.
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
        self.anchors: Floats = np.asanyarray(anchors)
        self.token_vectors: Floats = np.asanyarray(token_vectors)
        self.offsets: Integers = np.asarray(offsets, dtype=np.int64)
        total = self.token_vectors.shape[0] if self.token_vectors.ndim else 0
        self.token_ids: Integers = (
            np.full(total, -1, np.int32) if token_ids is None else np.asanyarray(token_ids, dtype=np.int32)
        )
        # 3 is TokenRole.TEXT; the name is not imported, so that this file knows arrays only.
        self.roles: Integers = np.full(total, 3, np.uint8) if roles is None else np.asanyarray(roles, dtype=np.uint8)
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
        if len(rows) and (not np.isin(rows[:, 0], (0, 1)).all() or (rows[:, 1:] < 1).any()):
            raise EmbeddingsError("found grid_rows that are no kind (0 or 1) and three sizes above 0")

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
    def lengths(self) -> Integers:
        """Token vectors of each item, ``[N]`` int64."""
        return np.diff(self.offsets)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(int(getattr(self, name).nbytes) for name in ARRAYS)

    @property
    def grids(self) -> list[tuple[Grid, ...]]:
        """The visual grids of each item, in the order of its visual tokens; empty for text."""
        rows = [Grid(_KINDS[kind], t, h, w) for kind, t, h, w in self.grid_rows.tolist()]
        bounds = self.grid_offsets.tolist()
        return [tuple(rows[start:stop]) for start, stop in pairwise(bounds)]

    def __repr__(self) -> str:
        return (
            f"SmartEmbeddings({len(self)} items, anchors {self.anchor_dim}d, "
            f"{len(self.token_vectors)} token vectors {self.token_dim}d {self.token_vectors.dtype})"
        )

    # -- items -------------------------------------------------------------------------------------------------

    def __getitem__(self, key: int | slice | Sequence[int] | Integers) -> SmartEmbeddings:
        """One item, a slice or chosen items, always as a batch; a slice of step 1 copies nothing."""
        if isinstance(key, int | np.integer) and not isinstance(key, bool):
            index = int(key)
            if not -len(self) <= index < len(self):
                raise IndexError(f"found index {index}, expected one below {len(self)}")
            start = index % len(self)
            return self._span(start, start + 1)
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1:
                return self._span(start, max(start, stop))
            key = np.arange(start, stop, step)
        chosen = np.asarray(key)
        if chosen.dtype == bool:
            if chosen.shape != (len(self),):
                raise IndexError(f"found a mask of shape {chosen.shape}, expected ({len(self)},)")
            chosen = chosen.nonzero()[0]
        if chosen.size and not np.issubdtype(chosen.dtype, np.integer):
            raise IndexError(f"found indices of type {chosen.dtype}, expected whole numbers or a mask")
        chosen = chosen.astype(np.int64)
        if chosen.size and (chosen.min() < -len(self) or chosen.max() >= len(self)):
            raise IndexError(f"found an index beyond {len(self)} items")
        chosen = chosen % max(len(self), 1)
        rows, offsets = _gathered(self.offsets, chosen)
        grid_rows, grid_offsets = _gathered(self.grid_offsets, chosen)
        return self._of(self.anchors[chosen], rows, offsets, grid_rows, grid_offsets)

    def _span(self, start: int, stop: int) -> SmartEmbeddings:
        rows, offsets = _sliced(self.offsets, start, stop)
        return self._of(self.anchors[start:stop], rows, offsets, *_sliced(self.grid_offsets, start, stop))

    def _of(
        self,
        anchors: Floats,
        rows: slice | Integers,
        offsets: Integers,
        grid_rows: slice | Integers,
        grid_offsets: Integers,
    ) -> SmartEmbeddings:
        part = SmartEmbeddings(
            anchors,
            self.token_vectors[rows],
            offsets,
            self.token_ids[rows],
            self.roles[rows],
            tokenizer=self.tokenizer,
        )
        part.grid_rows, part.grid_offsets = self.grid_rows[grid_rows], grid_offsets
        return part

    def __iter__(self) -> Iterator[SmartEmbeddings]:
        return (self[index] for index in range(len(self)))

    def token_strings(self, index: int, tokenizer: TokenStrings | None = None) -> list[str]:
        """The token strings of one item, as the vocabulary spells them; ``""`` where a position has no id.

        Args:
            index: The item.
            tokenizer: Needed only for embeddings that were loaded from disk: ``model.tokenizer``.

        Raises:
            EmbeddingsError: There is no tokenizer to ask.
        """
        tokenizer = tokenizer or self.tokenizer
        if tokenizer is None:
            raise EmbeddingsError("found no tokenizer beside these embeddings; pass tokenizer=model.tokenizer")
        ids = self[index].token_ids.tolist()
        known = iter(tokenizer.convert_ids_to_tokens([i for i in ids if i >= 0]))
        return [next(known) if i >= 0 else "" for i in ids]

    @classmethod
    def concatenate(cls, parts: Sequence[SmartEmbeddings]) -> SmartEmbeddings:
        """All items of several batches, in order.

        Raises:
            EmbeddingsError: No part, or widths that differ.
        """
        return cls._join(list(parts))

    @classmethod
    def _join(cls, parts: list[SmartEmbeddings]) -> SmartEmbeddings:
        """Concatenate, emptying the list on the way: at most one part is in memory twice."""
        if not parts:
            raise EmbeddingsError("found nothing to concatenate, expected at least one batch")
        if len(parts) == 1:
            return parts.pop()
        widths = {(part.anchor_dim, part.token_dim) for part in parts}
        if len(widths) > 1:
            raise EmbeddingsError(f"found widths {sorted(widths)} (anchor, token), expected the same in every part")
        starts = np.cumsum([0] + [len(part.token_vectors) for part in parts])
        offsets = [part.offsets[1:] + start for part, start in zip(parts, starts[:-1], strict=True)]
        dtype = np.result_type(*(part.token_vectors.dtype for part in parts))
        vectors = np.empty((int(starts[-1]), parts[0].token_dim), dtype)
        anchors, ids, roles, tokenizer = [], [], [], parts[0].tokenizer
        grid_rows, grid_offsets, grids = [], [np.zeros(1, np.int64)], 0
        report = EncodingReport()
        for start in starts[:-1].tolist():
            part = parts.pop(0)
            vectors[start : start + len(part.token_vectors)] = part.token_vectors
            anchors.append(part.anchors)
            ids.append(part.token_ids)
            roles.append(part.roles)
            grid_rows.append(part.grid_rows)
            grid_offsets.append(part.grid_offsets[1:] + grids)
            grids += len(part.grid_rows)
            report += part.report
        whole = cls(
            np.concatenate(anchors),
            vectors,
            np.concatenate([np.zeros(1, np.int64), *offsets]),
            np.concatenate(ids),
            np.concatenate(roles),
            tokenizer=tokenizer,
            report=report,
        )
        whole.grid_rows, whole.grid_offsets = np.concatenate(grid_rows), np.concatenate(grid_offsets)
        return whole

    def astype(self, dtype: str) -> SmartEmbeddings:
        """The same batch with token vectors of another dtype, ``"float16"`` for one; anchors stay as they are."""
        return SmartEmbeddings(
            self.anchors,
            self.token_vectors.astype(dtype),
            self.offsets,
            self.token_ids,
            self.roles,
            grids=self.grids,
            tokenizer=self.tokenizer,
            report=self.report,
        )

    # -- NumPy and files ---------------------------------------------------------------------------------------

    def to_numpy(self) -> dict[str, NDArray[Any]]:
        """The arrays by name: anchors, token_vectors, offsets, token_ids, roles, grid_rows, grid_offsets."""
        return {name: getattr(self, name) for name in ARRAYS}

    @classmethod
    def from_numpy(cls, arrays: Mapping[str, ArrayLike]) -> SmartEmbeddings:
        """Embeddings from :meth:`to_numpy`'s arrays; all but the first three may be left out.

        Raises:
            EmbeddingsError: An array is missing, unknown or of the wrong shape.
        """
        missing = [name for name in _NEEDED if name not in arrays]
        unknown = sorted(set(arrays) - set(ARRAYS))
        if missing or unknown:
            raise EmbeddingsError(f"found arrays {sorted(arrays)}: missing {missing}, unknown {unknown}")
        anchors, token_vectors, offsets = (arrays[name] for name in _NEEDED)
        embeddings = cls(anchors, token_vectors, offsets, arrays.get("token_ids"), arrays.get("roles"))
        if "grid_rows" in arrays and "grid_offsets" in arrays:
            embeddings.grid_rows = np.asanyarray(arrays["grid_rows"])
            embeddings.grid_offsets = np.asarray(arrays["grid_offsets"], np.int64)
            embeddings._check_grids()
        return embeddings

    def save(self, path: str | Path) -> Path:
        """Write to one ``.safetensors`` file, or to a folder that can be memory-mapped.

        Args:
            path: A name that ends in ``.safetensors``, or a folder.

        Returns:
            The path written.
        """
        from . import embeddings_files

        return embeddings_files.save(self, Path(path))

    @classmethod
    def load(cls, path: str | Path, *, mmap: bool = False) -> SmartEmbeddings:
        """Read what :meth:`save` or a streamed encoding wrote.

        Args:
            path: The file or folder.
            mmap: Map a folder's arrays into memory instead of reading them.

        Raises:
            EmbeddingsError: The file is missing, damaged or of another format.
        """
        from . import embeddings_files

        return embeddings_files.load(Path(path), mmap=mmap)


def _grid_arrays(grids: Sequence[Sequence[Grid]] | None, items: int) -> tuple[Integers, Integers]:
    """Grids as ``[G, 4]`` int32 (kind, t, h, w) and offsets ``[N + 1]`` int64."""
    if grids is None:
        return np.zeros((0, 4), np.int32), np.zeros(items + 1, np.int64)
    if len(grids) != items:
        raise EmbeddingsError(f"found grids of {len(grids)} items, expected {items}")
    rows = [[_KINDS.index(kind), t, h, w] for own in grids for kind, t, h, w in own]
    offsets = np.cumsum([0, *(len(own) for own in grids)])
    return np.asarray(rows, np.int32).reshape(-1, 4), offsets


def _sliced(offsets: Integers, start: int, stop: int) -> tuple[slice, Integers]:
    """Rows of the items ``start`` to ``stop`` of a ragged array, and their own offsets."""
    return slice(int(offsets[start]), int(offsets[stop])), offsets[start : stop + 1] - offsets[start]


def _gathered(offsets: Integers, chosen: Integers) -> tuple[Integers, Integers]:
    """Rows of chosen items of a ragged array, and their own offsets."""
    lengths = np.diff(offsets)[chosen]
    own = np.concatenate([[0], np.cumsum(lengths)])
    # Row r of the result is row (start of its item) + (r - start of its item in the result) of this batch.
    return np.repeat(offsets[chosen] - own[:-1], lengths) + np.arange(own[-1]), own
