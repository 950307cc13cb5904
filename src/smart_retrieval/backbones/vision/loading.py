"""Loading a Qwen-VL checkpoint with every weight accounted for."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ModelNotFoundError, UnsupportedModelError
from ..naming import hub_answers
from .family import Family
from .pixels import PatchSettings, read_preprocessor_config
from .rendering import IMAGE_PAD, VIDEO_PAD

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Qwen's control tokens; some tokenizers list them as added tokens only.
_CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
# What Sentence Transformers and the processors of transformers need beside what is read here.
_COMPANIONS = (
    "chat_template.jinja", "chat_template.json", "video_preprocessor_config.json", "sentence_bert_config.json",
)  # fmt: skip
# A retrieval model has no use for the head that predicts words.
_UNUSED = ("lm_head.",)


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint's pieces.

    Args:
        model: Without the language-model head.
        tokenizer: Its tokenizer.
        settings: How pictures are cut up.
        preprocessor: ``preprocessor_config.json``.
        special_ids: Ids that count as special, visual placeholders not among them.
        companions: Files by name that only other libraries read, to be saved again as they were.
    """

    model: PreTrainedModel
    tokenizer: Any
    settings: PatchSettings
    preprocessor: dict[str, Any]
    special_ids: frozenset[int]
    companions: dict[str, str]


def load_checkpoint(
    source: str,
    family: Family,
    *,
    device: str | None = None,
    revision: str | None = None,
    cache_folder: str | None = None,
    token: bool | str | None = None,
    local_files_only: bool | None = None,
    model_kwargs: dict[str, Any] | None = None,
    **unknown: Any,
) -> Checkpoint:
    """Open a folder or a hub repository.

    Raises:
        ModelNotFoundError: It cannot be loaded, or weights are missing or unknown.
        UnsupportedModelError: A token of its family is missing from the tokenizer.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    if unknown:
        raise UnsupportedModelError(
            f"model {source!r}: found arguments {sorted(unknown)}, expected cache_folder, token, local_files_only or "
            "model_kwargs: a vision-language model takes no others"
        )
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if Path(source).is_dir():
        local_files_only = True
    elif local_files_only is None:
        local_files_only = not hub_answers(source, revision, token)
    hub = {"revision": revision, "cache_dir": cache_folder, "token": token, "local_files_only": local_files_only}
    hub = {key: value for key, value in hub.items() if value is not None}
    on_cpu = (device or ("cuda" if torch.cuda.is_available() else "cpu")).startswith("cpu")
    # Half precision is slow on most CPUs and costs digits everywhere; accelerators keep the checkpoint's own.
    options: dict[str, Any] = {"dtype": torch.float32 if on_cpu else "auto", **(model_kwargs or {})}
    verbosity = transformers_logging.get_verbosity()
    # Its report of missing keys goes to stderr; ours is the error below.
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **hub)
        model, keys = AutoModel.from_pretrained(
            source,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **hub,
            **options,
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelNotFoundError(
            f"model {source!r}: expected a {'/'.join(sorted(family.model_types))} checkpoint in safetensors, found "
            f"{type(error).__name__}: {reason}. A LoRA adapter must be merged into its base model first"
        ) from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    _account_for(source, keys)
    if not family.deepstack and hasattr(model.visual, "deepstack_visual_indexes"):
        model.visual.deepstack_visual_indexes = []
    preprocessor = read_preprocessor_config(source, **hub)
    model.eval()
    return Checkpoint(
        model,
        tokenizer,
        PatchSettings.read(preprocessor, source),
        preprocessor,
        _special_ids(source, tokenizer, family, model.get_input_embeddings().weight.shape[0]),
        _companions(source, **hub),
    )


def _companions(source: str, **hub: Any) -> dict[str, str]:
    from transformers.utils.hub import cached_file

    found = {}
    for name in _COMPANIONS:
        file = cached_file(
            source,
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            **hub,
        )
        if file is not None:
            found[name] = Path(file).read_text(encoding="utf-8")
    return found


def _account_for(source: str, keys: dict[str, Any]) -> None:
    missing = sorted(str(key) for key in keys.get("missing_keys", ()))
    unexpected = sorted(str(key) for key in keys.get("unexpected_keys", ()) if not str(key).startswith(_UNUSED))
    mismatched = sorted(str(key) for key in keys.get("mismatched_keys", ()))
    if missing or unexpected or mismatched:
        found = "; ".join(
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for what, names in (("missing", missing), ("unknown", unexpected), ("of another shape", mismatched))
            if names
        )
        raise ModelNotFoundError(
            f"model {source!r}: found weights {found}, expected exactly this architecture's; a part of the model would "
            "be random or lost"
        )


def _special_ids(source: str, tokenizer: Any, family: Family, rows: int) -> frozenset[int]:
    known = tokenizer.get_vocab()
    probe = "Query: a1"
    # Without its vocabulary files, transformers opens a tokenizer of control tokens alone.
    if tokenizer.decode(tokenizer(probe, add_special_tokens=False)["input_ids"]) != probe:
        raise ModelNotFoundError(
            f"model {source!r}: found a tokenizer of {len(tokenizer)} tokens that cannot spell {probe!r}, expected its "
            "vocabulary in tokenizer.json, or vocab.json and merges.txt"
        )
    wanted = [IMAGE_PAD, *(token for token in _CONTROL if token.startswith("<|im"))]
    if missing := [token for token in wanted if token not in known]:
        raise UnsupportedModelError(
            f"model {source!r}: found no {', '.join(missing)} in its tokenizer, expected a Qwen-VL tokenizer"
        )
    if family.pooling.startswith("before "):
        _ensure_token(source, tokenizer, family.pooling.removeprefix("before "), rows)
        known = tokenizer.get_vocab()
    control = {known[token] for token in _CONTROL if token in known}
    visual = {known[token] for token in (IMAGE_PAD, VIDEO_PAD) if token in known}
    return frozenset(set(tokenizer.all_special_ids) | control) - visual


def _ensure_token(source: str, tokenizer: Any, token: str, rows: int) -> None:
    """Add the token that the anchor stands before, as the publisher's code does on loading.

    The anchor comes before it and cannot see it, so a row of the embedding table that training never used does; without
    a row the model would fail, and spelled in several pieces the anchor would be another position.
    """
    if token in tokenizer.get_vocab():
        return
    if len(tokenizer) >= rows:
        raise UnsupportedModelError(
            f"model {source!r}: found no token {token!r} in its tokenizer and no free row for it among {rows}, "
            "expected one: its anchor is the state before that token"
        )
    tokenizer.add_tokens([token])
