"""Choose readout and scoring on judged queries, and say honestly what that gains: by cross-validation over queries."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.presets import Preset
from ...core.readout import Readout
from ...errors import DatasetError, ScoringError
from ...extras import require
from ...progress import progress as progress_bar
from ...types import Array
from ..beir import DOCUMENTS, QUERIES, BeirDataset, load_beir, sample
from ..cache import EncodingCache
from ..evaluate import GAIN_METRIC, about, prepare
from ..known_item import KNOWN_ITEM_NOTE, load_known_item
from ..probe.probe import settings_of
from ..probe.sweep import Sweep
from ..significance import Comparison, p_value_told, paired_comparison
from .grid import grid, place_of, setting_dict, setting_name
from .write import check_target, write_setting

if TYPE_CHECKING:
    from ...model.smart_model import SmartModel


#: What counts as significant.
LEVEL = 0.05

#: What can be chosen, and for each the folds are counted that agree with the final choice.
_PARTS = ("layers", "mix", "token_filter", "weights", "floor", "lambda_late")


@dataclass(frozen=True)
class Measured:
    """Every setting's nDCG@10 on every query of a collection.

    Attributes:
        values: ``[settings, queries]``.
        anchor: ``[queries]``, of the anchor alone.
        folds: ``[queries]``, the fold of each.
    """

    values: Array
    anchor: Array
    folds: Array

    def gains(self, queries: Array) -> Array:
        """Relative gain over the anchor on some queries, ``[settings]``; absolute where the anchor finds nothing.

        Args:
            queries: Mask, ``[queries]``.
        """
        base = float(self.anchor[queries].mean())
        difference: Array = self.values[:, queries].mean(axis=1) - base
        return difference / base if base > 0 else difference


@dataclass(frozen=True)
class CrossValidated:
    """What cross-validation chose.

    Attributes:
        by_fold: The setting chosen without each fold's queries.
        chosen: The setting chosen on all queries.
        out_of_fold: For each collection ``[queries]``: every query judged under the setting chosen without its fold.
    """

    by_fold: tuple[int, ...]
    chosen: int
    out_of_fold: tuple[Array, ...]


def tune(
    folders: Sequence[str | Path],
    *,
    model: str | Path | SmartModel = "minilm",
    folds: int = 5,
    documents: int = DOCUMENTS,
    queries: int = QUERIES,
    known_item: bool = False,
    split: str = "test",
    seed: int = 0,
    write: str | Path | None = None,
    cache: EncodingCache | None = None,
    batch_size: int | None = None,
    progress: bool | None = False,
) -> dict[str, Any]:
    """Choose layers, mix, token filter, query-token weights, floor and λ_late for a model on judged collections.

    Every setting of `grid.grid` is measured on every query. For each fold the best on the other folds is judged on
    its queries; these out-of-fold values are what a setting chosen in this way gains on queries it was not chosen on.
    With several collections, the mean of their relative gains over the anchor counts.

    Args:
        folders: BEIR-layout folders.
        model: Name or path of a model, or a loaded one. Its own setting is the one to beat.
        folds: Parts that the queries are cut into; queries of the same text stay together.
        documents: Most documents of a collection, see `sampling.sample`.
        queries: Most queries of a collection.
        known_item: Make queries from the documents instead of taking judged ones.
        split: Which qrels file to judge by.
        seed: Of every random choice.
        write: A new folder, or the model's own: the chosen setting is written there if it is significantly better.
        cache: Where encodings are kept and looked for. With None they are held in memory.
        batch_size: Most texts in one forward pass; the model's default when None.
        progress: Draw bars on stderr; None draws them on a terminal only.

    Returns:
        JSON-able; docs/guide_tune.md names every key. ``verdict`` first, then ``chosen``, ``default``, ``rows`` (one a
        collection), ``gain`` (out of fold against the default), ``over_anchor``, ``in_sample``, ``folds``,
        ``agreement``, ``written``, ``notes`` and ``collections`` (`evaluate.about` of each).

    Raises:
        DatasetError: A folder is missing, malformed, has no judgments, or fewer queries than folds.
        ScoringError: Fewer than two folds, or a collection twice.
        MissingExtraError: pytrec_eval is not installed.
        SmartError: The model cannot be loaded or run; the folder to write to holds something else.

    Example:
        >>> result = tune(["cranfield"])  # doctest: +SKIP
        >>> result["chosen"]["name"], round(result["gain"]["difference"], 3)  # doctest: +SKIP
        ('layer -3, idf weights, floor 0.55, λ_late 1', 0.001)
    """
    require("pytrec_eval", "eval")
    if folds < 2:
        raise ScoringError(f"folds: found {folds}, expected at least 2")
    if not folders:
        raise DatasetError("found no folder to tune on, expected at least one")
    if len({Path(folder).resolve() for folder in folders}) < len(folders):
        raise ScoringError("found a folder twice, expected each once: every folder counts equally")
    loaded = [_load(Path(folder), documents, queries, known_item, split, seed) for folder in folders]
    parts = [split_folds(data.queries, folds, seed, str(folder)) for data, folder in zip(loaded, folders, strict=True)]
    smart, _ = prepare(model, None, {}, {})
    target = None if write is None else Path(write).expanduser()
    if target is not None:
        check_target(smart, target)
    sweeps = [Sweep.encode(smart, data, cache=cache, batch_size=batch_size, progress=progress) for data in loaded]
    default, paper = settings_of(smart)
    filters = sorted({name for sweep in sweeps for name in sweep.token_filters}, reverse=True)
    states = smart.backbone.n_states
    settings = grid(sweeps[0].layers, states, filters, default, paper, settled=sweeps[0].settled)
    with progress_bar("Measuring settings", len(settings) * len(sweeps), progress) as advance:
        measured = [
            Measured(_values(sweep, settings, advance), sweep.judge(sweep.anchor()), own)
            for sweep, own in zip(sweeps, parts, strict=True)
        ]
    found = cross_validate(measured, folds)
    chosen = settings[found.chosen]
    by_paper = [own.values[place_of(paper, settings, states)] for own in measured]
    by_default = [own.values[0] for own in measured]
    in_sample = [own.values[found.chosen] for own in measured]
    gain = compared(measured, by_default, found.out_of_fold)
    result: dict[str, Any] = {
        "metric": GAIN_METRIC,
        "known_item": known_item,
        "settings": len(settings),
        "chosen": {"name": setting_name(chosen), **setting_dict(chosen)},
        "default": {"name": setting_name(default), **setting_dict(default)},
        "rows": [
            {
                "name": sweep.data.name,
                "queries": len(sweep.data.queries),
                "anchor": float(own.anchor.mean()),
                "paper": float(judged.mean()),
                "default": float(own.values[0].mean()),
                "out_of_fold": float(outside.mean()),
                "in_sample": float(own.values[found.chosen].mean()),
                "gain": paired_comparison(own.values[0], outside).to_dict(),
                "over_anchor": paired_comparison(own.anchor, outside).to_dict(),
            }
            for sweep, own, judged, outside in zip(sweeps, measured, by_paper, found.out_of_fold, strict=True)
        ],
        "gain": gain.to_dict(),
        "over_anchor": compared(measured, [own.anchor for own in measured], found.out_of_fold).to_dict(),
        "in_sample": compared(measured, by_default, in_sample).to_dict(),
        "folds": [
            {
                "fold": number,
                "queries": sum(int((own.folds == number).sum()) for own in measured),
                "chosen": {"name": setting_name(settings[best]), **setting_dict(settings[best])},
            }
            for number, best in enumerate(found.by_fold)
        ],
        "agreement": agreement(chosen, [settings[best] for best in found.by_fold]),
        "seed": seed,
        "written": None,
    }
    significant = gain.p_value < LEVEL and gain.difference > 0
    if target is not None and significant and found.chosen != 0:
        write_setting(smart, chosen, target)
        result["written"] = str(target)
    said = verdict(result, is_default=found.chosen == 0, wanted=None if target is None else str(target))
    notes = [
        *([KNOWN_ITEM_NOTE] if known_item else []),
        *dict.fromkeys(f"{data.name}: {told}" for data in loaded for told in data.warnings if told != KNOWN_ITEM_NOTE),
    ]
    if sweeps[0].settled:
        notes.append("the model has an adapter: layers and mix are those it was trained on")
    facts = [about(sweep.data, smart, default, *sweep.encodings) for sweep in sweeps]
    return {"verdict": said, **result, "notes": notes, "collections": facts}


def split_folds(queries: Sequence[str], folds: int, seed: int, where: str = "queries") -> Array:
    """The fold of each query, ``[queries]``: at random, of nearly equal sizes, equal texts together.

    It depends on the texts and the seed, not on the order of the file.

    Args:
        queries: Their texts.
        folds: How many.
        seed: Of the choice.
        where: They come from, for the message.

    Raises:
        DatasetError: There are fewer different queries than folds.

    Example:
        >>> folds = split_folds(["wing", "drag", "wing", "heat"], 2, 0)
        >>> bool(folds[0] == folds[2]), np.bincount(folds).tolist()
        (True, [2, 2])
    """
    alike: defaultdict[str, list[int]] = defaultdict(list)
    for place, text in enumerate(queries):
        alike[" ".join(text.casefold().split())].append(place)
    if len(alike) < folds:
        raise DatasetError(
            f"{where}: found {len(alike)} different queries for {folds} folds, expected at least one a fold: take "
            "fewer folds, or more queries"
        )
    groups = sorted(alike)
    random.Random(seed).shuffle(groups)
    # The largest first, each to the smallest fold: so the sizes stay even.
    groups.sort(key=lambda text: -len(alike[text]))
    sizes = [0] * folds
    chosen = np.zeros(len(queries), np.int64)
    for text in groups:
        fold = sizes.index(min(sizes))
        chosen[alike[text]] = fold
        sizes[fold] += len(alike[text])
    return chosen


def cross_validate(measured: Sequence[Measured], folds: int) -> CrossValidated:
    """Choose a setting without each fold, and one on all queries; of equally good ones the first.

    Args:
        measured: Each collection, all with the same settings.
        folds: How many.
    """

    def best(kept: Sequence[Array]) -> int:
        gains = np.mean([own.gains(mask) for own, mask in zip(measured, kept, strict=True)], axis=0)
        # What differs by rounding is equal.
        return int(np.argmax(gains >= gains.max() - 1e-12))

    by_fold = tuple(best([own.folds != fold for own in measured]) for fold in range(folds))
    outside = tuple(own.values[np.asarray(by_fold)[own.folds], np.arange(own.values.shape[1])] for own in measured)
    return CrossValidated(by_fold, best([np.ones(len(own.folds), bool) for own in measured]), outside)


def compared(measured: Sequence[Measured], baseline: Sequence[Array], treatment: Sequence[Array]) -> Comparison:
    """A paired comparison over the queries of all collections.

    One collection is compared as it is. Of several, each query's values are divided by its collection's anchor and
    weighted so that every collection counts equally: the means are then multiples of the anchor's nDCG@10, and the
    difference is that of the mean relative gains.

    Args:
        measured: Each collection.
        baseline: Values of each collection's queries.
        treatment: The same.
    """
    if len(measured) == 1:
        return paired_comparison(baseline[0], treatment[0])
    total = sum(len(own.anchor) for own in measured)
    scales = []
    for own in measured:
        base = float(own.anchor.mean())
        scales.append(total / (len(measured) * len(own.anchor)) / (base if base > 0 else 1.0))
    before, after = (
        np.concatenate([scale * values for scale, values in zip(scales, parts, strict=True)])
        for parts in (baseline, treatment)
    )
    return paired_comparison(before, after)


def agreement(chosen: Preset, by_fold: Sequence[Preset]) -> dict[str, int]:
    """How many folds chose the same: the whole setting, and each part of it."""
    final = setting_dict(chosen)
    own = [setting_dict(setting) for setting in by_fold]
    parts = {name: sum(one[name] == final[name] for one in own) for name in _PARTS}
    return {"whole": sum(one == final for one in own), **parts}


def verdict(result: dict[str, Any], *, is_default: bool, wanted: str | None) -> dict[str, Any]:
    """What follows from the figures, in words; significance decides.

    Args:
        result: See `tune`.
        is_default: Whether the model's own setting was chosen.
        wanted: Where the setting was to be written.

    Returns:
        ``better`` (whether the tuned setting is significantly better than the default), ``smart_helps`` (whether it is
        than the anchor), ``headline`` and ``sentences``.
    """
    gain, over, claimed = result["gain"], result["over_anchor"], result["in_sample"]
    better = gain["p_value"] < LEVEL and gain["difference"] > 0 and not is_default
    helps = over["p_value"] < LEVEL and over["difference"] > 0
    if better:
        headline = "Better than the default on queries it was not chosen on"
    elif is_default:
        headline = "The default is the best of all settings tried here"
    else:
        headline = "No setting is shown to be better than the default"
    sentences = [
        f"Chosen: {result['chosen']['name']}; {result['agreement']['whole']} of {len(result['folds'])} folds chose the "
        "same.",
        f"Out of fold against the default: {_told(gain)}.",
        f"On the queries it was chosen on it would have seemed {claimed['difference']:+.4f}; the rest of that is luck "
        "of the choice."
        if claimed["difference"] > max(0, gain["difference"])
        else f"On the queries it was chosen on: {claimed['difference']:+.4f}.",
        f"Out of fold against the anchor: {_told(over)}.",
    ]
    if not result["chosen"]["lambda_late"]:
        sentences.append("SMART does not help here: of all settings the anchor alone was chosen.")
    elif not helps:
        sentences.append("That SMART helps on these data is not shown.")
    if result["written"] is not None:
        sentences.append(f"Written to {result['written']}; a model loaded from there starts from this setting.")
    elif wanted is not None:
        why = "it is the model's own" if is_default else "it is not significantly better than the default"
        sentences.append(f"Nothing was written to {wanted}: {why}.")
    return {"better": better, "smart_helps": helps, "headline": headline, "sentences": sentences}


def _told(comparison: dict[str, Any]) -> str:
    return (
        f"{comparison['difference']:+.4f} ({p_value_told(comparison['p_value'])}, 95 % interval "
        f"{comparison['ci_low']:+.4f} to {comparison['ci_high']:+.4f})"
    )


def _load(folder: Path, documents: int, queries: int, known_item: bool, split: str, seed: int) -> BeirDataset:
    if known_item:
        return load_known_item(folder, documents=documents, queries=queries, seed=seed)
    if folder.is_dir() and not (folder / "qrels").is_dir():
        raise DatasetError(
            f"{folder}: found no judgments, expected qrels/{split}.tsv beside corpus.jsonl and queries.jsonl; "
            "--known-item makes queries from the documents instead, an indication and no measurement"
        )
    return sample(load_beir(folder, split), documents=documents, queries=queries, seed=seed)


def _values(sweep: Sweep, settings: Sequence[Preset], advance: Any) -> Array:
    """nDCG@10 of every setting on every query, ``[settings, queries]``; what settings share is computed once."""
    values = np.zeros((len(settings), len(sweep.data.queries)))
    shared: defaultdict[Readout, defaultdict[tuple[str, float | None], list[int]]]
    shared = defaultdict(lambda: defaultdict(list))
    for number, setting in enumerate(settings):
        if setting.scoring.lambda_late:
            shared[setting.readout][str(setting.scoring.weights), setting.scoring.floor].append(number)
        else:
            values[number] = sweep.per_query(setting)
            advance(1)
    for readout, own in shared.items():
        for late, numbers in zip(sweep.lates(readout, list(own)), own.values(), strict=True):
            for number in numbers:
                values[number] = sweep.judge(settings[number].scoring.combine(sweep.anchor(), late), GAIN_METRIC)
                advance(1)
    return values
