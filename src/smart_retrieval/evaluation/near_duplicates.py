"""Texts that repeat an earlier one, whole or in large part."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

#: Words of a run; longer runs let small edits through, shorter ones take common phrases for copies.
RUN = 5

#: Two texts are alike if this share of the shorter one's runs is in the other.
SHARE = 0.5

# Texts that are compared to those just before them with the same run; a longer chain is followed link by link.
_LAGS = 8


def near_duplicates(texts: Sequence[Sequence[str]]) -> set[int]:
    """Positions of texts that are like an earlier one.

    Two texts are alike if half of the five-word runs of the shorter one are in the other, too; texts of fewer words
    are one run. What is like a text that is like an earlier one is left out as well.

    Args:
        texts: The words of each text.

    Returns:
        Positions to leave out; of each family the first is not among them. Texts without words are never alike.

    Example:
        >>> near_duplicates(["the otter swims in cold rivers".split(), "a heron".split()] * 2)
        {2, 3}

    Source:
        Word runs ("shingles") and their containment: Broder, "On the resemblance and containment of documents", 1997.
    """
    runs = [_runs(words) for words in texts]
    sizes = np.array([len(own) for own in runs], np.int64)
    if len(sizes) < 2 or not sizes.any():
        return set()
    hashes = np.concatenate(runs)
    owners = np.repeat(np.arange(len(runs)), sizes)
    order = np.lexsort((owners, hashes))
    hashes, owners = hashes[order], owners[order]
    pairs = []
    for lag in range(1, _LAGS + 1):
        same = hashes[lag:] == hashes[:-lag]
        pairs.append(owners[:-lag][same] * len(runs) + owners[lag:][same])
    found, shared = np.unique(np.concatenate(pairs), return_counts=True)
    earlier, later = found // len(runs), found % len(runs)
    alike = shared >= SHARE * np.minimum(sizes[earlier], sizes[later])
    return {int(position) for position in later[alike]}


def _runs(words: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    """The distinct runs of a text, hashed (by a function that is the same in every process)."""
    if not words:
        return np.zeros(0, np.uint32)
    count = max(1, len(words) - RUN + 1)
    return np.array(
        sorted({zlib.crc32("\0".join(words[start : start + RUN]).encode()) for start in range(count)}), np.uint32
    )
