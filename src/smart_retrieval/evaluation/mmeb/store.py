"""Encodings on disk, in shards: each distinct input once, whatever task it belongs to; what is done survives a kill."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..._version import __version__
from ...core.roles import ROLES_FORMAT, TokenFilter, kept_rows
from ...core.vectors import unit_rows
from ...embeddings import FORMAT, SmartEmbeddings
from ...errors import SmartError, SmartWarning
from ...inputs import Item
from ...types import Array
from .processes import Processes

if TYPE_CHECKING:
    from ...model.smart_model import SmartModel

#: Items of a shard: what a kill can cost, at most; most tasks have 1,000 queries, enough shards for eight processes.
SHARD_ITEMS = 128
#: Estimated tokens of a shard, which bounds the same where items are large.
SHARD_TOKENS = 262_144
#: Shards mapped at once: each holds five files open, and many systems allow a process no more than 1,024.
OPEN_SHARDS = 64


@dataclass(frozen=True)
class Encoded:
    """What :meth:`EncodingStore.ensure` did: inputs encoded now, and found; truncated ones, of all in their shards."""

    encoded: int
    found: int
    truncated: int


class EncodingStore:
    """The encodings of one model: queries and documents ("sides"), found by the key of their input.

    All tokens are stored, and the filter of the model's readout picks from them as they are read.
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
        # Where the filter "paper" keeps every token that another would keep, all filters share one store; it does not
        # for models that leave out the pictures of queries.
        shared = not smart.backbone.drops_visual_of_queries
        # What is left out whatever its role is not stored.
        every = f"paper{TokenFilter.parse(smart.readout.token_filter).modifiers}"
        self.smart = self._encodes = smart.with_readout(replace(smart.readout, token_filter=every)) if shared else smart
        self._filter = smart.readout.token_filter if shared else None
        self.identity = {
            "model": self.smart.identity(),
            "dtype": smart.dtype,
            "smart_retrieval": __version__,
            "format": FORMAT,
            "roles": ROLES_FORMAT,
        }
        text = json.dumps(self.identity, sort_keys=True, ensure_ascii=True)
        self.folder = root / hashlib.sha256(text.encode()).hexdigest()[:32]
        # What is read of what is stored, and what tells it from other readings of the same folder.
        self._anchors, self._tokens, self.label = slice(None), slice(None), self.folder.name
        self.batch_size, self.progress, self.shard_items = batch_size, progress, shard_items
        self.processes = processes or Processes()
        self._shards = 0
        # By side: the shard and row of each key. By side and shard: truncated inputs, and token vectors of each input.
        self._places: dict[str, dict[str, tuple[str, int]]] = {}
        self._truncated: dict[tuple[str, str], int] = {}
        self._lengths: dict[tuple[str, str], NDArray[np.int64]] = {}
        self._open: OrderedDict[tuple[str, str], SmartEmbeddings] = OrderedDict()

    def part(self, smart: SmartModel, *, anchors: slice, tokens: slice) -> EncodingStore:
        """The same store, read as the encodings of ``smart``, which are some columns of those stored."""
        view = copy.copy(self)
        view.smart, view._anchors, view._tokens = smart, anchors, tokens
        view.label = f"{self.label}/{anchors.start}-{anchors.stop}/{tokens.start}-{tokens.stop}"
        return view

    # -- writing -----------------------------------------------------------------------------------------------

    def ensure(self, side: str, keys: Sequence[str], items: Sequence[Item]) -> Encoded:
        """Encode the inputs that are not stored yet; items of one key are one input."""
        wanted = dict(zip(keys, items, strict=True))
        self._drop_damaged(side, wanted)
        missing = [key for key in wanted if key not in self._known(side)]
        # All must have seen the same before one adds to it, and all be done before one reads.
        self.processes.wait()
        for chunk in self._chunks(wanted, set(missing)):
            # Counted over all calls, or tasks of few shards would all fall to the first process.
            self._shards += 1
            if (self._shards - 1) % self.processes.world == self.processes.rank:
                self._encode(side, chunk, [wanted[key] for key in chunk])
        self.processes.wait()
        if self.processes.world > 1:
            self._scan(side)
        known = self._known(side)
        shards = {known[key][0] for key in wanted}
        return Encoded(len(missing), len(wanted) - len(missing), sum(self._truncated[side, shard] for shard in shards))

    def discard(self, side: str, keys: Sequence[str]) -> None:
        """Remove the shards that hold these inputs, with whatever else they hold."""
        known = self._known(side)
        for shard in {known[key][0] for key in keys if key in known}:
            self._remove(side, shard)

    def _encode(self, side: str, keys: list[str], items: list[Item]) -> None:
        name = _shard_name(keys)
        folder = self._side(side)
        for leftover in folder.glob(f".{name}.*.part"):  # of a run that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        # The keys first: the shard's folder appears when it is complete, and needs them then.
        (folder / f"{name}.json").write_text(json.dumps(keys), encoding="utf-8")
        encode = self._encodes.encode_query if side == "query" else self._encodes.encode_document
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SmartWarning)  # counted, and reported once for the whole task
            shard = encode(items, batch_size=self.batch_size, show_progress=self.progress, out=folder / name)
        self._register(side, name, keys, shard)

    def _chunks(self, wanted: dict[str, Item], missing: set[str]) -> Iterator[list[str]]:
        """What is missing, cut where it would be cut if all were: after a kill each shard is what it would have been.

        Neighbours in a batch change the last bits of an encoding, so shards of other items would not be quite the same.
        """
        if not missing:
            return
        chunk: list[str] = []
        count = tokens = 0
        for key, item in wanted.items():
            own = self.smart.backbone.estimated_tokens(item)
            if count and (count >= self.shard_items or tokens + own > SHARD_TOKENS):
                if chunk:
                    yield chunk
                chunk, count, tokens = [], 0, 0
            if key in missing:
                chunk.append(key)
            count += 1
            tokens += own
        if chunk:
            yield chunk

    # -- what is stored ----------------------------------------------------------------------------------------

    def _side(self, side: str) -> Path:
        folder = self.folder / side
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # For people who wonder whose encodings these are; every process writes the same, and nothing reads it.
            if not (self.folder / "model.json").is_file():
                about = json.dumps(self.identity, indent=1, sort_keys=True) + "\n"
                (self.folder / "model.json").write_text(about, encoding="utf-8")
        except OSError as error:
            raise SmartError(
                f"cannot write to the cache folder {folder} ({error.strerror or error}): name another one with --cache"
            ) from error
        return folder

    def _known(self, side: str) -> dict[str, tuple[str, int]]:
        if side not in self._places:
            self._places[side] = {}
            self._scan(side)
        return self._places[side]

    def _scan(self, side: str) -> None:
        """Register the shards that are complete on disk and not known yet."""
        folder = self._side(side)
        for file in sorted(folder.glob("*.json")):
            if (side, file.stem) not in self._lengths and (folder / file.stem).is_dir():
                try:
                    keys = json.loads(file.read_text(encoding="utf-8"))
                    if _shard_name(keys) != file.stem:
                        raise SmartError("its keys are not those it is named after")
                    self._register(side, file.stem, keys, self._read(side, file.stem))
                except (SmartError, ValueError, TypeError, OSError) as error:
                    self._damaged(side, file.stem, error)

    def _register(self, side: str, shard: str, keys: Sequence[str], embeddings: SmartEmbeddings) -> None:
        if len(keys) != len(embeddings):
            raise SmartError(f"found {len(embeddings)} encodings for {len(keys)} inputs")
        self._places[side] |= {key: (shard, row) for row, key in enumerate(keys)}
        self._lengths[side, shard] = np.array(embeddings.lengths)
        self._truncated[side, shard] = embeddings.report.truncated

    def _read(self, side: str, shard: str) -> SmartEmbeddings:
        place = (side, shard)
        if place not in self._open:
            while len(self._open) >= OPEN_SHARDS:
                self._open.popitem(last=False)
            self._open[place] = SmartEmbeddings.load(self.folder / side / shard, mmap=True)
        self._open.move_to_end(place)
        return self._open[place]

    def _drop_damaged(self, side: str, wanted: dict[str, Item]) -> None:
        known = self._known(side)
        for shard in {known[key][0] for key in wanted if key in known}:
            try:
                if not np.isfinite(self._read(side, shard).anchors).all():
                    raise SmartError("found NaN or infinity")
            except (SmartError, OSError) as error:
                self._damaged(side, shard, error)

    def _damaged(self, side: str, shard: str, error: Exception) -> None:
        warnings.warn(f"found a damaged shard and encode it again: {shard} ({error})", SmartWarning, stacklevel=4)
        self._remove(side, shard)

    def _remove(self, side: str, shard: str) -> None:
        self._open.pop((side, shard), None)
        self._lengths.pop((side, shard), None)
        self._places[side] = {key: place for key, place in self._places[side].items() if place[0] != shard}
        folder = self._side(side)
        (folder / f"{shard}.json").unlink(missing_ok=True)
        shutil.rmtree(folder / shard, ignore_errors=True)

    # -- reading -----------------------------------------------------------------------------------------------

    def lengths(self, side: str, keys: Sequence[str]) -> NDArray[np.int64]:
        """Token vectors of each input as stored, before the filter."""
        known = self._known(side)
        places = [known[key] for key in keys]
        return np.array([self._lengths[side, shard][row] for shard, row in places], np.int64)

    def anchors(self, side: str, keys: Sequence[str]) -> Array:
        """Anchors of inputs, ``[N, Da]`` float32."""
        found = np.empty((len(keys), self.smart.anchor_dim), np.float32)
        for start, part in self._parts(side, keys):
            found[start : start + len(part)] = part.anchors[:, self._anchors]
        return found

    def gather(
        self, side: str, keys: Sequence[str], *, vectors: bool = True, dtype: str | None = None
    ) -> SmartEmbeddings:
        """Encodings of inputs in the order of the keys, which may repeat, filtered; ``dtype`` None keeps the stored."""
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths(side, keys))])
        rows, width = int(offsets[-1]), self.smart.token_dim if vectors else 0
        anchors = np.empty((len(keys), self.smart.anchor_dim), np.float32)
        tokens = np.empty((rows, width), dtype or self.smart.dtype)
        ids, roles = np.empty(rows, np.int32), np.empty(rows, np.uint8)
        for start, part in self._parts(side, keys):
            own = slice(int(offsets[start]), int(offsets[start + len(part)]))
            anchors[start : start + len(part)] = part.anchors[:, self._anchors]
            ids[own], roles[own] = part.token_ids, part.roles
            if vectors:
                whole = self._tokens == slice(None)
                tokens[own] = part.token_vectors if whole else unit_rows(part.token_vectors[:, self._tokens])
        found = SmartEmbeddings(anchors, tokens, offsets, ids, roles)
        return found if self._filter is None else filtered(found, self._filter)

    def _parts(self, side: str, keys: Sequence[str]) -> Iterator[tuple[int, SmartEmbeddings]]:
        """Runs of neighbours, each read as one slice, and where each belongs; shard by shard, so one is mapped once."""
        known = self._known(side)
        places = [known[key] for key in keys]
        starts = [0] + [number + 1 for number, (one, two) in enumerate(pairwise(places)) if two != (one[0], one[1] + 1)]
        for start, stop in sorted(pairwise([*starts, len(places)]), key=lambda run: places[run[0]]):
            shard, row = places[start]
            yield start, self._read(side, shard)[row : row + stop - start]


def _shard_name(keys: Sequence[str]) -> str:
    return hashlib.sha256("".join(keys).encode()).hexdigest()[:16]


def filtered(embeddings: SmartEmbeddings, token_filter: str) -> SmartEmbeddings:
    """The tokens that a filter keeps, of embeddings encoded with the filter ``paper`` and its modifiers."""
    if TokenFilter.parse(token_filter).base == "paper":
        return embeddings
    return embeddings.with_rows(kept_rows(embeddings.roles, token_filter, embeddings.offsets))
