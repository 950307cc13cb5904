"""SMART: any single-vector embedding model becomes a hybrid single- and multi-vector retriever.

The public names are imported on first use, so that ``import smart_retrieval`` needs neither torch nor time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

# Public name -> the module that defines it.
_HOMES = {
    "SmartModel": "model.smart_model",
    "SmartEmbeddings": "embeddings",
    "Readout": "core.readout",
    "IdfWeights": "core.weights",
    "Preset": "core.presets",
    "anchor_scores": "core.hybrid",
    "hybrid_scores": "core.hybrid",
    "late_scores": "core.late",
    "SmartIndex": "index.smart_index",
    "SmartError": "errors",
}

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from .core.hybrid import anchor_scores as anchor_scores
    from .core.hybrid import hybrid_scores as hybrid_scores
    from .core.late import late_scores as late_scores
    from .core.presets import Preset as Preset
    from .core.readout import Readout as Readout
    from .core.weights import IdfWeights as IdfWeights
    from .embeddings import SmartEmbeddings as SmartEmbeddings
    from .errors import SmartError as SmartError
    from .index.smart_index import SmartIndex as SmartIndex
    from .model.smart_model import SmartModel as SmartModel


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
