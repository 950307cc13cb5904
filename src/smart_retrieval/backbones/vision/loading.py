"""Loading a Qwen-VL checkpoint with every weight accounted for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import ModelNotFoundError, UnsupportedModelError
from ..checkpoints import LoadOptions, checkpoint_file, hide_progress_bars, only_errors_logged
from .family import Family
from .pixels import PatchSettings
from .rendering import IMAGE_PAD, VIDEO_PAD

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Qwen's control tokens; some tokenizers list them as added tokens only.
_CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
# What Sentence Transformers and the processors of transformers need beside what is read here.
_COMPANIONS = (
    "chat_template.jinja", "chat_template.json", "video_preprocessor_config.json", "sentence_bert_config.json",
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint's pieces."""

    model: PreTrainedModel  # without the language-model head
    tokenizer: Any
    settings: PatchSettings
    preprocessor: dict[str, Any]  # preprocessor_config.json, to be saved again
    special_ids: frozenset[int]  # visual placeholders not among them
    companions: dict[str, str]  # files that only other libraries read, to be saved again as they were


def load_checkpoint(source: str, family: Family, options: LoadOptions) -> Checkpoint:
    """Open a folder or a hub repository; an error where weights are missing or unknown."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    if others := [name for name in ("config_kwargs", "processor_kwargs") if getattr(options, name) is not None]:
        raise UnsupportedModelError(
            f"model {source!r}: found arguments {others}, expected cache_folder, token, local_files_only or "
            "model_kwargs: a vision-language model takes no others"
        )
    hide_progress_bars()
    on_cpu = (options.device or ("cuda" if torch.cuda.is_available() else "cpu")).startswith("cpu")
    # Half precision is slow on most CPUs and costs digits everywhere; accelerators keep the checkpoint's own.
    dtype = torch.float32 if on_cpu else "auto"
    try:
        with only_errors_logged():  # missing keys are reported by the error below
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options.hub)
            model, keys = AutoModel.from_pretrained(
                source,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **options.hub,
                **{"dtype": dtype, **(options.model_kwargs or {})},
            )
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelNotFoundError(
            f"model {source!r}: expected a {'/'.join(sorted(family.model_types))} checkpoint in safetensors, found "
            f"{type(error).__name__}: {reason}. A LoRA adapter must be merged into its base model first"
        ) from error
    _account_for(source, keys)
    if not family.deepstack and hasattr(model.visual, "deepstack_visual_indexes"):
        model.visual.deepstack_visual_indexes = []
    model.eval()
    preprocessor = _read_preprocessor_config(source, options)
    special_ids = _special_ids(source, tokenizer, family, model.get_input_embeddings().weight.shape[0])
    files = {name: checkpoint_file(source, name, options) for name in _COMPANIONS}
    companions = {name: file.read_text(encoding="utf-8") for name, file in files.items() if file is not None}
    settings = PatchSettings.read(preprocessor, source)
    return Checkpoint(model, tokenizer, settings, preprocessor, special_ids, companions)


def _read_preprocessor_config(source: str, options: LoadOptions) -> dict[str, Any]:
    try:
        file = checkpoint_file(source, "preprocessor_config.json", options)
        config = None if file is None else json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        config = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if not isinstance(config, dict):
        raise ModelNotFoundError(
            f"model {source!r}: expected a preprocessor_config.json with a JSON object, which says how pictures are "
            f"cut up; found {config or 'no such file'}"
        )
    return config


def _account_for(source: str, keys: dict[str, Any]) -> None:
    kinds = {"missing": "missing_keys", "unknown": "unexpected_keys", "of another shape": "mismatched_keys"}
    problems = []
    for what, kind in kinds.items():
        # A retrieval model has no use for the head that predicts words.
        names = sorted(str(key) for key in keys.get(kind, ()) if not str(key).startswith("lm_head."))
        if names:
            problems.append(f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
    if problems:
        raise ModelNotFoundError(
            f"model {source!r}: found weights {'; '.join(problems)}, expected exactly this architecture's; a part of "
            "the model would be random or lost"
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
