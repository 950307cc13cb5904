"""SMART: any single-vector embedding model becomes a hybrid single- and multi-vector retriever.

The public names are imported on first use, so that ``import smart_retrieval`` needs neither torch nor time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import lazy_names
from ._version import __version__ as __version__

if TYPE_CHECKING:
    from .core.calibration import Calibration as Calibration
    from .core.hybrid import anchor_scores as anchor_scores
    from .core.hybrid import hybrid_scores as hybrid_scores
    from .core.late import late_scores as late_scores
    from .core.maxsim.prepared import PreparedDocuments as PreparedDocuments
    from .core.presets import Preset as Preset
    from .core.readout import Readout as Readout
    from .core.scoring import Scoring as Scoring
    from .core.weights import IdfWeights as IdfWeights
    from .embeddings import SmartEmbeddings as SmartEmbeddings
    from .errors import SmartError as SmartError
    from .index.codec.factory import Codec as Codec
    from .index.explain.explanation import Explanation as Explanation
    from .index.search.hits import Hit as Hit
    from .index.search.hits import Hits as Hits
    from .index.search.options import Reranker as Reranker
    from .index.shards.sharded_index import ShardedIndex as ShardedIndex
    from .index.shards.split import merge_indexes as merge_indexes
    from .index.shards.split import split_index as split_index
    from .index.smart_index import SmartIndex as SmartIndex
    from .index.smart_reranker import SmartReranker as SmartReranker
    from .inputs import Item as Item
    from .model.smart_model import SmartModel as SmartModel
    from .stores.opening import open_index as open_index

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "core.calibration": ("Calibration",),
        "core.hybrid": ("anchor_scores", "hybrid_scores"),
        "core.late": ("late_scores",),
        "core.maxsim.prepared": ("PreparedDocuments",),
        "core.presets": ("Preset",),
        "core.readout": ("Readout",),
        "core.scoring": ("Scoring",),
        "core.weights": ("IdfWeights",),
        "embeddings": ("SmartEmbeddings",),
        "errors": ("SmartError",),
        "index.codec.factory": ("Codec",),
        "index.explain.explanation": ("Explanation",),
        "index.search.hits": ("Hit", "Hits"),
        "index.search.options": ("Reranker",),
        "index.shards.sharded_index": ("ShardedIndex",),
        "index.shards.split": ("merge_indexes", "split_index"),
        "index.smart_index": ("SmartIndex",),
        "index.smart_reranker": ("SmartReranker",),
        "inputs": ("Item",),
        "model.smart_model": ("SmartModel",),
        "stores.opening": ("open_index",),
    },
    ["__version__"],
)
