"""What publishers of text models write in their model cards alone: the prompts and the pooling of ``*.json`` here."""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

#: Poolings that a checkpoint without the files of Sentence Transformers can be given.
POOLINGS = ("mean", "cls", "lasttoken")


@dataclass(frozen=True)
class TextFamily:
    """A family of text models that its checkpoints' own files leave incomplete."""

    name: str  # as SmartModel takes it under family=
    mark: str  # regular expression, in lower case, over the last part of a checkpoint's name
    prompts: Mapping[str, str]  # for tasks that the checkpoint has no prompt for
    pooling: str | Mapping[str, str]  # of a checkpoint that names none; by architecture where the family has several
    source: str  # where the recipe was published
    checked: str  # what its prompts were compared with

    def pooling_of(self, model_type: str) -> str | None:
        """The pooling of an architecture (``config.json``'s model_type)."""
        return self.pooling if isinstance(self.pooling, str) else self.pooling.get(model_type)


@cache
def text_families() -> dict[str, TextFamily]:
    """All of them by name."""
    file = importlib.resources.files("smart_retrieval.backbones") / "text_families.json"
    return {entry["name"]: TextFamily(**entry) for entry in json.loads(file.read_text(encoding="utf-8"))}


def text_family_of(names: Iterable[str]) -> TextFamily | None:
    """The family that one of a checkpoint's names tells: its hub name, its folder, the name in its config."""
    last = [Path(name).name.lower() for name in names]
    return next((family for family in text_families().values() if any(re.search(family.mark, n) for n in last)), None)


#: Architectures that transformers computes as the code in their publishers' repositories does.
_PORTED = frozenset({"nomic_bert", "gte", "eurobert", "jina_embeddings_v3", "modernbert"})


def runs_other_code(config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint names code of its own for an architecture that transformers has under the same name.

    Such a model (gte-Qwen2, for one, which attends in both directions) loads without its code, and computes something
    else.
    """
    return "AutoModel" in (config.get("auto_map") or {}) and config.get("model_type") not in _PORTED


def needs_other_code(config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's architecture exists only as code in its repository."""
    from transformers import CONFIG_MAPPING

    return bool(config.get("auto_map")) and config.get("model_type") not in CONFIG_MAPPING
