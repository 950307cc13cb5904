"""One calibration for all shards, of the documents of all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...core.calibration import Calibration
from ...core.collection import Calibrator
from ...embeddings import SmartEmbeddings
from ...types import Array
from ..smart_index import SmartIndex
from ..statistics import stored_sample
from .gather import summed_idf


def calibrate_shards(shards: Sequence[SmartIndex]) -> Calibration:
    """Measure late weight and floor over all documents, and keep them in every shard.

    Args:
        shards: Shards of one model and codec, open for writing.

    Returns:
        The calibration, by the rule of :class:`~smart_retrieval.core.collection.Calibrator`.

    Example:
        >>> calibrate_shards([SmartIndex.open(place) for place in shard_folders("docs.shards")])  # doctest: +SKIP
    """
    rowids = [shard.store.select(None) for shard in shards]
    owners = np.repeat(np.arange(len(shards)), [len(own) for own in rowids])
    numbers = np.concatenate([np.arange(len(own)) for own in rowids])

    def read(places: Array) -> SmartEmbeddings:
        places = np.asarray(places)
        order = np.argsort(owners[places], kind="stable")
        parts = []
        for number, shard in enumerate(shards):
            own = places[order][owners[places[order]] == number]
            if len(own):
                with shard.store.reading():
                    parts.append(stored_sample(shard.store, shard.codec(), rowids[number][numbers[own]]))
        return SmartEmbeddings.concatenate(parts)[np.argsort(order, kind="stable")]

    first = shards[0]
    model = first.store.manifest.model_calibration
    own = Calibration.from_dict(model) if model else None
    calibrator = Calibrator(own, lambda: first.model.calibrator.probes())
    found = calibrator.calibrate(len(owners), read, lambda: summed_idf([shard.idf() for shard in shards]))
    for shard in shards:
        shard.store.keep_calibration(found.to_dict(), again=True)
    return found
