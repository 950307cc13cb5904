"""What a report compares: values of a system on data, and what must be equal for two of them to belong together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

#: Values of one thing that differ by less are the same figure, computed twice: tables show four decimals, and rounding
#: alone may exchange two documents of a ranking.
SAME = 5e-5

#: Settings in the order in which labels name them where they differ.
SETTINGS = (
    *("model", "preset", "codec", "candidates", "prompts", "mode", "ties", "max_length", "max_visual_tokens"),
    *("max_frames", "token_filter", "layers", "readout", "scoring", "lexical_weight", "revision", "weights", "file"),
)

# What a system owes nothing to: BM25 knows no model, and an anchor no token vectors.
_OF_ANCHOR = frozenset({"model", "prompts", "max_length", "max_visual_tokens", "max_frames", "revision", "weights"})
_DEPENDS = {
    "BM25": frozenset[str](),
    "anchor": _OF_ANCHOR | {"mode", "ties", "candidates"},
    "anchor + BM25 (RRF)": _OF_ANCHOR,
    "anchor + BM25 (min-max)": _OF_ANCHOR,
}


# Rows stand in this order, each model's together; what is not named here comes in the order in which it was met.
_ORDER = ("BM25", "anchor", "anchor + BM25 (RRF)", "anchor + BM25 (min-max)", "late", "hybrid", "hybrid + BM25")


@dataclass(frozen=True)
class Data:
    """What was judged; two results on the same are on the same texts, queries and judgments.

    Args:
        name: Of the data set or task.
        split: Which judgments.
        fingerprint: Of its texts, or its revision; None where the result does not say.
        judgments: Fingerprint of the judgments; None where the result does not say.
        queries: How many.
    """

    name: str
    split: str = ""
    fingerprint: str | None = None
    judgments: str | None = None
    queries: int | None = None


@dataclass(frozen=True)
class PerQuery:
    """A system's metrics query by query.

    Args:
        ids: The queries.
        values: A list in their order, by metric.
    """

    ids: tuple[str, ...]
    values: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Measured:
    """One system on one data set.

    Args:
        system: What ranked: ``"anchor"``, ``"late"``, ``"hybrid"``, ``"BM25"``, …; empty for another's model.
        data: What was judged.
        values: Metrics between 0 and 1, by name.
        settings: What it was measured with, by name (`SETTINGS`).
        file: The result file.
        main: The metric that the benchmark reports; None where any will do.
        group: For benchmarks of many tasks: where in it the task belongs.
        bytes_per_document: Size of what the index must hold of a document.
        milliseconds: Time to score all documents for a query.
        gain: The comparison with the anchor that the file holds.
        per_query: Metrics query by query, where the file holds them.
        predictions: A file of ranked lists, from which they can be had.
        reference: Where the figure was published, for those that were not measured here.
    """

    system: str
    data: Data
    values: Mapping[str, float]
    settings: Mapping[str, str]
    file: Path
    main: str | None = None
    group: str = ""
    bytes_per_document: float | None = None
    milliseconds: float | None = None
    gain: Mapping[str, Any] | None = None
    per_query: PerQuery | None = None
    predictions: Path | None = None
    reference: str | None = None

    @property
    def key(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """What makes it the same system as another: its name and every setting that it depends on."""
        return self.system, tuple(sorted(self.own_settings.items()))

    @property
    def own_settings(self) -> dict[str, str]:
        """The settings that can have changed its figures."""
        depends = _DEPENDS.get(self.system)
        return {
            name: value for name, value in self.settings.items() if depends is None or name in depends or name == "file"
        }

    def has_anchor(self, other: Measured) -> bool:
        """Whether another is the anchor that this is to be compared with: on the same data, of the same model."""
        if other.system != "anchor" or other.data != self.data:
            return False
        mine, its = (_with(replace(one, system="anchor"), file="").own_settings for one in (self, other))
        return "model" in self.own_settings and mine == its


@dataclass(frozen=True)
class Named:
    """Measurements with the names they have in a report.

    Args:
        rows: Label of each system, in order, by its key.
        columns: Label of each data set, in order, by what was judged.
        cells: The measurement at row and column, by their labels.
        notes: What was kept apart, and why.
    """

    rows: Mapping[tuple[Any, ...], str]
    columns: Mapping[Data, str]
    cells: Mapping[tuple[str, str], Measured]
    notes: tuple[str, ...] = field(default=())


def named(measured: Iterable[Measured]) -> Named:
    """Bring measurements into rows and columns, and keep apart what cannot be compared.

    The same system on the same data twice is one row if its figures are equal (to `SAME`), and two that name their
    files if not. Data sets of one name are one column only where fingerprints, splits, queries and judgments agree;
    systems of one name are one row only where model, prompts, limits and all other settings do.

    Args:
        measured: What was read.

    Example:
        >>> from pathlib import Path
        >>> data = Data("tiny", "test", "0a")
        >>> named([Measured("anchor", data, {"map": 0.5}, {"model": "m"}, Path("a.json"))]).rows.values()
        dict_values(['anchor'])
    """
    found = with_judgments(measured)
    columns, notes = _columns(found)
    kept, conflicts = _merged(found)
    rows, more = _labels(kept)
    cells = {(rows[one.key], columns[one.data]): one for one in kept}
    return Named(rows, columns, cells, (*notes, *conflicts, *more))


# -- data ------------------------------------------------------------------------------------------------------


def with_judgments(measured: Iterable[Measured]) -> list[Measured]:
    """In their order; results that do not name their judgments join those that do, where there is but one kind."""
    found = list(measured)
    known: dict[Data, set[str]] = {}
    for one in found:
        bare = replace(one.data, judgments=None)
        known.setdefault(bare, set()).update([one.data.judgments] if one.data.judgments else [])
    return [
        replace(one, data=replace(one.data, judgments=next(iter(own)) if len(own) == 1 else one.data.judgments))
        for one in found
        for own in [known[replace(one.data, judgments=None)]]
    ]


def _columns(found: Sequence[Measured]) -> tuple[dict[Data, str], list[str]]:
    by_name: dict[str, list[Data]] = {}
    for one in found:
        same = by_name.setdefault(one.data.name, [])
        if one.data not in same:
            same.append(one.data)
    labels: dict[Data, str] = {}
    notes = []
    for name, same in by_name.items():
        for data, label in zip(same, _apart(name, same), strict=True):
            labels[data] = label
        if len(same) > 1:
            which = ", ".join(labels[data] for data in same)
            notes.append(f"{name} was measured on data that differ, which stand in columns of their own: {which}")
    # In the order in which they were met.
    return {one.data: labels[one.data] for one in found}, notes


def _apart(name: str, same: Sequence[Data]) -> list[str]:
    """Labels that differ, by the first of what the data differ in that tells them apart."""
    if len(same) == 1:
        # Queries made from the documents are no judged ones, even where nothing else stands beside them.
        return [f"{name} ({same[0].split})" if same[0].split == "known-item" else name]
    ways = [
        [f"{name} ({data.split or '?'})" for data in same],
        [f"{name} ({data.split or '?'}, {(data.fingerprint or 'unknown')[:8]})" for data in same],
        [f"{name} ({data.split or '?'}, {data.queries or '?'} queries)" for data in same],
        [
            f"{name} ({data.split or '?'}, {(data.fingerprint or 'unknown')[:8]}, {data.queries or '?'} queries, "
            f"judgments {(data.judgments or 'unknown')[:8]})"
            for data in same
        ],
    ]
    return next((way for way in ways if len(set(way)) == len(way)), [f"{name} #{n}" for n in range(1, len(same) + 1)])


# -- systems ---------------------------------------------------------------------------------------------------


def _merged(found: Sequence[Measured]) -> tuple[list[Measured], list[str]]:
    """One measurement for each system and data set; where files differ, one for each group of files that agree."""
    kept: list[Measured] = []
    notes = []
    for own in _by(found, lambda one: one.key).values():
        groups = _agreeing(own)
        for number, group in enumerate(groups):
            joined: dict[Data, Measured] = {}
            for one in group:
                joined[one.data] = _joined(joined[one.data], one) if one.data in joined else one
            # A system whose figures differ on one data set is kept apart on all: a row is of one making.
            name = _name_of(groups, number)
            kept += [_with(one, file=name) if len(groups) > 1 else one for one in joined.values()]
        if len(groups) > 1:
            told = "; ".join(", ".join(dict.fromkeys(str(one.file) for one in group)) for group in groups)
            notes.append(f"{_short(own[0])} has different figures in different files, each in a row of its own: {told}")
    return kept, notes


def _agreeing(own: Sequence[Measured]) -> list[list[Measured]]:
    """Measurements of one system in groups without a contradiction; those of a file stay together where they can."""
    groups: list[list[Measured]] = []
    for same_file in _by(own, lambda one: one.file).values():
        for group in groups:
            if all(_agree(one, other) for one in same_file for other in [*group, *same_file]):
                group += same_file
                break
        else:
            while same_file:
                chosen: list[Measured] = []
                for one in same_file:
                    chosen += [one] if all(_agree(one, other) for other in chosen) else []
                groups.append(chosen)
                same_file = [one for one in same_file if not any(one is other for other in chosen)]
    return groups


def _agree(one: Measured, other: Measured) -> bool:
    common = one.values.keys() & other.values.keys()
    return one.data != other.data or all(abs(one.values[name] - other.values[name]) <= SAME for name in common)


def _name_of(groups: Sequence[Sequence[Measured]], number: int) -> str:
    """A group's first file, as much of its path as tells it from the others."""
    first = [group[0].file for group in groups]
    file = first[number]
    name = file.name if [other.name for other in first].count(file.name) == 1 else str(file)
    before = first[:number].count(file)
    return f"{name} #{before + 1}" if before else name


def _by(found: Iterable[Measured], what: Callable[[Measured], Any]) -> dict[Any, list[Measured]]:
    groups: dict[Any, list[Measured]] = {}
    for one in found:
        groups.setdefault(what(one), []).append(one)
    return groups


def _with(one: Measured, **settings: str) -> Measured:
    return replace(one, settings={**one.settings, **settings})


def _joined(first: Measured, second: Measured) -> Measured:
    """The first, with what only the second knows."""
    known = {
        name: getattr(first, name) if getattr(first, name) is not None else getattr(second, name)
        for name in ("bytes_per_document", "milliseconds", "gain", "per_query", "predictions", "main")
    }
    return replace(first, values={**second.values, **first.values}, **known)


def _short(one: Measured) -> str:
    preset = one.own_settings.get("preset")
    codec = one.own_settings.get("codec")
    name = f"{one.system}, {codec}" if codec else one.system
    return f"{name} ({preset})" if preset and name else name or preset or ""


def _labels(kept: Sequence[Measured]) -> tuple[dict[tuple[Any, ...], str], list[str]]:
    models = list(dict.fromkeys(one.settings["model"] for one in kept if "model" in one.own_settings))
    first: dict[tuple[Any, ...], Measured] = {}
    for one in sorted(kept, key=lambda one: _place(one, models)):
        first.setdefault(one.key, one)
    plain = {}
    for key, one in first.items():
        model = one.own_settings.get("model")
        short = _short(one)
        shown = model is not None and (len(models) > 1 or not short or one.reference is not None)
        plain[key] = f"{model}: {short}" if shown and short else model if shown and model else short
    by_label: dict[str, list[tuple[Any, ...]]] = {}
    for key, label in plain.items():
        by_label.setdefault(label, []).append(key)
    labels, notes = dict(plain), []
    for label, keys in by_label.items():
        if len(keys) == 1:
            continue
        told = _differences([first[key].own_settings for key in keys])
        for key, what in zip(keys, told, strict=True):
            labels[key] = f"{label} [{what}]"
        if not all(what.startswith("file ") for what in told):
            notes.append(
                f"{label} was measured with settings that differ, which stand in rows of their own: {'; '.join(told)}"
            )
    return labels, notes


def _place(one: Measured, models: Sequence[str]) -> tuple[int, int, bool]:
    model = one.own_settings.get("model")
    system = _ORDER.index(one.system) if one.system in _ORDER else len(_ORDER)
    return (-1 if model is None else models.index(model)), system, "codec" in one.settings


def _differences(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """What tells settings apart, shortly: ``max_length 512``."""
    differing = [name for name in SETTINGS if len({own.get(name) for own in settings}) > 1]
    for count in range(1, len(differing) + 1):
        told = [", ".join(f"{name} {_few(own.get(name, 'unknown'))}" for name in differing[:count]) for own in settings]
        if len(set(told)) == len(told):
            return told
    return [f"#{number}" for number in range(1, len(settings) + 1)]


def _few(value: str) -> str:
    return value if len(value) <= 40 else f"{value[:37]}…"
