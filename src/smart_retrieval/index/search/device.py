"""Exact search on a GPU: a snapshot's codes and anchors stay in its memory from search to search."""

from __future__ import annotations

import importlib.util
import os
import re
import warnings
import weakref
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...core.scoring import Scoring
from ...errors import SmartError, SmartWarning
from ...locks import ForkLock
from ...types import Array
from ..codec.base import Codec
from ..codec.codebook import CodebookCodec
from ..mirror.arrays import release_pages
from ..mirror.snapshot import Segment, Snapshot

if TYPE_CHECKING:
    import torch

    from ..codec.kernels_triton import DeviceCodec, DeviceDocuments, DeviceScores

# Products of query and document tokens done on the CPU before the GPU is asked: about two seconds, which is what
# loading torch, compiling the kernels and copying the codes take.
PATIENCE = 2_000_000_000
# Share of the GPU's free memory that codes and anchors may take where nobody asked for it.
SHARE = 0.5

_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


class DeviceFound(NamedTuple):
    """Documents scored on a device, by their places among the positions asked for."""

    places: Array  # [n] int64 ascending
    scores: Array  # [n] float32
    anchor: Array
    late: Array


class DeviceSearch:
    """Scores the documents of snapshots; where it cannot, it says so by None, and the CPU does.

    Args:
        device: A device of torch's, such as ``"cuda:1"``, whose errors are raised; ``"auto"`` for the first GPU, if
            there is one, the documents fit and enough has been searched to make it worth loading.
    """

    def __init__(self, device: str = "auto") -> None:
        if not _DEVICE.fullmatch(device):
            raise SmartError(f"device: found {device!r}, expected 'auto', 'cpu', 'cuda' or one such as 'cuda:1'")
        self.asked = device
        self._lock = ForkLock()
        self._pid = os.getpid()
        self._done = 0
        self._gave_up = device == "cpu" or (device == "auto" and importlib.util.find_spec("triton") is None)
        self._codec: DeviceCodec | None = None
        self._kept: list[tuple[weakref.ref[Array], DeviceDocuments]] = []
        self._chosen: tuple[Array, list[torch.Tensor | None]] | None = None

    def score(
        self,
        snapshot: Snapshot,
        codec: Codec,
        query: tuple[Array, Array, Array],
        scoring: Scoring,
        positions: Array,
        best: int | None = None,
    ) -> DeviceFound | None:
        """Score positions (ascending): all of them, or the ``best`` and what ties with the last of these.

        ``query`` are its tokens ``[Tq, D]``, their shares ``[Tq]`` and its unit anchor ``[Da]``.
        """
        self._gave_up |= self._pid != os.getpid()  # a forked child cannot use its parent's GPU
        if self._gave_up or not len(positions) or not len(query[0]) or not scoring.late_weight:
            return None
        if self.asked == "auto":
            tokens = sum(len(segment.codes) for segment in snapshot.segments) * len(positions) // len(snapshot)
            self._done += tokens * len(query[0])
            if self._done < PATIENCE or not isinstance(codec, CodebookCodec):
                return None
        elif not isinstance(codec, CodebookCodec):
            raise SmartError(f"device {self.asked!r}: found codec {codec.name!r}, expected one of codebook or anchored")
        try:
            with self._lock.held:  # documents are copied once, and one search at a time has its intermediates there
                return self._scored(snapshot, codec, query, scoring, positions, best)
        except Exception as error:  # without a driver, a C compiler, room: whatever it is must not cost the search
            if self.asked != "auto":
                raise
            self._give_up(str(error).strip().partition("\n")[0] or type(error).__name__)
            return None

    def _give_up(self, reason: str) -> None:
        self._gave_up, self._codec, self._kept, self._chosen = True, None, [], None
        if reason:
            warnings.warn(f"the GPU cannot be used, exact searches go on on the CPU: {reason}", SmartWarning, 4)

    def _scored(
        self,
        snapshot: Snapshot,
        codec: CodebookCodec,
        query: tuple[Array, Array, Array],
        scoring: Scoring,
        positions: Array,
        best: int | None,
    ) -> DeviceFound | None:
        import torch

        if not torch.cuda.is_available() or importlib.util.find_spec("triton") is None:
            if self.asked == "auto":
                self._give_up("")
                return None
            raise SmartError(f"device {self.asked!r}: found no GPU, or a torch that was built without it and Triton")
        scorer = self._scorer(codec)
        documents = self._documents(scorer, snapshot)
        prepared = scorer.prepare(*query)
        parts: list[DeviceScores] = []
        for own, chosen in zip(documents, self._places(scorer, snapshot, positions), strict=True):
            if chosen is None or len(chosen):
                parts.append(
                    scorer.score(
                        prepared,
                        own,
                        floor=scoring.late_floor,
                        lambda_anchor=scoring.lambda_anchor,
                        lambda_late=scoring.late_weight,
                        chosen=chosen,
                    )
                )
        scores, anchor, late = (torch.cat(values) for values in zip(*parts, strict=True))
        if best is None or best >= len(scores):
            places = np.arange(len(scores))
        else:
            last = torch.topk(scores, best).values[-1] if best else torch.inf
            wanted = torch.nonzero(scores >= last)[:, 0]
            scores, anchor, late, places = scores[wanted], anchor[wanted], late[wanted], wanted.cpu().numpy()
        return DeviceFound(places, scores.cpu().numpy(), anchor.cpu().numpy(), late.cpu().numpy())

    def _scorer(self, codec: CodebookCodec) -> DeviceCodec:
        if self._codec is None or self._codec.codec is not codec:
            from ..codec.kernels_triton import DeviceCodec

            self._kept, self._chosen = [], None
            self._codec = DeviceCodec(codec, "cuda" if self.asked == "auto" else self.asked)
        return self._codec

    def _documents(self, scorer: DeviceCodec, snapshot: Snapshot) -> list[DeviceDocuments]:
        """Those of each segment; only segments that were not there at the last search are copied."""
        known = [
            next((own for codes, own in self._kept if codes() is segment.codes), None) for segment in snapshot.segments
        ]
        self._kept = []  # what is not known any more is freed first
        pairs = list(zip(snapshot.segments, known, strict=True))
        self._check_room(scorer, [segment for segment, own in pairs if own is None], len(snapshot))
        found = [own or scorer.upload(segment.codes, segment.offsets, segment.anchors) for segment, own in pairs]
        for segment in snapshot.segments:
            release_pages(segment.codes)
            release_pages(segment.anchors)
        self._kept = [(weakref.ref(segment.codes), own) for (segment, _), own in zip(pairs, found, strict=True)]
        return found

    def _check_room(self, scorer: DeviceCodec, segments: list[Segment], documents: int) -> None:
        """Refuse to copy what leaves others no room: they would run out of memory, not this."""
        if not segments or scorer.device.type != "cuda":
            return
        import torch

        free, _ = torch.cuda.mem_get_info(scorer.device)
        needed = sum(scorer.room(part.codes, part.offsets, part.anchors) for part in segments)
        needed += 160 * min(documents, 1 << 20) + 40 * documents  # what one search holds
        if needed > free * (SHARE if self.asked == "auto" else 1):
            raise SmartError(
                f"device {str(scorer.device)!r}: found {free / 2**30:.1f} GiB free, expected room for "
                f"{needed / 2**30:.1f} GiB" + (" in half of it" if self.asked == "auto" else "")
            )

    def _places(self, scorer: DeviceCodec, snapshot: Snapshot, positions: Array) -> list[torch.Tensor | None]:
        """Positions asked for, as places in each segment; None for all of it."""
        if len(positions) == len(snapshot):
            return [None] * len(snapshot.segments)
        if self._chosen is None or self._chosen[0] is not positions:
            import torch

            edges = np.searchsorted(positions, snapshot.starts)
            self._chosen = (
                positions,
                [
                    torch.from_numpy(positions[left:right] - start).to(scorer.device)
                    for left, right, start in zip(edges, edges[1:], snapshot.starts, strict=False)
                ],
            )
        return self._chosen[1]
