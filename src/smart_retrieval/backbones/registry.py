"""Which family a checkpoint is of, and the backbone for it."""

from __future__ import annotations

import json
import os
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SmartWarning, UnsupportedModelError, one_of
from .checkpoints import LoadOptions, hub_answers, is_bare, read_config, resolve_model, split_server
from .text_families import needs_other_code, runs_other_code, text_families, text_family_of
from .vision import bare, gme, jina_v4, lamra, lamra_smart, qwen3_vl_embedding, vlm2vec
from .vision.family import Family

if TYPE_CHECKING:
    from .backbone import Backbone

# Compiled products that oneDNN keeps, one for each shape of a batch: its own limit of 1,024 takes a gigabyte for texts
# of all lengths, where one batch needs a dozen.
_KEPT_PRODUCTS = "32"
# Also a choice: the checkpoint as its files say, whatever its name tells.
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
_TOWERS = "two-towers"
# Architectures whose states were not trained to be pooled.
_OTHER_KINDS = re.compile(r"colbert|(Sequence|Token)Classification$|QuestionAnswering$", re.IGNORECASE)
FAMILIES = (_TEXT, _TOWERS, *_VISION, *text_families())


def open_backbone(name_or_path: str | Path, options: LoadOptions | None = None) -> Backbone:
    """Load a model as the family it is of: the one given, or known by architecture, files and name."""
    options = options or LoadOptions()
    name = str(name_or_path)
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _KEPT_PRODUCTS)
    if options.family is not None and options.family not in FAMILIES:
        raise UnsupportedModelError(f"family: {one_of(options.family, FAMILIES)}")
    served = split_server(name)
    source = resolve_model(name_or_path if served is None else served[0])
    # One short request here, because the loaders would retry for a minute without a network.
    offline = Path(source).is_dir() or options.local_files_only
    options = replace(options, local_files_only=offline or not hub_answers(source, options.revision, options.token))
    config = read_config(source, options)
    _refuse_remote_code(name, config)
    saved = _saved_identity(source)
    known_as = name if served is None else served[0]
    family = options.family or saved.get("recipe") or saved.get("family") or _family_of(known_as, source, config)
    if served is not None and family in (_TOWERS, *_VISION):
        raise UnsupportedModelError(
            f"model {name!r}: found a {family} model, expected a text model: servers are sent ids"
        )
    if family not in _VISION:
        pictured = (options.max_visual_tokens, options.max_frames)
        if any(value is not None for value in pictured) or options.video_budget not in (None, "usual"):
            raise UnsupportedModelError(
                f"model {name!r}: found max_visual_tokens, max_frames or video_budget, which a text model has no use "
                "for"
            )
        if family == _TOWERS:
            from .towers import TwoTowersBackbone

            return TwoTowersBackbone(name, source, options)
        recipe = text_families().get(family)
        if served is not None:
            from .served import ServedBackbone

            return ServedBackbone(name, source, served[1], options, config, recipe)
        from .sentence_transformer import SentenceTransformerBackbone

        if options.pooling is None:
            _refuse_other_kinds(name, source, options, config)
        return SentenceTransformerBackbone(name, source, options, config, recipe)
    from .vision.backbone import VisionLanguageBackbone

    if saved.get("family") == family:
        pooling = saved.get("pooling") if family == bare.FAMILY.name else None
        limits = {name: saved.get(name) for name in ("max_visual_tokens", "max_frames", "video_budget", "max_length")}
        options = replace(options.filled(pooling=pooling, **limits), as_published=False)
    visual = _recipe(_VISION[family], str(config.get("model_type", "")), name, options.pooling)
    return VisionLanguageBackbone(name, source, visual, options)


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
    """What :meth:`SmartModel.save_pretrained` recorded of a model; empty where it did not write the folder."""
    try:
        config = json.loads((Path(source) / "smart" / "config.json").read_text(encoding="utf-8"))
        identity = {"family": _TEXT, **config["backbone"]}
        return identity if {identity["family"], identity.get("recipe", _TEXT)} <= set(FAMILIES) else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _family_of(name: str, source: str, config: dict[str, Any]) -> str:
    if config.get("model_type") in ("clip", "siglip", "siglip2"):
        return _TOWERS
    if config.get("model_type") not in _ARCHITECTURES:
        known = text_family_of((name, source, str(config.get("_name_or_path", ""))))
        return _TEXT if known is None else known.name
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


def _refuse_other_kinds(name: str, source: str, options: LoadOptions, config: dict[str, Any]) -> None:
    """A bare reranker or ColBERT loads as an encoder, and its mean means nothing."""
    named = [str(one) for one in config.get("architectures") or ()]
    if not named or not all(map(_OTHER_KINDS.search, named)) or not is_bare(source, options):
        return
    why = (
        "a ColBERT model has no pooled embedding to anchor on"
        if "colbert" in named[0].lower()
        else "rerankers and classifiers were not trained to embed, and a reranker belongs behind --rerank"
    )
    raise UnsupportedModelError(
        f"model {name!r}: found the architecture {', '.join(named)} without modules.json, expected an embedding model: "
        f"{why}; with pooling= its states are pooled all the same"
    )


def _refuse_remote_code(name: str, config: dict[str, Any]) -> None:
    if any("JinaEmbeddingsV4" in str(architecture) for architecture in config.get("architectures") or ()):
        raise UnsupportedModelError(
            f"model {name!r}: found jina-embeddings-v4 with its task adapters apart, expected one of its merged "
            "checkpoints (jinaai/jina-embeddings-v4-vllm-retrieval): its own code does not run on current releases of "
            "transformers, and no code from a hub is run here"
        )
    if needs_other_code(config):
        raise UnsupportedModelError(
            f"model {name!r}: found the architecture {config.get('model_type')!r}, which exists only as code in its "
            "repository; no code from a hub is run here: use a checkpoint that transformers loads by itself, or serve "
            "it elsewhere and read its token states over HTTP"
        )
    if runs_other_code(config):
        warnings.warn(
            f"model {name!r}: its repository brings code of its own for the architecture {config.get('model_type')!r}, "
            "which is not run here; the library's own may compute something else (attend to the past only, for one): "
            "compare a few embeddings with published ones before you rely on it",
            SmartWarning,
            stacklevel=4,
        )
