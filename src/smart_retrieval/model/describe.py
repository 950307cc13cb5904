"""What a model is, in plain numbers, for ``smart inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedModelError
from .purpose import read_purpose

if TYPE_CHECKING:
    from rich.table import Table

# For the rendered prompt and the size estimate.
_SAMPLE = "how do I rotate the logs"


def describe_model(
    name_or_path: str | Path,
    *,
    family: str | None = None,
    pooling: str | None = None,
    max_length: int | None = None,
    max_visual_tokens: int | None = None,
    max_frames: int | None = None,
    video_budget: str | None = None,
    truncate_dim: int | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Describe a model; one that SMART does not apply to is described, too.

    Returns:
        JSON-able: ``model``, ``smart`` (``applies``, ``reason``) and, where SMART applies, ``purpose``, ``family``,
        ``recipe``, ``pooling``, ``anchor_dim``, ``truncate_dim``, ``hidden_size``, ``hidden_states``, ``max_length``,
        ``modalities``, ``max_seconds``, ``compute`` (of documents, here), ``video_budget``,
        ``adapter`` and ``layers`` (what token vectors are made of), ``special_tokens``, ``template_tokens``,
        ``prompts``, ``rendered``, ``bytes`` (float32, before compression).
    """
    from ..backbones.compute import Compute
    from .smart_model import SmartModel

    try:
        model = SmartModel(
            name_or_path, family=family, pooling=pooling, max_length=max_length, max_visual_tokens=max_visual_tokens,
            max_frames=max_frames, video_budget=video_budget, truncate_dim=truncate_dim, device=device,
        )  # fmt: skip
    except UnsupportedModelError as error:
        return {"model": str(name_or_path), "smart": {"applies": False, "reason": str(error)}}
    backbone = model.backbone
    computing = Compute.settled(backbone, "auto")
    rendered = {}
    for task in ("query", "document"):
        tokens = backbone.rendered(_SAMPLE, prompt=backbone.prompt_for(task, None, None), task=task)
        rendered[task] = [{"token": token, "role": role.name.lower()} for token, role in tokens]
    token_bytes = 4 * model.token_dim
    sizes = {
        "anchor": 4 * backbone.anchor_dim, "token_vector": token_bytes, "document_of_100_tokens": 100 * token_bytes,
    }  # fmt: skip
    if backbone.max_length is not None:
        sizes["longest_document"] = backbone.max_length * token_bytes
    return {
        "model": str(name_or_path),
        "smart": {"applies": True, "reason": backbone.reason},
        "purpose": None if (purpose := read_purpose(Path(backbone.source))) is None else purpose.what,
        "family": backbone.family,
        "recipe": None if backbone.recipe is None else {"name": backbone.recipe.name, "source": backbone.recipe.source},
        "architecture": backbone.architecture,
        "compute": {"name": computing.name, "reason": computing.reason},
        "modules": [type(module).__name__ for module in backbone.model],
        "fingerprint": backbone.fingerprint,
        "pooling": backbone.pooling,
        "anchor_dim": backbone.anchor_dim,
        "truncate_dim": backbone.truncate_dim,
        "hidden_size": backbone.hidden_size,
        "token_dim": model.token_dim,
        "adapter": None if (made := model.adapter) is None else {"kind": made.config.kind, **made.config.to_dict()},
        "layers": list(model.readout.layers),
        "hidden_states": backbone.n_states,
        "max_length": backbone.max_length,
        "modalities": sorted(backbone.modalities),
        "max_visual_tokens": backbone.max_visual_tokens,
        "max_frames": backbone.max_frames,
        "max_seconds": backbone.max_seconds,
        "video_budget": backbone.video_budget,
        "video": backbone.video_recipe,
        "special_tokens": sorted(backbone.tokenizer.convert_ids_to_tokens(sorted(backbone.special_ids))),
        "template_tokens": [entry["token"] for entry in rendered["document"] if entry["role"] == "template"],
        "prompts": backbone.prompts,
        "rendered": rendered,
        "bytes": sizes,
    }


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


def _rows(about: dict[str, Any]) -> dict[str, str]:
    sizes = about["bytes"]
    longest = f", {sizes['longest_document']:,} for the longest" if "longest_document" in sizes else ""
    visual, made = {}, ""
    if about["adapter"] is not None:
        layers = ("layer " if len(about["layers"]) == 1 else "layers ") + ", ".join(map(str, about["layers"]))
        made = f", by an adapter of the kind {about['adapter']['kind']} over {layers}"
    recipe = about["recipe"]
    recipe = {} if recipe is None else {"recipe": f"{recipe['name']}, as in {recipe['source']}"}
    if about["max_visual_tokens"] is not None:
        visual["a picture"] = f"at most {about['max_visual_tokens']} visual tokens"
        if about["max_frames"] is not None:
            visual["a video"] = about["video"]
    if about["max_seconds"] is not None:
        visual["sound"] = f"at most {about['max_seconds']:g} s; smart index cuts longer recordings into pieces"
    return {
        **({"made for": about["purpose"]} if about["purpose"] else {}),
        "family": f"{about['family']} ({about['architecture']}; {' > '.join(about['modules'])})",
        **recipe,
        "documents computed in": f"{about['compute']['name']} ({about['compute']['reason']})",
        "fingerprint": about["fingerprint"],
        "pooling": about["pooling"],
        "anchor": f"{about['anchor_dim']} dimensions" + (", the first of more" if about["truncate_dim"] else ""),
        "token vectors": f"{about['token_dim']} dimensions{made}",
        "hidden states": f"{about['hidden_states']} (0 is the embedding output, -1 the last)",
        "takes": ", ".join(about["modalities"]),
        **visual,
        "longest input": f"{about['max_length'] or 'no limit'} tokens",
        "special tokens": " ".join(about["special_tokens"]),
        "template tokens": " ".join(about["template_tokens"]) or "none",
        "prompts": "; ".join(f"{name}: {text!r}" for name, text in about["prompts"].items()) or "none",
        "a query": _marked(about["rendered"]["query"]),
        "a document": _marked(about["rendered"]["document"]),
        "bytes, float32": (
            f"{sizes['anchor']:,} an anchor, {sizes['token_vector']:,} a token vector, "
            f"{sizes['document_of_100_tokens']:,} for 100 tokens{longest}"
        ),
    }


def _marked(tokens: list[dict[str, str]]) -> str:
    """Tokens in a row; those that are not the user's text carry their role."""
    return " ".join(t["token"] if t["role"] == "text" else f"{t['token']}({t['role']})" for t in tokens)
