"""Training examples: queries, documents, and which of them belong together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DatasetError
from ...inputs import Frames, Item, Sound


@dataclass(frozen=True)
class Example:
    """One query and its documents, as numbers of a :class:`TrainingSet`.

    Args:
        query: Number of the query.
        positives: Numbers of documents that answer it; one is drawn each time the example is used.
        negatives: Numbers of documents known not to.
        scores: A teacher's scores of the positives and the negatives, in that order; None without a teacher.
        identical: Numbers of documents that are the query itself: neither ranked for it nor contrasted with it.
    """

    query: int
    positives: tuple[int, ...]
    negatives: tuple[int, ...] = ()
    scores: tuple[float, ...] | None = None
    identical: tuple[int, ...] = ()


@dataclass(frozen=True)
class TrainingSet:
    """Queries, documents and examples; every query and every document once.

    Args:
        name: Where they come from.
        queries: The queries.
        documents: The documents.
        examples: One for each query.
        groups: For each document the name of what it is a part of (the file of a page); parts stay on one side of a
            split.
        warnings: What was merged or left out, one counted sentence each.
    """

    name: str
    queries: list[Item]
    documents: list[Item]
    examples: list[Example]
    groups: list[str]
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.examples)

    def relevant(self) -> dict[int, frozenset[int]]:
        """For each query number every document not to be contrasted with it: it answers the query, or is it."""
        return {example.query: frozenset(example.positives + example.identical) for example in self.examples}

    @property
    def has_scores(self) -> bool:
        """Whether a teacher has scored every example."""
        return bool(self.examples) and all(example.scores is not None for example in self.examples)

    def subset(self, chosen: Iterable[int], name: str) -> TrainingSet:
        """Some examples with the queries and documents they need, numbered anew."""
        examples = [self.examples[index] for index in chosen]
        queries = {example.query: number for number, example in enumerate(examples)}
        wanted = dict.fromkeys(
            d for example in examples for d in (*example.positives, *example.negatives, *example.identical)
        )
        documents = {old: number for number, old in enumerate(wanted)}
        renumbered = [
            replace(
                example,
                query=queries[example.query],
                positives=tuple(documents[d] for d in example.positives),
                negatives=tuple(documents[d] for d in example.negatives),
                identical=tuple(documents[d] for d in example.identical),
            )
            for example in examples
        ]
        return TrainingSet(
            name,
            [self.queries[old] for old in queries],
            [self.documents[old] for old in documents],
            renumbered,
            [self.groups[old] for old in documents],
            self.warnings,
        )

    def with_distractors(self, training: TrainingSet, most: int) -> TrainingSet:
        """The set with some training documents to rank against, none of them the same as one of its own."""
        known = {content_key(item) for item in self.documents}
        step = max(1, len(training.documents) // max(1, most))
        extra = [item for item in training.documents[::step][:most] if content_key(item) not in known]
        groups = [*self.groups, *("" for _ in extra)]
        return replace(self, documents=[*self.documents, *extra], groups=groups)

    def describe(self) -> dict[str, Any]:
        """Name and counts, JSON-able."""
        return {
            "name": self.name,
            "examples": len(self),
            "documents": len(self.documents),
            "positives": sum(len(example.positives) for example in self.examples),
            "negatives": sum(len(example.negatives) for example in self.examples),
            "teacher": self.has_scores,
            "warnings": self.warnings,
        }


class Collector:
    """Builds a :class:`TrainingSet`, every query and document once whatever the source repeats."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.warnings: list[str] = []
        # By content: number, item and group of a document; a query, the scores of its positives and negatives, and
        # the documents that are the query itself.
        self._documents: dict[Any, tuple[int, Item, str]] = {}
        self._queries: dict[Any, tuple[Item, dict[int, float | None], dict[int, float | None], list[Any]]] = {}
        self._repeated = 0

    def document(self, item: Item, group: str = "") -> int:
        """The number of a document; the same for the same content."""
        number = len(self._documents)
        return self._documents.setdefault(content_key(item), (number, item, group or f"document {number}"))[0]

    def add(
        self,
        query: Item,
        positives: Sequence[int],
        negatives: Sequence[int] = (),
        scores: Sequence[float] | None = None,
        *,
        identical: Item | None = None,
    ) -> None:
        """Add a row; rows of the same query are put together.

        ``scores`` are of positives, then of negatives; ``identical`` is a document that is the query itself.
        """
        key = content_key(query)
        self._repeated += key in self._queries
        _, known, others, themselves = self._queries.setdefault(key, (query, {}, {}, []))
        given: Sequence[float | None] = [None] * (len(positives) + len(negatives)) if scores is None else scores
        known.update(zip(positives, given, strict=False))
        others.update(zip(negatives, given[len(positives) :], strict=True))
        if identical is not None:
            themselves.append(content_key(identical))

    def finish(self) -> TrainingSet:
        """The set; refused without an example."""
        examples, contradictions = [], 0
        for number, (_, positives, others, themselves) in enumerate(self._queries.values()):
            known = {self._documents[key][0] for key in themselves if key in self._documents}
            identical = tuple(sorted(known.difference(positives)))
            contradictions += len(others.keys() & positives.keys())
            negatives = {d: s for d, s in others.items() if d not in positives and d not in identical}
            scores = [*positives.values(), *negatives.values()]
            whole = tuple(score for score in scores if score is not None)
            taught = whole if len(whole) == len(scores) else None
            examples.append(Example(number, tuple(positives), tuple(negatives), taught, identical))
        if not examples:
            raise DatasetError(f"found no training example in {self.name}, expected at least one query with a positive")
        if self._repeated:
            self.warnings.append(f"{self._repeated:,} rows of a query given before added to it")
        if contradictions:
            self.warnings.append(f"{contradictions:,} negatives that are also positives of their query left out")
        return TrainingSet(
            self.name,
            [query for query, *_ in self._queries.values()],
            [document for _, document, _ in self._documents.values()],
            examples,
            [group for _, _, group in self._documents.values()],
            list(self.warnings),
        )


def content_key(item: Item) -> tuple[Any, ...]:
    """Equal for items of equal text, instruction, pictures, video and sound."""
    key = (item.text, item.instruction, *(_source_key(image) for image in item.images), _source_key(item.video))
    return key if item.audio is None else (*key, _source_key(item.audio))


def _source_key(source: Any) -> Any:
    if source is None:
        return None
    path, page = getattr(source, "path", source), getattr(source, "page", None)
    if isinstance(path, Path):
        stat = path.stat()
        # A file that has changed is another document to a cache of its states.
        part = tuple(getattr(source, name) for name in ("start", "end") if getattr(source, name, None) is not None)
        return (str(path.resolve()), page, stat.st_size, stat.st_mtime_ns, *part)
    if hasattr(source, "tobytes"):
        return (source.size, source.mode, hashlib.sha256(source.tobytes()).hexdigest())
    if isinstance(source, Sound):
        return (source.rate, hashlib.sha256(source.samples.tobytes()).hexdigest())
    if isinstance(source, Frames):
        return (source.times, *(_source_key(image) for image in source.images))
    return id(source)


def split(data: TrainingSet, fraction: float, seed: int = 0, most: int = 2_000) -> tuple[TrainingSet, TrainingSet]:
    """The training and the validation set: no document of an example, and no page of one file, is on both sides.

    Queries that share a positive or its file go together; at most ``most`` are held out.
    """
    if not 0 < fraction < 1:
        raise DatasetError(f"validation share: found {fraction}, expected a number between 0 and 1")
    wanted = min(most, max(1, round(fraction * len(data))))
    bundles = _bundles(data)
    order = np.random.default_rng(seed).permutation(len(bundles))
    held: list[int] = []
    for index in order:
        # One that would overshoot is passed over: chance must not put a large file's pages in a small validation set.
        if len(held) < wanted and len(held) + len(bundles[index]) <= max(wanted, 1) * 1.5:
            held.extend(bundles[index])
    if not held or len(held) == len(data):
        raise DatasetError(
            f"{data.name}: found {len(data)} examples in {len(bundles)} groups that share documents or files, expected "
            f"groups small enough to hold out about {wanted}; give a validation set of its own (--validation PAIRS)"
        )
    held_documents = {d for i in held for d in data.examples[i].positives}
    chosen = set(held)
    rest, dropped = [], 0
    for index, example in enumerate(data.examples):
        if index in chosen:
            continue
        kept = [place for place, d in enumerate(example.negatives) if d not in held_documents]
        dropped += len(example.negatives) - len(kept)
        if len(kept) < len(example.negatives):
            own = len(example.positives)
            scores = example.scores and (*example.scores[:own], *(example.scores[own + place] for place in kept))
            example = replace(example, negatives=tuple(example.negatives[place] for place in kept), scores=scores)
        rest.append(replace(example, identical=tuple(d for d in example.identical if d not in held_documents)))
    training = replace(data, examples=rest).subset(range(len(rest)), data.name)
    if dropped:
        note = f"{dropped:,} negatives left out of training because they are documents of the validation set"
        training = replace(training, warnings=[*training.warnings, note])
    return training, data.subset(sorted(held), f"{data.name} (held out)")


def _bundles(data: TrainingSet) -> list[list[int]]:
    """Examples that share a positive or the file of one."""
    parent = list(range(len(data)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[str, int] = {}
    for index, example in enumerate(data.examples):
        for document in example.positives:
            other = first.setdefault(data.groups[document], index)
            parent[root(index)] = root(other)
    bundles: dict[int, list[int]] = {}
    for index in range(len(data)):
        bundles.setdefault(root(index), []).append(index)
    return list(bundles.values())
