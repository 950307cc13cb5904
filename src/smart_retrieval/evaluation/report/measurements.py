"""Measurements, and their grid of systems by data sets, in which what cannot be compared is kept apart."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ..results import GainFacts

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)

#: Values of one thing that differ by less are the same figure, computed twice: tables show four decimals, and rounding
#: alone may exchange two documents of a ranking.
SAME = 5e-5

#: Settings in the order in which labels name them where they differ.
SETTINGS = (
    *("model", "preset", "codec", "candidates", "prompts", "mode", "ties", "max_length", "max_visual_tokens"),
    *("max_frames", "token_filter", "layers", "readout", "scoring", "lexical_weight", "revision", "weights", "file"),
)

# Systems that depend on some settings only: BM25 knows no model, and an anchor no token vectors.
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
    """What was judged: equal ones have the same texts, queries and judgments; None where the result does not say."""

    name: str
    split: str = ""
    fingerprint: str | None = None  # of the texts, or a revision
    judgments: str | None = None
    queries: int | None = None


@dataclass(frozen=True)
class Measurement:
    """One system on one data set: metrics between 0 and 1, and what is known of how they came about."""

    #: ``"anchor"``, ``"late"``, ``"hybrid"``, ``"BM25"``, …; empty for another's model.
    system: str
    data: Data
    values: Mapping[str, float]
    settings: Mapping[str, str]
    file: Path
    #: The metric that the benchmark reports; None where any will do.
    main: str | None = None
    #: For benchmarks of many tasks: where in it the task belongs.
    group: str = ""
    bytes_per_document: float | None = None
    milliseconds: float | None = None
    #: The comparison with the anchor that the file holds.
    gain: GainFacts | None = None
    #: By metric and query id.
    per_query: Mapping[str, Mapping[str, float]] | None = None
    #: A file of ranked lists, which give the metrics of each query too.
    predictions: Path | None = None
    #: Where the figure was published, for those that were not measured here.
    reference: str | None = None

    @property
    def key(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """What makes it the same system as another: its name and every setting that it depends on."""
        return self.system, tuple(sorted(self.own_settings.items()))

    @property
    def own_settings(self) -> dict[str, str]:
        """The settings that can have changed its figures."""
        depends = _DEPENDS.get(self.system, frozenset(self.settings))
        return {name: value for name, value in self.settings.items() if name in depends or name == "file"}

    def has_anchor(self, other: Measurement) -> bool:
        """Whether another is the anchor that this is to be compared with: on the same data, of the same model."""
        if other.system != "anchor" or other.data != self.data:
            return False
        mine, its = (replace(one._with_file(""), system="anchor").own_settings for one in (self, other))
        return "model" in self.own_settings and mine == its

    def _with_file(self, name: str) -> Measurement:
        """The same with a file among its settings, which keeps it apart from that of another file."""
        return replace(self, settings={**self.settings, "file": name})


@dataclass(frozen=True)
class Grid:
    """Measurements by the labels of their systems and data sets, and notes on what was kept apart."""

    rows: tuple[str, ...]
    columns: Mapping[str, Data]
    cells: Mapping[tuple[str, str], Measurement]
    notes: tuple[str, ...] = ()

    def value(self, row: str, column: str, metric: str) -> float | None:
        """A metric of a cell; None where it was not measured."""
        one = self.cells.get((row, column))
        return None if one is None else one.values.get(metric)

    def in_column(self, column: str) -> list[Measurement]:
        """The measurements on one data set."""
        return [one for (_, name), one in self.cells.items() if name == column]


def arrange(measurements: Iterable[Measurement]) -> Grid:
    """Bring measurements into rows and columns, and keep apart what cannot be compared.

    The same system on the same data twice is one row if its figures are equal (to `SAME`), and two that name their
    files if not. One column is one `Data`, one row a system with one set of settings, whatever their names.
    """
    found = with_judgments(measurements)
    columns, notes = _columns(found)
    kept, conflicts = _merged(found)
    rows, more = _labels(kept)
    cells = {(rows[one.key], columns[one.data]): one for one in kept}
    by_label = {label: data for data, label in columns.items()}
    return Grid(tuple(rows.values()), by_label, cells, (*notes, *conflicts, *more))


def with_judgments(measurements: Iterable[Measurement]) -> list[Measurement]:
    """In their order; results that do not name their judgments join those that do, where there is but one kind."""
    found = list(measurements)
    known: dict[Data, set[str]] = {}
    for one in found:
        known.setdefault(replace(one.data, judgments=None), set()).update(filter(None, [one.data.judgments]))

    def completed(data: Data) -> Data:
        own = known[replace(data, judgments=None)]
        return replace(data, judgments=next(iter(own))) if len(own) == 1 else data

    return [replace(one, data=completed(one.data)) for one in found]


def _columns(found: Sequence[Measurement]) -> tuple[dict[Data, str], list[str]]:
    labels, notes = {one.data: "" for one in found}, []  # in the order in which they were met
    for name, same in _grouped(labels, lambda data: data.name).items():
        labels |= zip(same, _data_labels(name, same), strict=True)
        if len(same) > 1:
            which = ", ".join(labels[data] for data in same)
            notes.append(f"{name} was measured on data that differ, which stand in columns of their own: {which}")
    return labels, notes


def _data_labels(name: str, same: Sequence[Data]) -> list[str]:
    """Labels of data sets of one name, by the first of what distinguishes all of them."""
    if len(same) == 1:
        # Queries made from the documents are no judged ones, even where nothing else stands beside them.
        return [f"{name} ({same[0].split})" if same[0].split == "known-item" else name]
    facts = [
        (
            data.split or "?",
            (data.fingerprint or "unknown")[:8],
            f"{data.queries or '?'} queries",
            f"judgments {(data.judgments or 'unknown')[:8]}",
        )
        for data in same
    ]
    for shown in ((0,), (0, 1), (0, 2), (0, 1, 2, 3)):
        labels = [f"{name} ({', '.join(own[place] for place in shown)})" for own in facts]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{name} #{number}" for number in range(1, len(same) + 1)]


def _merged(found: Sequence[Measurement]) -> tuple[list[Measurement], list[str]]:
    """One measurement for each system and data set; where files differ, one for each group of files that agree."""
    kept: list[Measurement] = []
    notes = []
    for own in _grouped(found, lambda one: one.key).values():
        groups = _agreeing(own)
        for number, group in enumerate(groups):
            joined: dict[Data, Measurement] = {}
            for one in group:
                joined[one.data] = _joined(joined[one.data], one) if one.data in joined else one
            # A system whose figures differ on one data set is kept apart on all: a row is of one making.
            name = _file_label(groups, number)
            kept += [one._with_file(name) if len(groups) > 1 else one for one in joined.values()]
        if len(groups) > 1:
            files = "; ".join(", ".join(dict.fromkeys(str(one.file) for one in group)) for group in groups)
            notes.append(
                f"{_short(own[0])} has different figures in different files, each in a row of its own: {files}"
            )
    return kept, notes


def _agreeing(own: Sequence[Measurement]) -> list[list[Measurement]]:
    """Measurements of one system in groups without a contradiction; those of a file stay together where they can."""
    groups: list[list[Measurement]] = []
    for rest in _grouped(own, lambda one: one.file).values():
        for group in groups:
            if all(_agree(one, other) for one in rest for other in [*group, *rest]):
                group += rest
                break
        else:
            while rest:
                chosen: list[Measurement] = []
                left: list[Measurement] = []
                for one in rest:
                    (chosen if all(_agree(one, other) for other in chosen) else left).append(one)
                groups.append(chosen)
                rest = left
    return groups


def _agree(one: Measurement, other: Measurement) -> bool:
    common = one.values.keys() & other.values.keys()
    return one.data != other.data or all(abs(one.values[name] - other.values[name]) <= SAME for name in common)


def _file_label(groups: Sequence[Sequence[Measurement]], number: int) -> str:
    """A group's first file, with as much of its path as distinguishes it from the others."""
    first = [group[0].file for group in groups]
    file = first[number]
    name = file.name if [other.name for other in first].count(file.name) == 1 else str(file)
    before = first[:number].count(file)
    return f"{name} #{before + 1}" if before else name


def _joined(first: Measurement, second: Measurement) -> Measurement:
    """The first, with what only the second knows."""
    optional = ("bytes_per_document", "milliseconds", "gain", "per_query", "predictions", "main")
    missing = {name: getattr(second, name) for name in optional if getattr(first, name) is None}
    return replace(first, values={**second.values, **first.values}, **missing)


def _grouped(found: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    groups: dict[Key, list[Item]] = {}
    for one in found:
        groups.setdefault(key(one), []).append(one)
    return groups


def _short(one: Measurement) -> str:
    preset, codec = one.own_settings.get("preset"), one.own_settings.get("codec")
    name = f"{one.system}, {codec}" if codec else one.system
    return f"{name} ({preset})" if preset and name else name or preset or ""


def _labels(kept: Sequence[Measurement]) -> tuple[dict[Hashable, str], list[str]]:
    """A label for each system, by its key: as short as is unambiguous."""
    models = list(dict.fromkeys(one.settings["model"] for one in kept if "model" in one.own_settings))

    def place(one: Measurement) -> tuple[int, int, bool]:
        model = one.own_settings.get("model")
        system = _ORDER.index(one.system) if one.system in _ORDER else len(_ORDER)
        return (-1 if model is None else models.index(model)), system, "codec" in one.settings

    def plain(one: Measurement) -> str:
        model, short = one.own_settings.get("model"), _short(one)
        if model is None or (len(models) == 1 and short and one.reference is None):
            return short
        return f"{model}: {short}" if short else model

    systems = {key: own[0] for key, own in _grouped(sorted(kept, key=place), lambda one: one.key).items()}
    labels: dict[Hashable, str] = {key: plain(one) for key, one in systems.items()}
    notes = []
    for label, keys in _grouped(systems, labels.__getitem__).items():
        if len(keys) == 1:
            continue
        differences = _differences([systems[key].own_settings for key in keys])
        labels |= {key: f"{label} [{what}]" for key, what in zip(keys, differences, strict=True)}
        if not all(what.startswith("file ") for what in differences):
            which = "; ".join(differences)
            notes.append(f"{label} was measured with settings that differ, which stand in rows of their own: {which}")
    return labels, notes


def _differences(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """In what settings differ, shortly: ``max_length 512``."""
    differing = [name for name in SETTINGS if len({own.get(name) for own in settings}) > 1]
    for count in range(1, len(differing) + 1):
        shown = [
            ", ".join(f"{name} {_cut(own.get(name, 'unknown'))}" for name in differing[:count]) for own in settings
        ]
        if len(set(shown)) == len(shown):
            return shown
    return [f"#{number}" for number in range(1, len(settings) + 1)]


def _cut(value: str) -> str:
    return value if len(value) <= 40 else f"{value[:37]}…"
