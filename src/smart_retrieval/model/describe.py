"""What a model is, in plain numbers: for ``smart inspect`` and for whoever decides which model to take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedModelError

if TYPE_CHECKING:
    from rich.table import Table

    from ..backbones.backbone import Backbone

# For the rendered prompt and the size estimate.
SAMPLE = "how do I rotate the logs"


def describe_model(name_or_path: str | Path, **kwargs: Any) -> dict[str, Any]:
    """Describe a model.

    Args:
        name_or_path: A packaged name, a folder, or a hub name.
        **kwargs: As :class:`~smart_retrieval.SmartModel` takes them.

    Returns:
        JSON-able: ``model``, ``smart`` (``applies``, ``reason``) and, where SMART applies, ``family``, ``pooling``,
        ``anchor_dim``, ``hidden_size``, ``hidden_states``, ``max_length``, ``modalities``, ``special_tokens``,
        ``template_tokens``, ``prompts``, ``rendered``, ``bytes`` (float32, before compression).

    Raises:
        ModelNotFoundError: Nothing loadable under this name. A model SMART does not apply to is described, not refused.

    Example:
        >>> describe_model("minilm")["pooling"]
        'mean'
    """
    from ..backbones.registry import open_backbone

    try:
        backbone = open_backbone(name_or_path, **kwargs)
    except UnsupportedModelError as error:
        return {"model": str(name_or_path), "smart": {"applies": False, "reason": str(error)}}
    return {
        "model": backbone.name,
        "smart": {"applies": True, "reason": "every token has a hidden state, and they are pooled into the anchor"},
        "family": backbone.family,
        "architecture": type(backbone.transformer.model).__name__,
        "modules": [type(module).__name__ for module in backbone.model],
        "fingerprint": backbone.fingerprint,
        "pooling": backbone.pooling,
        "anchor_dim": backbone.anchor_dim,
        "hidden_size": backbone.hidden_size,
        "token_dim": backbone.output_size,
        "hidden_states": backbone.n_states,
        "max_length": backbone.max_length,
        "modalities": sorted(backbone.modalities),
        "max_visual_tokens": backbone.max_visual_tokens,
        "max_frames": backbone.max_frames,
        "special_tokens": sorted(backbone.tokenizer.convert_ids_to_tokens(sorted(backbone.special_ids))),
        "template_tokens": _template_tokens(backbone),
        "prompts": backbone.prompts,
        "rendered": {task: _rendered(backbone, task) for task in ("query", "document")},
        "bytes": _bytes(backbone),
    }


def _rendered(backbone: Backbone, task: str) -> list[dict[str, str]]:
    prompt = backbone.prompt_for(task, None, None)
    tokens = backbone.rendered(SAMPLE, prompt=prompt, task=task)
    return [{"token": token, "role": role.name.lower()} for token, role in tokens]


def _template_tokens(backbone: Backbone) -> list[str]:
    return [entry["token"] for entry in _rendered(backbone, "document") if entry["role"] == "template"]


def _bytes(backbone: Backbone) -> dict[str, int]:
    token = 4 * backbone.output_size
    sizes = {"anchor": 4 * backbone.anchor_dim, "token_vector": token, "document_of_100_tokens": 100 * token}
    if backbone.max_length is not None:
        sizes["longest_document"] = backbone.max_length * token
    return sizes


def render_description(description: dict[str, Any]) -> Table:
    """The description as a table for the terminal."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    applies = description["smart"]
    verdict = "yes" if applies["applies"] else "no"
    rows = {"model": description["model"], "SMART applies": f"{verdict}: {applies['reason']}"}
    if applies["applies"]:
        rows |= _rows(description)
    for name, value in rows.items():
        table.add_row(name, escape(str(value)))
    return table


def _rows(description: dict[str, Any]) -> dict[str, Any]:
    prompts = "; ".join(f"{name}: {text!r}" for name, text in description["prompts"].items())
    sizes = description["bytes"]
    longest = f", {sizes['longest_document']:,} for the longest" if "longest_document" in sizes else ""
    return {
        "family": f"{description['family']} ({description['architecture']}; {' > '.join(description['modules'])})",
        "fingerprint": description["fingerprint"],
        "pooling": description["pooling"],
        "anchor": f"{description['anchor_dim']} dimensions",
        "token vectors": f"{description['token_dim']} dimensions",
        "hidden states": f"{description['hidden_states']} (0 is the embedding output, -1 the last)",
        "takes": ", ".join(description["modalities"]),
        **_visual_rows(description),
        "longest input": f"{description['max_length'] or 'no limit'} tokens",
        "special tokens": " ".join(description["special_tokens"]),
        "template tokens": " ".join(description["template_tokens"]) or "none",
        "prompts": prompts or "none",
        "a query": _marked(description["rendered"]["query"]),
        "a document": _marked(description["rendered"]["document"]),
        "bytes, float32": (
            f"{sizes['anchor']:,} an anchor, {sizes['token_vector']:,} a token vector, "
            f"{sizes['document_of_100_tokens']:,} for 100 tokens{longest}"
        ),
    }


def _visual_rows(description: dict[str, Any]) -> dict[str, str]:
    if description["max_visual_tokens"] is None:
        return {}
    rows = {"a picture": f"at most {description['max_visual_tokens']} visual tokens"}
    if description["max_frames"] is not None:
        rows["a video"] = f"at most {description['max_frames']} frames"
    return rows


def _marked(tokens: list[dict[str, str]]) -> str:
    """Tokens in a row; those that are not the user's text carry their role."""
    return " ".join(t["token"] if t["role"] == "text" else f"{t['token']}({t['role']})" for t in tokens)
