"""Does SMART help this model on these data, and why: every reading of one encoding, measured with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.presets import Preset, get_preset
from ...core.readout import Readout
from ...core.scoring import TOKEN_WEIGHTS, Scoring
from ...errors import DatasetError
from ...extras import require
from ...types import Array
from ..beir import DOCUMENTS, QUERIES, BeirDataset, load_beir, sample
from ..cache import EncodingCache
from ..evaluate import GAIN_METRIC, about, prepare
from ..known_item import KNOWN_ITEM_NOTE, load_known_item
from ..significance import paired_comparison
from .statistics import helped_and_hurt, length_bins, point, relevant_lengths
from .sweep import Sweep
from .tokens import token_report
from .verdict import verdict

if TYPE_CHECKING:
    from ...model.smart_model import SmartModel

#: Points of the curve over the late score's weight.
LAMBDAS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)

#: Floors tried.
FLOORS = (None, 0.4, 0.55, 0.7)

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
    cache: EncodingCache | None = None,
    batch_size: int | None = None,
    progress: bool | None = False,
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
        cache: Where encodings are kept and looked for. With None they are held in memory.
        batch_size: Most texts in one forward pass; the model's default when None.
        progress: Draw bars on stderr; None draws them on a terminal only.

    Returns:
        JSON-able; docs/guide_probe.md names every key. ``verdict`` first, then what it rests on: ``known_item``,
        ``systems``, ``default_against_paper``, ``layers``, ``lambda_late``, ``variants``, ``query_length``,
        ``document_length``, ``queries``, ``tokens``, ``notes``, and the keys of `evaluate.about`.

    Raises:
        DatasetError: The folder is missing, malformed, or has nothing to rank.
        MissingExtraError: pytrec_eval is not installed.
        SmartError: The model cannot be loaded or run; the cache cannot be written.

    Example:
        >>> probe("cranfield")["verdict"]["headline"]  # doctest: +SKIP
        'SMART helps: minilm on cranfield'
    """
    require("pytrec_eval", "eval")
    data = load_data(folder, documents=documents, queries=queries, known_item=known_item, split=split, seed=seed)
    smart, _ = prepare(model, None, {}, {})
    sweep = Sweep.encode(smart, data, cache=cache, batch_size=batch_size, progress=progress)
    default, paper = settings_of(smart)
    looked = _Look(sweep, default)
    # What shares a readout is asked for together: its late scores are then computed together.
    by_default, by_lambda = looked.at(default), looked.lambdas("default", default)
    variants = looked.variants(default, by_default["hybrid"])
    # The paper's readout is mostly the last of the layers.
    layers, by_paper, by_paper_lambda = looked.layers(default), looked.at(paper), looked.lambdas("paper", paper)
    anchor, hybrid = by_default["anchor"], by_default["hybrid"]
    lengths = relevant_lengths(data.qrels, data.document_ids, sweep.documents.lengths)
    result = {
        "metric": GAIN_METRIC,
        "known_item": data.split == "known-item",
        "systems": [
            {"name": "anchor", **point(anchor), "gain": None},
            *(
                {"name": f"{system}, {name}", **point(judged[system]), "gain": _gain(anchor, judged[system])}
                for name, judged in (("paper", by_paper), ("default", by_default))
                for system in ("late", "hybrid")
            ),
        ],
        "default_against_paper": _gain(by_paper["hybrid"], hybrid),
        "layers": layers,
        "lambda_late": [by_paper_lambda, by_lambda],
        "variants": variants,
        "query_length": length_bins(sweep.queries.lengths, anchor, hybrid),
        "document_length": length_bins(lengths, anchor, hybrid),
        "queries": helped_and_hurt(data.query_ids, data.queries, anchor, hybrid),
        "tokens": token_report(smart, default.readout, data, seed=seed, batch_size=batch_size),
        **about(data, smart, default, *sweep.encodings),
    }
    notes = [*([KNOWN_ITEM_NOTE] if result["known_item"] else []), INTERVALS_NOTE]
    return {"verdict": verdict(result), **result, "notes": notes}


def load_data(
    folder: str | Path, *, documents: int, queries: int, known_item: bool, split: str, seed: int
) -> BeirDataset:
    """A folder's judged collection, or one of known-item queries where it has no judgments.

    Args:
        folder: See `probe`.
        documents: Most documents.
        queries: Most queries.
        known_item: Whether to make known-item queries in any case.
        split: Which qrels file to judge by.
        seed: Of every random choice.

    Raises:
        DatasetError: See `probe`.
    """
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
    default = replace(smart.preset, readout=smart.readout)
    paper = get_preset("paper")
    return default, paper if smart.adapter is None else replace(paper, readout=smart.readout)


def _gain(baseline: Array, treatment: Array) -> dict[str, Any]:
    return paired_comparison(baseline, treatment).to_dict()


class _Look:
    """Readings of one encoding, judged.

    Args:
        sweep: The encoding.
        default: The setting whose variants will be asked for.
    """

    def __init__(self, sweep: Sweep, default: Preset) -> None:
        self._sweep = sweep
        self._default = self._same(default.readout)
        floors = dict.fromkeys((default.scoring.floor, *FLOORS))
        self._of_default = [(str(default.scoring.weights), floor) for floor in floors] + [
            (weights, default.scoring.floor) for weights in TOKEN_WEIGHTS if weights != default.scoring.weights
        ]
        self._judged_anchor = sweep.judge(sweep.anchor(), GAIN_METRIC)
        # Of one readout at a time: of many, they would not fit into memory.
        self._readout: Readout | None = None
        self._lates: dict[tuple[str, float | None], Array] = {}

    def at(self, setting: Preset) -> dict[str, Array]:
        """The three systems under a setting, every query's value."""
        late = self._late(setting)
        return {
            "anchor": self._judged_anchor,
            "late": self._sweep.judge(late, GAIN_METRIC),
            "hybrid": self._hybrid(setting),
        }

    def _hybrid(self, setting: Preset) -> Array:
        return self._sweep.judge(setting.scoring.combine(self._sweep.anchor(), self._late(setting)), GAIN_METRIC)

    def _point(self, judged: Array) -> dict[str, Any]:
        """A point of a curve, and its difference from the anchor, whose interval is narrower."""
        return {**point(judged), "over_anchor": point(judged - self._judged_anchor)}

    def _late(self, setting: Preset) -> Array:
        """Late scores; with the first of a readout come the others that will be asked for."""
        wanted, readout = (str(setting.scoring.weights), setting.scoring.floor), self._same(setting.readout)
        if self._readout != readout:
            self._readout, self._lates = readout, {}
        if wanted not in self._lates:
            usual = self._of_default if readout == self._default else [(name, None) for name in TOKEN_WEIGHTS]
            missing = list(dict.fromkeys([wanted, *([] if self._lates else usual)]))
            found = self._sweep.lates(readout, missing)
            self._lates.update(zip(missing, found, strict=True))
        return self._lates[wanted]

    def _same(self, readout: Readout) -> Readout:
        """A readout under one name: the last layer is -1 and a number, unless -1 stands for what is behind it."""
        backbone = self._sweep.smart.backbone
        if self._sweep.settled or backbone.output_size != backbone.hidden_size:
            return readout
        return replace(readout, layers=readout.resolve_layers(backbone.n_states))

    def layers(self, default: Preset) -> dict[str, Any]:
        """Late and hybrid quality of each layer alone, under both weightings, without a floor."""
        readouts: Sequence[tuple[int | None, Readout]] = [
            (layer, Readout((layer,), "mean", default.readout.token_filter)) for layer in self._sweep.layers
        ]
        if self._sweep.settled:
            readouts = [(None, default.readout)]
        points = []
        for layer, readout in readouts:
            for weights in TOKEN_WEIGHTS:
                judged = self.at(Preset("layer", readout, Scoring(weights)))
                points += [
                    {"layer": layer, "system": system, "weights": weights, **self._point(judged[system])}
                    for system in ("late", "hybrid")
                ]
        return {
            "states": self._sweep.smart.backbone.n_states,
            "lambda_late": 1.0,
            "floor": None,
            "anchor": point(self._judged_anchor),
            "points": points,
        }

    def lambdas(self, name: str, setting: Preset) -> dict[str, Any]:
        """Hybrid quality over the late score's weight."""
        grid = sorted({*LAMBDAS, setting.scoring.lambda_late})
        return {
            "preset": name,
            "chosen": setting.scoring.lambda_late,
            "points": [
                {
                    "lambda_late": value,
                    **self._point(self._hybrid(replace(setting, scoring=setting.scoring.override(lambda_late=value)))),
                }
                for value in grid
            ],
        }

    def variants(self, default: Preset, hybrid: Array) -> list[dict[str, Any]]:
        """The default with one thing changed, each compared with the default as it is."""
        own = default.readout
        changed = [
            (f"{name} weights", _scored(default, weights=name))
            for name in TOKEN_WEIGHTS
            if name != default.scoring.weights
        ]
        changed += [
            (
                "no floor" if floor is None else f"floor {floor:g}",
                _scored(default, floor=floor),
            )
            for floor in FLOORS
            if floor != default.scoring.floor
        ]
        changed += [
            (f"token filter {name}", replace(default, readout=replace(own, token_filter=name)))
            for name in self._sweep.token_filters
            if name != own.token_filter
        ]
        if not self._sweep.settled and not own.reads_last_state_only:
            last = Readout((-1,), "mean", own.token_filter)
            changed.append(("the last layer alone", replace(default, readout=last)))
        rows = [(name, self.at(setting)["hybrid"]) for name, setting in changed]
        return [{"name": name, **point(judged), "gain": _gain(hybrid, judged)} for name, judged in rows]


def _scored(setting: Preset, **fields: Any) -> Preset:
    """A setting with some fields of its scoring replaced."""
    return replace(setting, scoring=setting.scoring.override(**fields))
