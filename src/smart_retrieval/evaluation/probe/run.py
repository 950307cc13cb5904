"""The probe itself: one encoding, read and scored in many ways."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.presets import Preset, get_preset
from ...core.readout import Readout
from ...core.roles import TokenFilter
from ...core.scoring import TOKEN_WEIGHTS, Scoring
from ...errors import DatasetError
from ...extras import require
from ...types import Array
from ..beir import DOCUMENTS, QUERIES, BeirDataset, load_beir, sample
from ..cache import EncodingCache
from ..evaluate import GAIN_METRIC, Collection, prepare
from ..known_item import KNOWN_ITEM_NOTE, load_known_item
from ..results import ComparisonFacts
from ..significance import paired_comparison
from .page import write_page
from .statistics import helped_and_hurt, length_bins, point, relevant_lengths
from .sweep import Sweep, system_scoring, with_named_weights
from .verdict import verdict

if TYPE_CHECKING:
    from ...model.options import ModelOptions
    from ...model.smart_model import SmartModel

LAMBDAS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)  #: points of the curve over the late score's weight
FLOORS = (None, 0.4, 0.55, 0.7)  #: floors tried

#: What every probe says about its intervals.
INTERVALS_NOTE = (
    "intervals are 95 % bootstrap intervals over the queries, each for its own point and not corrected for the number "
    "of points looked at"
)


def probe(
    folder: str | Path,
    *,
    model: str | Path | SmartModel = "minilm",
    documents: int = DOCUMENTS,
    queries: int = QUERIES,
    known_item: bool = False,
    split: str = "test",
    seed: int = 0,
    token_filter: str | None = None,
    html: str | Path | None = None,
    cache: EncodingCache | None = None,
    batch_size: int | None = None,
    progress: bool | None = False,
    model_options: ModelOptions | None = None,
) -> dict[str, Any]:
    """Measure how a model's token vectors serve a collection, layer by layer and setting by setting.

    Everything is encoded once, all layers together; another setting is another reading of that. "Default" is the
    model's own setting: the preset of that name, or what is saved in the model's folder.

    Args:
        folder: A BEIR-layout folder; one with ``corpus.jsonl`` alone, or of text files, gets known-item queries.
        model: Name or path of a model, or a loaded one.
        documents: Most documents. Of a larger judged collection every relevant one is kept, and others at random.
        queries: Most queries, chosen at random.
        known_item: Make known-item queries although there are judgments.
        split: Which qrels file to judge by.
        seed: Of every random choice.
        token_filter: Which positions the default setting keeps, over the model's; see `Readout`.
        html: Also write the result there as one web page, see `probe_page`.
        cache: Where encodings are kept and looked for. With None they are held in memory.
        batch_size: Most texts in one forward pass; the model's default when None.
        progress: Draw bars on stderr; None draws them on a terminal only.
        model_options: Further arguments of `SmartModel` for a model given by name.

    Returns:
        JSON-able; docs/guides/does_it_help.md names every key. ``verdict`` first, then what it rests on:
        ``known_item``, ``systems``, ``default_against_paper``, ``layers``, ``lambda_late``, ``variants``,
        ``query_length``, ``document_length``, ``queries``, ``tokens``, ``notes``, and the keys of
        `evaluate.Collection.about`.

    Raises:
        DatasetError: The folder is missing, malformed, or has nothing to rank.
        MissingExtraError: pytrec_eval is not installed, or matplotlib for the page.
        SmartError: The model cannot be loaded or run; the cache or the page cannot be written.

    Example:
        >>> probe("cranfield")["verdict"]["headline"]  # doctest: +SKIP
        'SMART helps: minilm on cranfield'
    """
    # What can fail fast fails before anything is encoded.
    require("pytrec_eval", "eval")
    if html is not None:
        require("matplotlib", "plot")
    data = load_data(folder, documents=documents, queries=queries, known_item=known_item, split=split, seed=seed)
    from .tokens import token_report  # with torch, which is not needed to say that there are no data

    smart, _ = prepare(model, model_options=model_options)
    if token_filter is not None:
        smart = smart.with_readout(replace(smart.readout, token_filter=token_filter))
    default, paper = settings_of(smart)
    sweep = Sweep.encode(smart, data, cache=cache, batch_size=batch_size, progress=progress)
    by_preset = {"paper": paper, "default": default}
    systems = {
        f"{system}, {name}": replace(setting, scoring=system_scoring(setting.scoring, system))
        for name, setting in by_preset.items()
        for system in ("late", "hybrid")
    }
    layers = list(_layers(sweep, default))
    own_lambda = {
        name: setting.scoring.fitted(sweep.statistics(setting.readout)).late_weight
        for name, setting in by_preset.items()
    }
    curves = {name: list(_over_lambda_late(setting, own_lambda[name])) for name, setting in by_preset.items()}
    variants = dict(_variants(sweep, default))
    anchor_alone = replace(default, scoring=system_scoring(default.scoring, "anchor"))
    by_layer = (setting for _, setting in layers)
    values = sweep.measure([anchor_alone, *systems.values(), *by_layer, *chain(*curves.values()), *variants.values()])
    anchor, hybrid = values[anchor_alone], values[systems["hybrid, default"]]

    def on_curve(setting: Preset) -> dict[str, Any]:
        """A point, and its difference from the anchor, whose interval is narrower."""
        return {**point(values[setting]), "over_anchor": point(values[setting] - anchor)}

    def rows(settings: Mapping[str, Preset], baseline: Array) -> list[dict[str, Any]]:
        return [
            {"name": name, **point(values[setting]), "gain": _gain(baseline, values[setting])}
            for name, setting in settings.items()
        ]

    lengths = relevant_lengths(data.qrels, data.document_ids, sweep.documents.lengths)
    result = {
        "metric": GAIN_METRIC,
        "known_item": data.split == "known-item",
        "systems": [{"name": "anchor", **point(anchor), "gain": None}, *rows(systems, anchor)],
        "default_against_paper": _gain(values[systems["hybrid, paper"]], hybrid),
        "layers": {
            "states": smart.backbone.n_states,
            "lambda_late": 1.0,
            "floor": None,
            "anchor": point(anchor),
            "points": [{**row, **on_curve(setting)} for row, setting in layers],
        },
        "lambda_late": [
            {
                "preset": name,
                "chosen": own_lambda[name],
                "points": [{"lambda_late": one.scoring.lambda_late, **on_curve(one)} for one in curve],
            }
            for name, curve in curves.items()
        ],
        "variants": rows(variants, hybrid),
        "query_length": length_bins(sweep.queries.lengths, anchor, hybrid),
        "document_length": length_bins(lengths, anchor, hybrid),
        "queries": helped_and_hurt(data.query_ids, data.queries, anchor, hybrid),
        "tokens": token_report(smart, default.readout, data, seed=seed, batch_size=batch_size),
        **Collection(data, smart, default, *sweep.encodings).about(),
    }
    notes = [*([KNOWN_ITEM_NOTE] if result["known_item"] else []), INTERVALS_NOTE]
    result = {"verdict": verdict(result), **result, "notes": notes}
    if html is not None:
        write_page(result, Path(html))
    return result


def load_data(
    folder: str | Path, *, documents: int, queries: int, known_item: bool, split: str, seed: int
) -> BeirDataset:
    """A folder's judged collection, or one of known-item queries where it has no judgments; see `probe`."""
    folder = Path(folder)
    # With one of the two there, the other is missing by mistake, which `load_beir` says.
    judged = (folder / "queries.jsonl").exists() or (folder / "qrels").exists() or not folder.is_dir()
    if known_item or not judged:
        return load_known_item(folder, documents=documents, queries=queries, seed=seed)
    data = sample(load_beir(folder, split), documents=documents, queries=queries, seed=seed)
    if len(data.texts) < 2:
        raise DatasetError(f"{folder}: found 1 document, expected at least 2: with one there is nothing to rank")
    return data


def settings_of(smart: SmartModel) -> tuple[Preset, Preset]:
    """The model's own setting, and the paper's; an adapter's readout is settled, so the paper's scoring reads it."""
    default = with_named_weights(replace(smart.preset, readout=smart.readout))
    paper = get_preset("paper")
    if smart.adapter is not None:
        return default, replace(paper, readout=smart.readout)
    # Positions left out whatever their role are left out in both.
    token_filter = f"{paper.readout.token_filter}{TokenFilter.parse(smart.readout.token_filter).modifiers}"
    return default, replace(paper, readout=replace(paper.readout, token_filter=token_filter))


def _gain(baseline: Array, treatment: Array) -> ComparisonFacts:
    return paired_comparison(baseline, treatment).to_dict()


def _layers(sweep: Sweep, default: Preset) -> Iterator[tuple[dict[str, Any], Preset]]:
    """Late and hybrid of each layer alone, under both weightings, without a floor; of an adapter, its own layers."""
    readouts: dict[int | None, Readout] = {None: default.readout}
    if not sweep.settled:
        readouts = {layer: Readout((layer,), "mean", default.readout.token_filter) for layer in sweep.layers}
    for layer, readout in readouts.items():
        for weights in TOKEN_WEIGHTS:
            for system in ("late", "hybrid"):
                scoring = system_scoring(Scoring(weights), system)
                yield {"layer": layer, "system": system, "weights": weights}, Preset("layer", readout, scoring)


def _over_lambda_late(setting: Preset, own: float) -> Iterator[Preset]:
    for value in sorted({*LAMBDAS, own}):
        yield replace(setting, scoring=setting.scoring.override(lambda_late=value))


def _variants(sweep: Sweep, default: Preset) -> Iterator[tuple[str, Preset]]:
    """The default with one thing changed."""
    own, scoring = default.readout, default.scoring
    for weights in TOKEN_WEIGHTS:
        if weights != scoring.weights:
            yield f"{weights} weights", replace(default, scoring=scoring.override(weights=weights))
    for floor in FLOORS:
        if floor != scoring.floor:
            name = "no floor" if floor is None else f"floor {floor if isinstance(floor, str) else format(floor, 'g')}"
            yield name, replace(default, scoring=scoring.override(floor=floor))
    for token_filter in sweep.token_filters:
        if token_filter != own.token_filter:
            yield f"token filter {token_filter}", replace(default, readout=replace(own, token_filter=token_filter))
    if not sweep.settled and not own.reads_last_state_only:
        yield "the last layer alone", replace(default, readout=Readout((-1,), "mean", own.token_filter))
