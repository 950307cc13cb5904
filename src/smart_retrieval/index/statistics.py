"""How an index scores where a search names nothing else: the scoring it was made with, and its calibration."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ..core.calibration import Calibration
from ..core.collection import MIN_DOCUMENTS, Calibrator, CollectionStatistics
from ..core.presets import PRESETS, default_of_0_1
from ..core.readout import Readout
from ..core.scoring import CALIBRATED, LateWeight, Scoring, TokenWeights
from ..core.weights import IdfWeights
from ..embeddings import SmartEmbeddings
from ..errors import IndexDamagedError
from ..types import Array
from .codec.base import Codec
from .document_store import DocumentStore
from .encoder import IndexEncoder, decode_vectors


class IndexStatistics:
    """IDF weights and calibration of an index, at its newest commit.

    The calibration is fixed at the end of the first write that leaves :data:`MIN_DOCUMENTS` documents, and then stays,
    so that scores can be compared over time; until then it follows the documents, by the rule of :class:`Calibrator`.
    """

    def __init__(self, store: DocumentStore, encoder: IndexEncoder) -> None:
        self._store, self._encoder = store, encoder
        self._newest: tuple[int, CollectionStatistics] | None = None

    def newest(self) -> CollectionStatistics:
        """Those of the newest commit."""
        with self._store.reading():
            commit = self._store.state().number
            if self._newest is None or self._newest[0] != commit:
                self._newest = (commit, CollectionStatistics(self._idf, self._calibration))
            return self._newest[1]

    def scoring(self) -> Scoring:
        """The scoring that the index was made with; that of version 0.1 for an index of that time."""
        found = self._store.manifest.scoring
        if found and found.get("weights") != "custom":
            try:
                return Scoring(**found)
            except TypeError as error:
                raise IndexDamagedError(f"the index's scoring cannot be read ({error}); restore a copy") from error
        own = self._encoder.model().preset.scoring
        if not found and own == PRESETS["default"].scoring:  # the model has none of its own
            return default_of_0_1(Readout.from_dict(self._store.manifest.readout))
        return own

    def settled(
        self,
        scoring: Scoring | None = None,
        weights: TokenWeights | Literal["preset"] = "preset",
        lambda_anchor: float | None = None,
        lambda_late: LateWeight | None = None,
        floor: float | Literal["preset", "calibrated"] | None = "preset",
    ) -> Scoring:
        """The scoring given, in numbers; fields left out are the index's own."""
        given = (scoring or self.scoring()).override(
            weights=weights, lambda_anchor=lambda_anchor, lambda_late=lambda_late, floor=floor
        )
        return given.fitted(self.newest())

    def known_calibration(self) -> dict[str, Any]:
        """What is recorded of the calibration, and ``of`` what it is: ``"collection"``, or ``"model"`` until then."""
        manifest = self._store.manifest
        found = manifest.calibration or manifest.model_calibration
        if not found:
            return {}
        calibration = Calibration.from_dict(found)
        numbers = {"lambda_late": calibration.lambda_late, "floor": calibration.floor}
        return {**found, **numbers, "of": "collection" if manifest.calibration else "model"}

    def fix_calibration(self, *, again: bool = False) -> None:
        """Measure and keep the calibration if that is still to be done, or ``again``."""
        store = self._store
        scoring, fixed = store.manifest.scoring, bool(store.manifest.calibration)
        if CALIBRATED not in (scoring.get("lambda_late"), scoring.get("floor")) or (fixed and not again):
            return
        with store.reading():
            if store.state().documents < MIN_DOCUMENTS:
                return
            measured = self._measured()
        store.keep_calibration(measured.to_dict(), again=again)

    def _idf(self) -> IdfWeights:
        with self._store.reading():
            documents, ids, counts = self._store.idf()
        frequencies = np.zeros(int(ids.max(initial=-1)) + 1, np.int64)
        frequencies[ids] = counts
        return IdfWeights(documents, frequencies, unseen=1 if self._store.manifest.scoring else 0)

    def _calibration(self) -> Calibration:
        with self._store.reading():
            manifest = self._store.newest_manifest()
            return Calibration.from_dict(manifest.calibration) if manifest.calibration else self._measured()

    def _measured(self) -> Calibration:
        with self._store.reading():
            rowids = self._store.select(None)

            def read(places: Array) -> SmartEmbeddings:
                return stored_sample(self._store, self._encoder.codec(), rowids[places])

            model = self._store.manifest.model_calibration
            own = Calibration.from_dict(model) if model else None
            calibrator = Calibrator(own, lambda: self._encoder.model().calibrator.probes())
            return calibrator.calibrate(len(rowids), read, self._idf)


def stored_sample(store: DocumentStore, codec: Codec, rowids: Array) -> SmartEmbeddings:
    """Some documents of a store, decoded, for a calibration."""
    vectors = store.read_vectors(rowids)
    sample = decode_vectors(codec, vectors)
    if len(vectors.token_ids) == len(sample.token_ids):
        return sample
    # Of pooled tokens no word is known, only whether the document has words: one id stands for all.
    worded = np.add.reduceat(np.append(vectors.token_ids >= 0, False), vectors.id_offsets[:-1]) > 0
    sample.token_ids = np.where(np.repeat(worded, sample.lengths), 0, -1).astype(np.int32)
    return sample
