"""What scoring takes from the collection that is searched: IDF weights and calibration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..embeddings import SmartEmbeddings
from ..types import Array
from .calibration import Calibration, has_words, sample_positions
from .vectors import expect_embeddings
from .weights import IdfWeights

#: Documents from which on a collection is calibrated by itself; a smaller one takes its model's calibration.
MIN_DOCUMENTS = 64


class CollectionStatistics:
    """IDF weights and calibration of a collection, each made when it is first needed.

    Args:
        idf: Gives the IDF weights.
        calibration: Gives the calibration.
    """

    def __init__(self, idf: Callable[[], IdfWeights], calibration: Callable[[], Calibration]) -> None:
        self._make_idf, self._make_calibration = idf, calibration
        # Not cached_property, which locks all collections in Python 3.11, and a forked child for ever.
        self._idf: IdfWeights | None = None
        self._calibration: Calibration | None = None

    @property
    def idf(self) -> IdfWeights:
        """IDF weights over the collection's documents."""
        if self._idf is None:
            self._idf = self._make_idf()
        return self._idf

    @property
    def calibration(self) -> Calibration:
        """Late weight and floor."""
        if self._calibration is None:
            self._calibration = self._make_calibration()
        return self._calibration


@dataclass(frozen=True)
class Calibrator:
    """Calibrates collections for one model: the rule that similarity, indexes and evaluation share.

    A collection of :data:`MIN_DOCUMENTS` documents or more is measured by itself. A smaller one takes the model's
    calibration, so that a text more or less does not change the scores; where the model has none, it is measured all
    the same.

    Args:
        model: The model's calibration.
        probes: Gives the queries that measure documents without words of their own.
    """

    model: Calibration | None
    probes: Callable[[], SmartEmbeddings]

    def statistics(self, documents: SmartEmbeddings) -> CollectionStatistics:
        """The statistics of a whole collection."""
        expect_embeddings(documents)
        found = CollectionStatistics(
            lambda: IdfWeights.fit(documents),
            lambda: self.calibrate(len(documents), documents.__getitem__, lambda: found.idf),
        )
        return found

    def calibrate(
        self, documents: int, read: Callable[[Array], SmartEmbeddings], idf: Callable[[], IdfWeights]
    ) -> Calibration:
        """The calibration of a collection that is read in part.

        Args:
            documents: N, documents in the collection.
            read: Gives the documents at some positions.
            idf: Gives the collection's IDF weights.
        """
        if self.model is not None and documents < MIN_DOCUMENTS:
            return self.model
        sample = read(sample_positions(documents))
        return Calibration.measure(sample, idf(), None if has_words(sample) else self.probes())
