"""Which family a checkpoint is of, and the backbone for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedModelError, one_of
from .checkpoints import LoadOptions, hub_answers, read_config, resolve_model
from .vision import bare, gme, jina_v4, lamra, lamra_smart, qwen3_vl_embedding, vlm2vec
from .vision.family import Family

if TYPE_CHECKING:
    from .backbone import Backbone

_TEXT = "sentence-transformers"
# In the order in which their marks are looked for in a checkpoint's name.
_VISION = {
    family.name: family
    for family in (
        qwen3_vl_embedding.FAMILY, gme.FAMILY, lamra_smart.FAMILY, lamra.FAMILY, vlm2vec.FAMILY, jina_v4.FAMILY,
        bare.FAMILY,
    )
}  # fmt: skip
_ARCHITECTURES = frozenset().union(*(family.model_types for family in _VISION.values()))
FAMILIES = (_TEXT, *_VISION)


def open_backbone(name_or_path: str | Path, options: LoadOptions | None = None) -> Backbone:
    """Load a model as the family it is of: the one given, or known by architecture, files and name."""
    options = options or LoadOptions()
    name = str(name_or_path)
    if options.family is not None and options.family not in FAMILIES:
        raise UnsupportedModelError(f"family: {one_of(options.family, FAMILIES)}")
    source = resolve_model(name_or_path)
    # One short request here, because the loaders would retry for a minute without a network.
    offline = Path(source).is_dir() or options.local_files_only
    options = replace(options, local_files_only=offline or not hub_answers(source, options.revision, options.token))
    config = read_config(source, options)
    _refuse_remote_code(name, config)
    saved = _saved_identity(source)
    family = options.family or saved.get("family") or _family_of(name, source, config)
    if family == _TEXT:
        visual = (options.pooling, options.max_visual_tokens, options.max_frames)
        if any(value is not None for value in visual) or options.video_budget not in (None, "usual"):
            raise UnsupportedModelError(
                f"model {name!r}: found pooling, max_visual_tokens, max_frames or video_budget, which a text model has "
                "no use for: its pooling is part of the checkpoint"
            )
        from .sentence_transformer import SentenceTransformerBackbone

        return SentenceTransformerBackbone(name, source, options)
    from .vision.backbone import VisionLanguageBackbone

    if saved.get("family") == family:
        pooling = saved.get("pooling") if family == bare.FAMILY.name else None
        limits = {name: saved.get(name) for name in ("max_visual_tokens", "max_frames", "video_budget", "max_length")}
        options = replace(options.filled(pooling=pooling, **limits), as_published=False)
    recipe = _recipe(_VISION[family], str(config.get("model_type", "")), name, options.pooling)
    return VisionLanguageBackbone(name, source, recipe, options)


def _recipe(family: Family, model_type: str, name: str, pooling: str | None) -> Family:
    recipe = family.variants.get(model_type, family)
    if family is bare.FAMILY:
        recipe = bare.pooled(recipe, name, pooling)
    elif pooling is not None:
        raise UnsupportedModelError(
            f"model {name!r}: found pooling={pooling!r}, expected none: family {family.name!r} says how it is pooled"
        )
    if model_type not in family.model_types:
        raise UnsupportedModelError(
            f"model {name!r}: found the architecture {model_type!r}, expected "
            f"{' or '.join(sorted(family.model_types))} for family {family.name!r}"
        )
    return recipe


def _saved_identity(source: str) -> dict[str, Any]:
    """What :meth:`SmartModel.save_pretrained` recorded of a vision-language model; empty for others."""
    try:
        config = json.loads((Path(source) / "smart" / "config.json").read_text(encoding="utf-8"))
        identity = config["backbone"]
        return dict(identity) if identity.get("family") in FAMILIES else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _family_of(name: str, source: str, config: dict[str, Any]) -> str:
    if config.get("model_type") not in _ARCHITECTURES:
        return _TEXT
    known_as = " ".join((name, Path(source).name, str(config.get("_name_or_path", "")))).lower()
    marked = [family for family in _VISION.values() if any(mark in known_as for mark in family.marks)]
    # Two families share a name; one of another architecture is named in the error.
    for family in sorted(marked, key=lambda family: config["model_type"] not in family.model_types):
        return family.name
    # Qwen3-VL-Embedding ships Sentence Transformers' files; no other Qwen3-VL model pools its last token with them.
    if config.get("model_type") == "qwen3_vl" and _pools_last_token(Path(source)):
        return qwen3_vl_embedding.FAMILY.name
    return bare.FAMILY.name


def _pools_last_token(folder: Path) -> bool:
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        paths = [module["path"] for module in modules if str(module["type"]).endswith("Pooling")]
        pooling = json.loads((folder / paths[0] / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return False
    return pooling.get("pooling_mode") == "lasttoken" or bool(pooling.get("pooling_mode_lasttoken"))


def _refuse_remote_code(name: str, config: dict[str, Any]) -> None:
    if any("JinaEmbeddingsV4" in str(architecture) for architecture in config.get("architectures") or ()):
        raise UnsupportedModelError(
            f"model {name!r}: found jina-embeddings-v4 with its task adapters apart, expected one of its merged "
            "checkpoints (jinaai/jina-embeddings-v4-vllm-retrieval): its own code does not run on current releases of "
            "transformers, and no code from a hub is run here"
        )
