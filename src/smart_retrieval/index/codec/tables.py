"""Tables of floats in few bytes, since a codec's tables would be most of a small index.

- :func:`compact`: a byte a number and a scale a row.
- :func:`compact_by_use`: four bits a number in the directions that a table varies in, each in steps of its own; the
  rows used most in more directions than the others. MiniLM's centroids, squared error left of .46: 64 bytes a row .064
  (the rank alone, in bytes, .140), 192 bytes .010; what the residual's quantiser leaves of a token is some .3.

Sums of products of such small integers are exact in float32, in whatever order they are added, so a table is the same
on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ...errors import CodecError
from ...types import Array

# Beyond it, float32 cannot hold every sum of products of a byte and four bits.
_MOST_RANK = 2**24 // (127 * 8)
# Rows put together at a time.
_BLOCK = 1024
_PARTS = ("numbers", "scales", "nibbles", "axes", "often")


class Precision(NamedTuple):
    """How many rows count as used often, and the directions that these and the others are kept in."""

    often: int = 4096
    often_rank: int = 384
    rare_rank: int = 96


#: Of a codec in an index, where its tables count; and of one that the package ships, once for all indexes.
IN_INDEX, IN_PACKAGE = Precision(), Precision(8192, rare_rank=128)


def compact(name: str, table: Array) -> dict[str, Array]:
    """A table ``[..., D]`` as int8 numbers and a scale for each row of D.

    Example:
        >>> parts = compact("context", np.eye(2, 4, dtype=np.float32))
        >>> parts["context.numbers"].tolist(), expanded(parts)["context"][1].tolist()
        ([[127, 0, 0, 0], [0, 127, 0, 0]], [0.0, 1.0, 0.0, 0.0])
    """
    scales = (np.abs(table).max(axis=-1, initial=0.0) / 127).astype(np.float32)
    numbers = np.rint(table / np.where(scales > 0, scales, 1)[..., None]).astype(np.int8)
    return {f"{name}.numbers": numbers, f"{name}.scales": scales}


def compact_by_use(name: str, table: Array, uses: Array, precision: Precision) -> dict[str, Array]:
    """A table ``[n, D]`` in 4-bit numbers, its most used rows (``uses [n]``) in more of them each."""
    often = np.zeros(len(table), bool)
    often[np.argsort(-uses, kind="stable")[: precision.often]] = True
    parts = _nibbles(name, table[often], precision.often_rank)
    if not often.all():
        parts |= _nibbles(f"{name}.rare", table[~often], precision.rare_rank)
        parts[f"{name}.often"] = np.packbits(often)
    return parts


def _nibbles(name: str, rows: Array, rank: int) -> dict[str, Array]:
    """Coordinates along the main directions in 15 steps of half their root mean square, two a byte."""
    _, vectors = np.linalg.eigh(rows.T.astype(np.float64) @ rows)
    directions = vectors[:, ::-1][:, : min(rank, vectors.shape[1])]
    coordinates = rows @ directions
    steps = np.maximum(np.sqrt((coordinates**2).mean(axis=0)), 1e-9) / 2
    if len(rows) < 64:  # too few to have a usual length: nothing is cut off
        steps = np.maximum(np.abs(coordinates).max(axis=0, initial=0.0), 1e-9) / 7
    numbers = np.clip(np.rint(coordinates / steps), -7, 7).astype(np.int8) + 8
    numbers = np.pad(numbers, ((0, 0), (0, numbers.shape[1] % 2)), constant_values=8).astype(np.uint8)
    axes = compact(f"{name}.axes", (directions * steps).T.astype(np.float32).reshape(1, -1))
    return {
        f"{name}.nibbles": numbers[:, ::2] | numbers[:, 1::2] << 4,
        f"{name}.axes": axes[f"{name}.axes.numbers"].reshape(-1, rows.shape[1]),
        f"{name}.scales": axes[f"{name}.axes.scales"],
    }


def expanded(arrays: dict[str, Array]) -> dict[str, Array]:
    """Arrays with those put together again that :func:`compact` (float32) or :func:`compact_by_use` (float16) made."""
    whole = {name: array for name, array in arrays.items() if not name.endswith(tuple(f".{part}" for part in _PARTS))}
    tables = {name.rpartition(".")[0] for name in arrays.keys() - whole.keys()}
    by_use = {name for name in tables if f"{name}.often" in arrays}
    for name in sorted(tables - {f"{name}.rare" for name in by_use}):
        try:
            whole[name] = _by_use(arrays, name) if name in by_use else np.concatenate([*_blocks(arrays, name)])
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise CodecError(
                f"codec: found a table {name!r} whose parts do not fit together ({error}); its bytes are damaged"
            ) from error
    return whole


def _by_use(arrays: dict[str, Array], name: str) -> Array:
    """The rows used often and the others, each in its place."""
    parts = [part for part in (name, f"{name}.rare") if f"{part}.scales" in arrays]
    counts = [len(arrays[f"{part}.nibbles"]) for part in parts]
    bits = np.unpackbits(arrays[f"{name}.often"])
    often = bits[: sum(counts)].astype(bool)
    if len(bits) != -(-sum(counts) // 8) * 8 or not bits.sum() == often.sum() == counts[0]:
        raise ValueError(f"{bits.sum()} rows used often of {counts}")
    table = np.empty((sum(counts), arrays[f"{name}.axes"].shape[1]), np.float16)
    for part, places in zip(parts, (often.nonzero()[0], (~often).nonzero()[0]), strict=False):
        done = 0
        for block in _blocks(arrays, part):
            table[places[done : done + len(block)]] = block
            done += len(block)
    return table


def _blocks(arrays: dict[str, Array], name: str) -> Iterator[Array]:
    """The rows of a table, float32, some at a time, so that they stay in a core's cache."""
    scales = np.asarray(arrays[f"{name}.scales"], np.float32)
    if f"{name}.nibbles" not in arrays:
        yield arrays[f"{name}.numbers"].astype(np.float32) * scales[..., None]
        return
    packed, axes = arrays[f"{name}.nibbles"], arrays[f"{name}.axes"].astype(np.float32)
    if len(axes) > _MOST_RANK or scales.shape != (1,) or packed.dtype != np.uint8 or packed.ndim != 2:
        raise ValueError(f"{packed.dtype} numbers, {len(axes)} axes, scales of shape {scales.shape}")
    for start in range(0, max(1, len(packed)), _BLOCK):
        part = packed[start : start + _BLOCK]
        numbers = np.empty((len(part), 2 * packed.shape[1]), np.float32)
        numbers[:, ::2], numbers[:, 1::2] = part & 15, part >> 4
        numbers -= 8
        block = numbers[:, : len(axes)] @ axes
        block *= scales
        yield block
