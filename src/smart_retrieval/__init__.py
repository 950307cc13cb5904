"""SMART: any single-vector embedding model becomes a hybrid single- and multi-vector retriever.

The public names are imported on first use, so that ``import smart_retrieval`` needs neither torch nor time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> the module that defines it.
_HOMES = {
    "SmartModel": "model",
    "SmartEmbeddings": "embeddings",
    "Readout": "readout",
    "IdfWeights": "scoring",
    "Preset": "scoring",
    "anchor_scores": "scoring",
    "hybrid_scores": "scoring",
    "late_scores": "scoring",
    "SmartIndex": "index.smart_index",
    "SmartError": "errors",
}

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from .embeddings import SmartEmbeddings as SmartEmbeddings
    from .errors import SmartError as SmartError
    from .index.smart_index import SmartIndex as SmartIndex
    from .model import SmartModel as SmartModel
    from .readout import Readout as Readout
    from .scoring import IdfWeights as IdfWeights
    from .scoring import Preset as Preset
    from .scoring import anchor_scores as anchor_scores
    from .scoring import hybrid_scores as hybrid_scores
    from .scoring import late_scores as late_scores


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
