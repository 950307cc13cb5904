"""Which family a checkpoint is of, and the backbone for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedModelError, one_of
from .naming import hub_answers, resolve_model

if TYPE_CHECKING:
    from .backbone import Backbone

# Parts of a name by which a published checkpoint is known, in the order they are looked for.
_NAMES = {
    "qwen3-vl-embedding": ("qwen3-vl-embedding",),
    "gme": ("gme-qwen2-vl", "gme_qwen2_vl"),
    "lamra": ("lamra",),
    "vlm2vec-v2": ("vlm2vec",),
    "jina-v4": ("jina-embeddings-v4",),
}
_ARCHITECTURES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
FAMILIES = ("sentence-transformers", *_NAMES, "bare-vlm")


def open_backbone(
    name_or_path: str | Path,
    *,
    family: str | None = None,
    pooling: str | None = None,
    max_visual_tokens: int | None = None,
    max_frames: int | None = None,
    **kwargs: Any,
) -> Backbone:
    """Load a model as the family it is of.

    Args:
        name_or_path: As :func:`~smart_retrieval.backbones.naming.resolve_model` takes it.
        family: One of :data:`FAMILIES`; found by architecture, files and name when None.
        pooling: For a bare vision-language model.
        max_visual_tokens: Most visual tokens of one picture or frame.
        max_frames: Most frames of a video.
        **kwargs: As the backbone takes them.

    Raises:
        ModelNotFoundError: Nothing loadable under this name.
        UnsupportedModelError: The family is unknown or is not of this architecture.
    """
    if kwargs.pop("trust_remote_code", False):
        raise UnsupportedModelError("found trust_remote_code=True, expected False: code from a hub is never run")
    if family is not None and family not in FAMILIES:
        raise UnsupportedModelError(f"family: {one_of(family, FAMILIES)}")
    source = resolve_model(name_or_path)
    config = _config(source, kwargs)
    model_type = str(config.get("model_type", ""))
    _refuse_remote_only(str(name_or_path), config)
    saved = _saved_identity(source)
    chosen = family or saved.get("family") or _family_by(str(name_or_path), source, config)
    if chosen == "sentence-transformers":
        if pooling is not None or max_visual_tokens is not None or max_frames is not None:
            raise UnsupportedModelError(
                f"model {str(name_or_path)!r}: found pooling, max_visual_tokens or max_frames, which a text model has "
                "no use for: its pooling is part of the checkpoint"
            )
        from .sentence_transformer import SentenceTransformerBackbone

        return SentenceTransformerBackbone(name_or_path, **kwargs)
    from .vision.backbone import VisionLanguageBackbone

    if saved.get("family") == chosen:
        pooling = pooling or (saved.get("pooling") if chosen == "bare-vlm" else None)
        max_visual_tokens = max_visual_tokens or saved.get("max_visual_tokens")
        max_frames = max_frames or saved.get("max_frames")
        kwargs["max_length"] = kwargs.get("max_length") or saved.get("max_length")
    recipe = _recipe(chosen, model_type, str(name_or_path), pooling)
    if model_type not in recipe.model_types:
        raise UnsupportedModelError(
            f"model {str(name_or_path)!r}: found the architecture {model_type!r}, expected "
            f"{' or '.join(sorted(recipe.model_types))} for family {chosen!r}"
        )
    return VisionLanguageBackbone(
        str(name_or_path), source, recipe, max_visual_tokens=max_visual_tokens, max_frames=max_frames, **kwargs
    )


def _recipe(family: str, model_type: str, name: str, pooling: str | None) -> Any:
    from .vision import bare, gme, jina_v4, lamra, qwen3_vl_embedding, vlm2vec

    recipes: dict[str, Callable[[], Any]] = {
        "qwen3-vl-embedding": lambda: qwen3_vl_embedding.FAMILY,
        "gme": lambda: gme.FAMILY,
        "lamra": lambda: lamra.family(model_type),
        "vlm2vec-v2": lambda: vlm2vec.FAMILY,
        "jina-v4": lambda: jina_v4.FAMILY,
        "bare-vlm": lambda: bare.family(name, model_type, pooling),
    }
    if pooling is not None and family != "bare-vlm":
        raise UnsupportedModelError(
            f"model {name!r}: found pooling={pooling!r}, expected none: family {family!r} says how it is pooled"
        )
    return recipes[family]()


def _config(source: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint's ``config.json``; empty where there is none or nobody can be asked."""
    from transformers import PretrainedConfig

    local = Path(source).is_dir()
    if local and not (Path(source) / "config.json").is_file():
        return {}
    offline = local or bool(kwargs.get("local_files_only"))
    if not offline:
        # Asked once and shortly, because the loaders would retry for a minute without a network; they are told.
        offline = not hub_answers(source, kwargs.get("revision"), kwargs.get("token"))
        kwargs["local_files_only"] = offline
    try:
        found, _ = PretrainedConfig.get_config_dict(
            source if local or "/" in source else f"sentence-transformers/{source}",
            revision=kwargs.get("revision"),
            token=kwargs.get("token"),
            cache_dir=kwargs.get("cache_folder"),
            local_files_only=offline,
        )
    except Exception:  # the loader behind it says what is wrong, and better
        return {}
    return dict(found)


def _saved_identity(source: str) -> dict[str, Any]:
    """What :meth:`SmartModel.save_pretrained` wrote down of a vision-language model; empty for others."""
    try:
        config = json.loads((Path(source) / "smart" / "config.json").read_text(encoding="utf-8"))
        identity = config["backbone"]
        return dict(identity) if identity.get("family") in FAMILIES else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _family_by(name: str, source: str, config: dict[str, Any]) -> str:
    if config.get("model_type") not in _ARCHITECTURES:
        return "sentence-transformers"
    known_as = " ".join((name, Path(source).name, str(config.get("_name_or_path", "")))).lower()
    for family, marks in _NAMES.items():
        if any(mark in known_as for mark in marks):
            return family
    # Qwen3-VL-Embedding ships Sentence Transformers' files; whoever pools a Qwen3-VL at its last token means it.
    if config.get("model_type") == "qwen3_vl" and _pools_last_token(Path(source)):
        return "qwen3-vl-embedding"
    return "bare-vlm"


def _pools_last_token(folder: Path) -> bool:
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        paths = [module["path"] for module in modules if str(module["type"]).endswith("Pooling")]
        pooling = json.loads((folder / paths[0] / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return False
    return pooling.get("pooling_mode") == "lasttoken" or bool(pooling.get("pooling_mode_lasttoken"))


def _refuse_remote_only(name: str, config: dict[str, Any]) -> None:
    if any("JinaEmbeddingsV4" in str(architecture) for architecture in config.get("architectures") or ()):
        raise UnsupportedModelError(
            f"model {name!r}: found jina-embeddings-v4 with its task adapters apart, expected one of its merged "
            "checkpoints (jinaai/jina-embeddings-v4-vllm-retrieval): its own code does not run on current releases of "
            "transformers, and no code from a hub is run here"
        )
