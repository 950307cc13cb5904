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

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "adapter.paper_format": ("OfficialAdapter", "read_official"),
        "adapter.train": ("train_adapter",),
        "backbone.finetune": ("finetune",),
        "data.examples": ("Example", "TrainingSet"),
        "data.mining": ("mine_negatives",),
        "data.pairs": ("load_pairs",),
        "export": ("export_multi_vector_encoder",),
        "plan": ("Plan", "plan_training"),
        "recipes": ("AdapterRecipe", "FinetuneRecipe"),
        "record": ("TrainingResult",),
    },
)
