"""Many documents encoded, and many shards served, by one process or by a Ray cluster (extra ``ray``).

The public names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .encode import EncodeReport as EncodeReport
    from .encode import Runner as Runner
    from .encode import encode_dataset as encode_dataset
    from .encode import encoded_parts as encoded_parts
    from .ray_runs import RayRunner as RayRunner
    from .rows import Columns as Columns
    from .serving.serve import ServedShards as ServedShards

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "encode": ("EncodeReport", "Runner", "encode_dataset", "encoded_parts"),
        "ray_runs": ("RayRunner",),
        "rows": ("Columns",),
        "serving.serve": ("ServedShards",),
    },
)
