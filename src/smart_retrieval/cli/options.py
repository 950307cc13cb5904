"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

if TYPE_CHECKING:
    from ..evaluation.cache import EncodingCache
    from ..evaluation.evaluate import ScoringFields
    from ..index.search.options import RefinementFields

IndexPath = Annotated[Path, typer.Argument(metavar="INDEX", help="The index's folder.")]
IndexAddress = Annotated[
    str,
    typer.Argument(metavar="INDEX", help="The index's folder, or its address in a store: postgresql://user@host/name."),
]


def known_model(context: typer.Context, name: str | None) -> str | None:
    """A model's name as it is given; a wrong path is an error now, before anything is loaded."""
    if name is not None and not context.resilient_parsing:
        from ..backbones.checkpoints import resolve_model, split_server

        own = (split_server(name) or (name,))[0]
        if not os.path.isdir(os.path.expanduser(own)):  # what a folder holds is for the command: it may be an adapter
            resolve_model(own)
    return name


IndexModel = Annotated[str | None, typer.Option(callback=known_model, help="The index's model, if it was moved since.")]
_MODEL = "A packaged name, a folder, or a hub name; NAME@URL if a server runs it."
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", callback=known_model, help=_MODEL)]
Model = Annotated[str, typer.Option(callback=known_model, help=_MODEL)]
Device = Annotated[str | None, typer.Option(help="Torch device such as cpu or cuda. [default: the best available]")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Most inputs per forward pass.")]
SkipIncomplete = Annotated[
    bool, typer.Option("--skip-incomplete", help="Measure the complete tasks and list the others.")
]
Discard = Annotated[bool, typer.Option("--discard", help="Delete a task's encodings once it is scored.")]
MaxVisualTokens = Annotated[
    int | None, typer.Option(min=1, help="Most visual tokens per image. [default: the model's]")
]
MaxFrames = Annotated[int | None, typer.Option(min=1, help="Most frames per video. [default: the model's]")]
VideoBudget = Annotated[
    str | None,
    typer.Option(
        metavar="usual|official",
        help="What all frames of a video share, for Qwen3-VL-Embedding; the preset paper takes the official one.",
    ),
]
TokenPooling = Annotated[
    float | None, typer.Option(min=1, help="New index: merge similar token vectors until 1/N of them are left.")
]
TruncateDim = Annotated[
    int | None, typer.Option(min=1, help="Keep so many dimensions of the anchor, for a Matryoshka model.")
]
#: Those of `MODEL_OPTIONS` that were given.
ModelGiven: TypeAlias = Any  # a ModelOptions, whose module needs NumPy
#: The options of every command that loads a model, see `with_model_options`.
MODEL_OPTIONS: dict[str, Any] = {
    "family": Annotated[str | None, typer.Option(help="The model's family, if its name and files do not tell.")],
    "pooling": Annotated[
        str | None, typer.Option(help="lasttoken, mean or cls, for a model that does not say how it is pooled.")
    ],
    "max_length": Annotated[int | None, typer.Option(min=1, help="Most tokens per input. [default: the model's]")],
    "max_visual_tokens": MaxVisualTokens,
    "max_frames": MaxFrames,
    "video_budget": VideoBudget,
    "truncate_dim": TruncateDim,
    "device": Device,
}
StoredType = Annotated[str, typer.Option(help="Type of the stored token vectors: float32 or float16.")]

Preset = Annotated[str | None, typer.Option(help="paper or default: the settings that other options override.")]
TokenFilter = Annotated[
    str | None,
    typer.Option(
        help="paper: drop special tokens; content: also prompts, templates, punctuation and unknown tokens; visual: of "
        "inputs with pictures or sound, those alone. Behind it, -pooled drops the pooled position, -query-visual "
        "pictures and sound of queries."
    ),
]
Layers = Annotated[
    list[str] | None,
    typer.Option("--layers", "--layer", metavar="-1,-2", help="Hidden states to read; -1 is the last. Repeatable."),
]
Image = Annotated[
    Path | None, typer.Option(metavar="FILE", exists=True, dir_okay=False, help="An image as the query, or part of it.")
]
Audio = Annotated[
    Path | None, typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Sound as the query, or part of it.")
]
Weights = Annotated[str | None, typer.Option(help="Query-token weights: uniform or idf. [default: the preset's]")]
LambdaAnchor = Annotated[float | None, typer.Option(help="Weight of the anchor score. [default: the preset's]")]
LambdaLate = Annotated[
    str | None, typer.Option(help="Weight of the late score: a number, or calibrated. [default: the preset's]")
]
Floor = Annotated[
    str | None,
    typer.Option(
        help="Token similarities below it count as 0: a number below 1, none, or calibrated. [default: the preset's]"
    ),
]

Where = Annotated[
    str | None, typer.Option(help="Filter over metadata, source, page, heading, id: \"year > 2020 and tags = 'en'\".")
]
Lexical = Annotated[bool, typer.Option("--lexical", help="Add BM25 with a weight of 3.")]
LexicalWeight = Annotated[
    float | None,
    typer.Option(min=0, help="Add BM25 with this weight, in units of the spread of the anchors' cosines."),
]
Feedback = Annotated[
    float, typer.Option(min=0, help="Add likeness to the best hit (cosine of the anchors) with this weight, e.g. 0.3.")
]
Neighbours = Annotated[
    float, typer.Option(min=0, help="Add the mean score of a document's 3 nearest hits with this weight, e.g. 0.2.")
]
Rerank = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="Order the first hits by this cross-encoder: a folder or hub name."),
]
RerankDepth = Annotated[int | None, typer.Option(min=1, help="Hits that --rerank orders. [default: 50]")]

Documents = Annotated[int, typer.Option(min=2, help="Sample at most this many documents; relevant ones are kept.")]
Queries = Annotated[int, typer.Option(min=1, help="Sample at most this many queries.")]
KnownItem = Annotated[
    bool, typer.Option("--known-item", help="Make queries from the documents even where there are judgments.")
]
Split = Annotated[str, typer.Option(help="Which qrels file to use.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
CacheFolder = Annotated[
    Path | None,
    typer.Option(
        "--cache", metavar="DIR", file_okay=False, help="Where encodings are cached. [default: the user's cache]"
    ),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Do not read or write the cache of encodings.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
Out = Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the JSON object to a file.")]


def with_model_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `MODEL_OPTIONS` in place of its argument ``model_options``, which then holds those given.

    Those whose names the command uses itself are left out.
    """
    signature = inspect.signature(command, eval_str=True)
    options = {name: annotation for name, annotation in MODEL_OPTIONS.items() if name not in signature.parameters}

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        own = {name: values.pop(name) for name in options}
        command(**values, model_options={name: value for name, value in own.items() if value is not None})

    made: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.name != "model_options":
            made.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        if parameter.name == "model":  # where a reader of the help looks for them
            made += [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
                for name, annotation in options.items()
            ]
    wrapper.__signature__ = signature.replace(parameters=made)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in made}
    return wrapper


def parts_of(values: list[str] | None) -> list[str]:
    """The values of a repeatable option that also takes commas: ``--tasks A,B`` or ``--tasks A --tasks B``."""
    return [part.strip() for value in values or [] for part in value.split(",") if part.strip()]


def layers_of(values: list[str] | None) -> tuple[int, ...] | None:
    """The hidden states of ``--layers``; None if it is not given."""
    try:
        return tuple(int(part) for value in values or [] for part in value.split(",")) or None
    except ValueError:
        raise typer.BadParameter(f"layers: found {','.join(values or ())!r}, expected integers such as -1,-2") from None


def floor_of(value: str | None) -> float | Literal["preset", "calibrated"] | None:
    """The floor of ``--floor``: a number, None for ``none``, the preset's if it is not given."""
    if value is None:
        return "preset"
    if value.lower() == "none":
        return None
    if value.lower() == "calibrated":
        return "calibrated"
    try:
        return float(value)
    except ValueError:
        raise typer.BadParameter(f"floor: found {value!r}, expected a number below 1, none, or calibrated") from None


def late_weight_of(value: str | None) -> float | Literal["calibrated"] | None:
    """The weight of ``--lambda-late``; None if it is not given."""
    if value is None or value.lower() == "calibrated":
        return None if value is None else "calibrated"
    try:
        return float(value)
    except ValueError:
        raise typer.BadParameter(f"lambda late: found {value!r}, expected a number, or calibrated") from None


def scoring_of(weights: Any, lambda_anchor: float | None, lambda_late: str | None, floor: str | None) -> ScoringFields:
    """The fields of a scoring; what is not given stays the preset's."""
    return {
        "weights": weights or "preset",
        "lambda_anchor": lambda_anchor,
        "lambda_late": late_weight_of(lambda_late),
        "floor": floor_of(floor),
    }


def refinements_of(
    feedback: float, neighbours: float, rerank: str | None, depth: int | None = None
) -> RefinementFields:
    """The options that refine a result list."""
    if depth is not None and rerank is None:
        raise typer.BadParameter("found --rerank-depth without --rerank, expected --rerank MODEL")
    found: RefinementFields = {}
    if feedback:
        found["feedback"] = feedback
    if neighbours:
        found["neighbours"] = neighbours
    if rerank is not None:
        found["rerank"] = rerank
    if depth is not None:
        found["rerank_depth"] = depth
    return found


def lexical_of(lexical: bool, weight: float | None) -> float:
    """The weight of BM25, from ``--lexical`` and ``--lexical-weight``."""
    from ..index.search.searcher import LEXICAL_WEIGHT

    return weight if weight is not None else LEXICAL_WEIGHT * lexical


def cache_of(folder: Path | None, no_cache: bool) -> EncodingCache | None:
    """The cache of encodings, from ``--cache`` and ``--no-cache``."""
    if folder is not None and no_cache:
        raise typer.BadParameter("found both --cache and --no-cache, expected one of them")
    from ..evaluation.cache import EncodingCache

    return None if no_cache else EncodingCache(folder)
