"""Choose readout and scoring on judged queries, and measure what that gains, by cross-validation over queries."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...core.presets import Preset
from ...errors import DatasetError, ScoringError, SmartError
from ...extras import require
from ...model.saving import read_adapter_folder, write_saved
from ...progress import progress as progress_bar
from ...types import Array
from ..beir import DOCUMENTS, QUERIES
from ..cache import EncodingCache
from ..evaluate import GAIN_METRIC, Collection, prepare
from ..known_item import KNOWN_ITEM_NOTE
from ..probe.run import load_data, settings_of
from ..probe.sweep import Sweep
from ..significance import Comparison, paired_comparison
from .settings import grid, setting_dict, setting_name
from .verdict import is_gain, verdict

if TYPE_CHECKING:
    from ...model.options import ModelOptions
    from ...model.smart_model import SmartModel

#: What can be chosen; for each the folds are counted that agree with the final choice.
_PARTS = ("layers", "mix", "token_filter", "weights", "floor", "lambda_late")


class CollectionScores(NamedTuple):
    """nDCG@10 of every setting on every query of a collection, of the anchor alone, and the fold of each query."""

    values: Array  # [settings, queries]
    anchor: Array  # [queries]
    folds: Array  # [queries]

    def gains(self, queries: Array) -> Array:
        """Relative gain over the anchor on the queries of a mask, ``[settings]``; absolute where it finds nothing."""
        base = float(self.anchor[queries].mean())
        difference: Array = self.values[:, queries].mean(axis=1) - base
        return difference / base if base > 0 else difference


class CrossValidated(NamedTuple):
    """The setting chosen without each fold's queries, and the one on all queries."""

    by_fold: tuple[int, ...]
    chosen: int
    out_of_fold: tuple[Array, ...]  # by collection, [queries]: each under the setting chosen without its fold


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
    model_options: ModelOptions | None = None,
) -> dict[str, Any]:
    """Choose layers, mix, token filter, query-token weights, floor and λ_late for a model on judged collections.

    Every setting of `settings.grid` is measured on every query. For each fold the best on the other folds is judged on
    its queries; these out-of-fold values are what a setting chosen in this way gains on queries it was not chosen on.
    With several collections, the mean of their relative gains over the anchor counts.

    Args:
        folders: BEIR-layout folders.
        model: Name or path of a model, or a loaded one. Its own setting is the one to beat.
        folds: Parts that the queries are cut into; queries of the same text stay together.
        documents: Most documents of a collection, see `beir.sample`.
        queries: Most queries of a collection.
        known_item: Make queries from the documents instead of taking judged ones.
        split: Which qrels file to judge by.
        seed: Of every random choice.
        write: A new folder, or the model's own: the chosen setting is written there if it is significantly better.
        cache: Where encodings are kept and looked for. With None they are held in memory.
        batch_size: Most texts in one forward pass; the model's default when None.
        progress: Draw bars on stderr; None draws them on a terminal only.
        model_options: Further arguments of `SmartModel` for a model given by name.

    Returns:
        JSON-able; docs/guides/tune.md names every key. ``verdict`` first, then ``chosen``, ``default``, ``rows`` (one a
        collection), ``gain`` (out of fold against the default), ``over_anchor``, ``in_sample``, ``folds``,
        ``agreement``, ``written``, ``notes`` and ``collections`` (`evaluate.Collection.about` of each).

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
    loaded, limits = [], {"documents": documents, "queries": queries, "seed": seed}
    for folder in map(Path, folders):
        # The probe makes known-item queries unasked; a setting should not be chosen on them by mistake.
        if not known_item and folder.is_dir() and not (folder / "qrels").is_dir():
            raise DatasetError(
                f"{folder}: found no judgments, expected qrels/{split}.tsv beside corpus.jsonl and queries.jsonl; "
                "--known-item makes queries from the documents instead, an indication and no measurement"
            )
        loaded.append(load_data(folder, known_item=known_item, split=split, **limits))
    fold_of = [split_folds(data.queries, folds, seed, str(at)) for data, at in zip(loaded, folders, strict=True)]
    smart, _ = prepare(model, model_options=model_options)
    target = None if write is None else Path(write).expanduser()
    if target is not None:
        _check_target(smart, target)
    default, paper = settings_of(smart)
    sweeps = [Sweep.encode(smart, data, cache=cache, batch_size=batch_size, progress=progress) for data in loaded]
    settled = sweeps[0].settled
    filters = sorted({name for sweep in sweeps for name in sweep.token_filters}, reverse=True)
    settings = grid(sweeps[0].layers, smart.backbone.n_states, filters, default, paper, settled=settled)
    with progress_bar("Measuring settings", (len(settings) + 1) * len(sweeps), progress) as advance:
        values = [sweep.measure([*settings, paper], advance=advance) for sweep in sweeps]
    scores = [
        CollectionScores(np.stack([own[setting] for setting in settings]), sweep.judge(sweep.anchor), parts)
        for sweep, own, parts in zip(sweeps, values, fold_of, strict=True)
    ]
    found = cross_validate(scores, folds)
    chosen, is_default = settings[found.chosen], found.chosen == 0
    by_default = [own.values[0] for own in scores]
    in_sample = [own.values[found.chosen] for own in scores]
    gain, written = compared(scores, by_default, found.out_of_fold).to_dict(), None
    if target is not None and is_gain(gain) and not is_default:
        _write_setting(smart, chosen, target)
        written = str(target)
    result: dict[str, Any] = {
        "metric": GAIN_METRIC,
        "known_item": known_item,
        "settings": len(settings),
        "chosen": _described(chosen),
        "default": _described(default),
        "rows": [
            {
                "name": data.name,
                "queries": len(data.queries),
                "anchor": float(own.anchor.mean()),
                "paper": float(of_setting[paper].mean()),
                "default": float(own.values[0].mean()),
                "out_of_fold": float(outside.mean()),
                "in_sample": float(own.values[found.chosen].mean()),
                "gain": paired_comparison(own.values[0], outside).to_dict(),
                "over_anchor": paired_comparison(own.anchor, outside).to_dict(),
            }
            for data, own, of_setting, outside in zip(loaded, scores, values, found.out_of_fold, strict=True)
        ],
        "gain": gain,
        "over_anchor": compared(scores, [own.anchor for own in scores], found.out_of_fold).to_dict(),
        "in_sample": compared(scores, by_default, in_sample).to_dict(),
        "folds": [
            {
                "fold": number,
                "queries": sum(int((own.folds == number).sum()) for own in scores),
                "chosen": _described(settings[best]),
            }
            for number, best in enumerate(found.by_fold)
        ],
        "agreement": agreement(chosen, [settings[best] for best in found.by_fold]),
        "seed": seed,
        "written": written,
    }
    notes = [
        *([KNOWN_ITEM_NOTE] if known_item else []),
        *dict.fromkeys(f"{data.name}: {note}" for data in loaded for note in data.warnings if note != KNOWN_ITEM_NOTE),
        *(["the model has an adapter: layers and mix are those it was trained on"] if settled else []),
    ]
    return {
        "verdict": verdict(result, is_default=is_default, target=None if target is None else str(target)),
        **result,
        "notes": notes,
        "collections": [Collection(sweep.data, smart, default, *sweep.encodings).about() for sweep in sweeps],
    }


def split_folds(queries: Sequence[str], folds: int, seed: int, where: str = "queries") -> Array:
    """The fold of each query, ``[queries]``: at random, of nearly equal sizes, equal texts together.

    It depends on the texts and the seed, not on the order of the file.
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
    fold_of = np.zeros(len(queries), np.int64)
    for text in groups:
        fold = sizes.index(min(sizes))
        fold_of[alike[text]] = fold
        sizes[fold] += len(alike[text])
    return fold_of


def cross_validate(scores: Sequence[CollectionScores], folds: int) -> CrossValidated:
    """Choose a setting without each fold, and one on all queries; of equally good ones the first."""

    def best(kept: Sequence[Array]) -> int:
        gains = np.mean([own.gains(mask) for own, mask in zip(scores, kept, strict=True)], axis=0)
        # What differs by rounding is equal.
        return int(np.argmax(gains >= gains.max() - 1e-12))

    by_fold = tuple(best([own.folds != fold for own in scores]) for fold in range(folds))
    outside = tuple(own.values[np.asarray(by_fold)[own.folds], np.arange(own.values.shape[1])] for own in scores)
    return CrossValidated(by_fold, best([np.ones(len(own.folds), bool) for own in scores]), outside)


def compared(scores: Sequence[CollectionScores], baseline: Sequence[Array], treatment: Sequence[Array]) -> Comparison:
    """A paired comparison over the queries of all collections, whose values are given for each.

    One collection is compared as it is. Of several, each query's values are divided by its collection's anchor and
    weighted so that every collection counts equally: the means are then multiples of the anchor's nDCG@10, and the
    difference is that of the mean relative gains.
    """
    if len(scores) == 1:
        return paired_comparison(baseline[0], treatment[0])
    total = sum(len(own.anchor) for own in scores)
    scales = []
    for own in scores:
        base = float(own.anchor.mean())
        scales.append(total / (len(scores) * len(own.anchor)) / (base if base > 0 else 1.0))
    before, after = (
        np.concatenate([scale * values for scale, values in zip(scales, parts, strict=True)])
        for parts in (baseline, treatment)
    )
    return paired_comparison(before, after)


def agreement(chosen: Preset, by_fold: Sequence[Preset]) -> dict[str, int]:
    """How many folds chose the same: the whole setting, and each part of it."""
    final, own = setting_dict(chosen), [setting_dict(setting) for setting in by_fold]
    parts = {name: sum(one[name] == final[name] for one in own) for name in _PARTS}
    return {"whole": sum(one == final for one in own), **parts}


def _described(setting: Preset) -> dict[str, Any]:
    return {"name": setting_name(setting), **setting_dict(setting)}


def _check_target(smart: SmartModel, folder: Path) -> None:
    """Refuse a folder that a setting cannot be written to, before the work is done."""
    if folder.exists() and not _is_own(smart, folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise SmartError(
            f"{folder}: found {'files in it' if folder.is_dir() else 'a file'}, expected a new folder for the model "
            "with its setting, or the folder that --model names"
        )


def _write_setting(smart: SmartModel, setting: Preset, folder: Path) -> None:
    """Write a setting: ``smart/`` into the model's own folder, the model or adapter that was loaded into another."""
    # Once more: measuring took a while.
    _check_target(smart, folder)
    tuned = smart.with_readout(setting.readout)
    tuned.preset = setting
    if read_adapter_folder(smart.name) is not None:
        tuned.save_adapter(folder)
    elif _is_own(smart, folder):
        write_saved(folder, tuned.readout, tuned.backbone.identity(), tuned.adapter, scoring=setting.scoring)
    else:
        tuned.save_pretrained(folder)


def _is_own(smart: SmartModel, folder: Path) -> bool:
    """Whether a folder is the one the model was loaded from."""
    name = Path(smart.name).expanduser()
    return name.is_dir() and folder.is_dir() and name.samefile(folder)
