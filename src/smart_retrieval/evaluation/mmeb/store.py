"""Encodings on disk, in shards: each distinct input once, whatever task it belongs to; what is done survives a kill."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ... import __version__
from ...embeddings import FORMAT, SmartEmbeddings
from ...errors import SmartError, SmartWarning
from ...inputs import Item
from .filtering import filtered, kept_in_full
from .processes import Processes

if TYPE_CHECKING:
    from ...model import SmartModel

SIDES = ("query", "document")
#: Items of a shard: what a kill can cost, at most.
SHARD_ITEMS = 512
#: Estimated tokens of a shard, which bounds the same where items are large.
SHARD_TOKENS = 262_144


@dataclass(frozen=True)
class Encoded:
    """What :meth:`EncodingStore.ensure` did.

    Args:
        encoded: Inputs that were encoded now.
        found: Inputs that were there already.
        truncated: Inputs whose text was cut off, in the shards these inputs lie in.
    """

    encoded: int
    found: int
    truncated: int


class EncodingStore:
    """The encodings of one model.

    Lambda, query-token weights and the floor are no part of what is stored, nor is the token filter (except for
    models that leave the pictures of queries out): all tokens are kept, and a filter picks from them as they are read.

    Args:
        root: The folder that stores lie in, one for each model and readout.
        smart: The model; its readout's filter is the one applied when reading.
        batch_size: Most items in one forward pass.
        progress: Draw bars on stderr; None draws them on a terminal only.
        shard_items: Items of a shard.
        processes: Those that share the work.

    Example:
        >>> store = EncodingStore(Path("cache"), model)  # doctest: +SKIP
        >>> store.ensure("document", ["key of the first"], [Item("a text")])  # doctest: +SKIP
    """

    def __init__(
        self,
        root: Path,
        smart: SmartModel,
        *,
        batch_size: int | None = None,
        progress: bool | None = False,
        shard_items: int = SHARD_ITEMS,
        processes: Processes | None = None,
    ) -> None:
        self.token_filter = smart.readout.token_filter
        full = kept_in_full(smart)
        self.smart = smart.with_readout(replace(smart.readout, token_filter="paper")) if full else smart
        self._filter = self.token_filter if full else None
        self.identity = {
            "model": self.smart.identity(),
            "dtype": smart.dtype,
            "smart_retrieval": __version__,
            "format": FORMAT,
        }
        text = json.dumps(self.identity, sort_keys=True, ensure_ascii=True)
        self.folder = root / hashlib.sha256(text.encode()).hexdigest()[:32]
        self.batch_size, self.progress, self.shard_items = batch_size, progress, shard_items
        self.processes = processes or Processes()
        self._places: dict[str, dict[str, tuple[str, int]]] = {}
        self._truncated: dict[str, int] = {}
        self._open: dict[str, SmartEmbeddings] = {}

    # -- writing -----------------------------------------------------------------------------------------------

    def ensure(self, side: str, keys: Sequence[str], items: Sequence[Item]) -> Encoded:
        """Encode what is not there yet.

        Args:
            side: ``"query"`` or ``"document"``.
            keys: One for each item; items of one key are one input.
            items: What to encode.

        Raises:
            SmartError: The model cannot be run, a picture cannot be read, or the folder cannot be written to.
        """
        wanted = dict(zip(keys, items, strict=True))
        self._drop_damaged(side, wanted)
        missing = [key for key in wanted if key not in self._known(side)]
        # All must have seen the same before one adds to it, and all be done before one reads.
        self.processes.wait()
        for number, chunk in enumerate(self._chunks(missing, wanted)):
            if number % self.processes.world == self.processes.rank:
                self._encode(side, chunk, [wanted[key] for key in chunk])
        self.processes.wait()
        if self.processes.world > 1:
            self._scan(side)
        known = self._known(side)
        shards = {known[key][0] for key in wanted}
        return Encoded(len(missing), len(wanted) - len(missing), sum(self._truncated[shard] for shard in shards))

    def discard(self, side: str, keys: Sequence[str]) -> None:
        """Remove the shards in which these inputs lie, with whatever else lies there."""
        known = self._known(side)
        for shard in {known[key][0] for key in keys if key in known}:
            self._remove(side, shard)

    def _encode(self, side: str, keys: list[str], items: list[Item]) -> None:
        name = hashlib.sha256("".join(keys).encode()).hexdigest()[:16]
        folder = self._side(side)
        for leftover in folder.glob(f".{name}.*.part"):  # of a run that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        # The keys first: the shard's folder appears when it is complete, and needs them then.
        (folder / f"{name}.json").write_text(json.dumps(keys), encoding="utf-8")
        encode = self.smart.encode_query if side == "query" else self.smart.encode_document
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SmartWarning)  # counted, and said once for the whole task
            shard = encode(items, batch_size=self.batch_size, show_progress=self.progress, out=folder / name)
        self._register(side, name, keys, shard)

    def _chunks(self, keys: Sequence[str], items: dict[str, Item]) -> Iterator[list[str]]:
        chunk: list[str] = []
        tokens = 0
        for key in keys:
            own = self.smart.backbone.estimated_tokens(items[key])
            if chunk and (len(chunk) >= self.shard_items or tokens + own > SHARD_TOKENS):
                yield chunk
                chunk, tokens = [], 0
            chunk.append(key)
            tokens += own
        if chunk:
            yield chunk

    # -- what is there -----------------------------------------------------------------------------------------

    def _side(self, side: str) -> Path:
        folder = self.folder / side
        try:
            folder.mkdir(parents=True, exist_ok=True)
            about = self.folder / "model.json"
            if not about.is_file():
                about.write_text(json.dumps(self.identity, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        except OSError as error:
            raise SmartError(
                f"cannot write to the cache folder {folder} ({error.strerror or error}): name another one with --cache"
            ) from error
        return folder

    def _known(self, side: str) -> dict[str, tuple[str, int]]:
        """Shard and row of every input of a side."""
        if side not in self._places:
            self._places[side] = {}
            self._scan(side)
        return self._places[side]

    def _scan(self, side: str) -> None:
        """Take in the shards that are complete on disk and not known yet."""
        folder = self._side(side)
        for file in sorted(folder.glob("*.json")):
            if file.stem not in self._open and (folder / file.stem).is_dir():
                try:
                    keys = json.loads(file.read_text(encoding="utf-8"))
                    self._register(side, file.stem, keys, self._read(side, file.stem))
                except (SmartError, ValueError, OSError) as error:
                    self._damaged(side, file.stem, error)

    def _register(self, side: str, shard: str, keys: Sequence[str], embeddings: SmartEmbeddings) -> None:
        if len(keys) != len(embeddings):
            raise SmartError(f"found {len(embeddings)} encodings for {len(keys)} inputs")
        for row, key in enumerate(keys):
            self._places[side][key] = (shard, row)
        self._open[shard] = embeddings
        self._truncated[shard] = embeddings.report.truncated

    def _read(self, side: str, shard: str) -> SmartEmbeddings:
        if shard not in self._open:
            self._open[shard] = SmartEmbeddings.load(self._side(side) / shard, mmap=True)
        return self._open[shard]

    def _drop_damaged(self, side: str, wanted: dict[str, Item]) -> None:
        known = self._known(side)
        for shard in {known[key][0] for key in wanted if key in known}:
            try:
                found = self._read(side, shard)
                if not np.isfinite(found.anchors).all():
                    raise SmartError("found NaN or infinity")
            except (SmartError, OSError) as error:
                self._damaged(side, shard, error)

    def _damaged(self, side: str, shard: str, error: Exception) -> None:
        warnings.warn(f"found a damaged shard and encode it again: {shard} ({error})", SmartWarning, stacklevel=4)
        self._remove(side, shard)

    def _remove(self, side: str, shard: str) -> None:
        self._open.pop(shard, None)
        self._places[side] = {key: place for key, place in self._places[side].items() if place[0] != shard}
        folder = self._side(side)
        (folder / f"{shard}.json").unlink(missing_ok=True)
        shutil.rmtree(folder / shard, ignore_errors=True)

    # -- reading -----------------------------------------------------------------------------------------------

    def lengths(self, side: str, keys: Sequence[str]) -> NDArray[np.int64]:
        """Token vectors of each input as stored, before the filter."""
        places = self._known(side)
        found = {shard: self._read(side, shard).lengths for shard in {places[key][0] for key in keys}}
        return np.array([found[places[key][0]][places[key][1]] for key in keys], np.int64)

    def anchors(self, side: str, keys: Sequence[str]) -> NDArray[Any]:
        """Anchors of inputs, ``[N, Da]`` float32."""
        return np.concatenate([part.anchors for part in self._parts(side, keys)]).astype(np.float32, copy=False)

    def gather(self, side: str, keys: Sequence[str], *, vectors: bool = True) -> SmartEmbeddings:
        """Encodings of inputs, in the order asked for, the token filter applied.

        Args:
            side: ``"query"`` or ``"document"``.
            keys: Which inputs; one may be asked for several times.
            vectors: Whether token vectors are needed; without them only ids, roles and anchors are read.
        """
        strip: Callable[[SmartEmbeddings], SmartEmbeddings] = (lambda part: part) if vectors else _without_vectors
        parts = [strip(part) for part in self._parts(side, keys)]
        whole = SmartEmbeddings.concatenate(parts)
        return whole if self._filter is None else filtered(whole, self._filter)

    def _parts(self, side: str, keys: Sequence[str]) -> Iterator[SmartEmbeddings]:
        """Runs of neighbours are read as one slice."""
        known = self._known(side)
        places = [known[key] for key in keys]
        starts = [0] + [number + 1 for number, (one, two) in enumerate(pairwise(places)) if two != (one[0], one[1] + 1)]
        for start, stop in pairwise([*starts, len(places)]):
            shard, row = places[start]
            yield self._read(side, shard)[row : row + stop - start]


def _without_vectors(part: SmartEmbeddings) -> SmartEmbeddings:
    empty = np.zeros((len(part.token_vectors), 0), np.float32)
    return SmartEmbeddings(part.anchors, empty, part.offsets, part.token_ids, part.roles)
