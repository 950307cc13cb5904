"""SMART: any single-vector embedding model becomes a hybrid single- and multi-vector retriever.

The public names are imported on first use, so that ``import smart_retrieval`` needs neither torch nor time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import lazy_names
from ._version import __version__ as __version__

if TYPE_CHECKING:
    from .core.hybrid import anchor_scores as anchor_scores
    from .core.hybrid import hybrid_scores as hybrid_scores
    from .core.late import late_scores as late_scores
    from .core.presets import Preset as Preset
    from .core.readout import Readout as Readout
    from .core.scoring import Scoring as Scoring
    from .core.weights import IdfWeights as IdfWeights
    from .embeddings import SmartEmbeddings as SmartEmbeddings
    from .errors import SmartError as SmartError
    from .index.explain.explanation import Explanation as Explanation
    from .index.search.hits import Hit as Hit
    from .index.search.hits import Hits as Hits
    from .index.smart_index import SmartIndex as SmartIndex
    from .inputs import Item as Item
    from .model.smart_model import SmartModel as SmartModel

_HOMES = {
    "Explanation": "index.explain.explanation",
    "Hit": "index.search.hits",
    "Hits": "index.search.hits",
    "IdfWeights": "core.weights",
    "Item": "inputs",
    "Preset": "core.presets",
    "Readout": "core.readout",
    "Scoring": "core.scoring",
    "SmartEmbeddings": "embeddings",
    "SmartError": "errors",
    "SmartIndex": "index.smart_index",
    "SmartModel": "model.smart_model",
    "anchor_scores": "core.hybrid",
    "hybrid_scores": "core.hybrid",
    "late_scores": "core.late",
}

__all__ = ["__version__", *_HOMES]

__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
