"""Post-training: an adapter over a frozen model, or LoRA and full fine-tuning of the model itself.

The public names are imported on first use, so that importing this package needs neither torch nor time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .adapter.paper_format import OfficialAdapter as OfficialAdapter
    from .adapter.paper_format import read_official as read_official
    from .adapter.train import train_adapter as train_adapter
    from .backbone.finetune import finetune as finetune
    from .data.examples import Example as Example
    from .data.examples import TrainingSet as TrainingSet
    from .data.mining import mine_negatives as mine_negatives
    from .data.pairs import load_pairs as load_pairs
    from .export import export_multi_vector_encoder as export_multi_vector_encoder
    from .plan import Plan as Plan
    from .plan import plan_training as plan_training
    from .recipes import AdapterRecipe as AdapterRecipe
    from .recipes import FinetuneRecipe as FinetuneRecipe
    from .record import TrainingResult as TrainingResult

_HOMES = {
    "AdapterRecipe": "recipes",
    "Example": "data.examples",
    "FinetuneRecipe": "recipes",
    "OfficialAdapter": "adapter.paper_format",
    "Plan": "plan",
    "TrainingResult": "record",
    "TrainingSet": "data.examples",
    "export_multi_vector_encoder": "export",
    "finetune": "backbone.finetune",
    "load_pairs": "data.pairs",
    "mine_negatives": "data.mining",
    "plan_training": "plan",
    "read_official": "adapter.paper_format",
    "train_adapter": "adapter.train",
}

__all__ = list(_HOMES)

__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
