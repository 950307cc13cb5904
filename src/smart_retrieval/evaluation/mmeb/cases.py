"""What every parser gives: queries, candidates named once, and which of them are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...errors import DatasetError
from ...inputs import Item
from .layout import Missing
from .tasks import Task


@dataclass(frozen=True)
class Case:
    """One query and what is right for it.

    Args:
        item: What is asked.
        labels: Names of the right candidates.
        grades: How right each is, or None where all are equally.
        candidates: Places of the query's own candidates, or None where all are ranked.
    """

    item: Item
    labels: tuple[str, ...]
    grades: tuple[float, ...] | None = None
    candidates: NDArray[np.int32] | None = None


@dataclass
class TaskData:
    """A task, read.

    Args:
        task: The task.
        missing: What its media lack.

    Attributes:
        cases: The queries, in the order of the annotations.
        names: Names of the candidates, each once, in the order they were first met.
        items: The candidates themselves.
        notes: What was left out, for the report.
        left_out: Queries that could not be asked.
    """

    task: Task
    missing: Missing
    cases: list[Case] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: int = 0
    _places: dict[str, int] = field(default_factory=dict, repr=False)

    def add_candidate(self, name: str, item: Item) -> int:
        """The place of a candidate; one whose name is known already is not added again."""
        place = self._places.get(name)
        if place is None:
            place = self._places[name] = len(self.names)
            self.names.append(name)
            self.items.append(item)
        return place

    def find(self, name: str) -> int | None:
        """The place of the candidate of this name; most of a query's are another query's too."""
        return self._places.get(name)

    def add_query(
        self,
        item: Item,
        labels: Sequence[str],
        grades: Sequence[float] | None = None,
        candidates: Sequence[int] | None = None,
    ) -> None:
        """Add a query.

        Args:
            item: What is asked.
            labels: Names of the right candidates.
            grades: How right each is.
            candidates: Places of its own candidates, for tasks that rank those alone.
        """
        own = None
        if self.task.scope == "local":
            # In the order given, each once: the same answer may stand there twice.
            own = np.array(list(dict.fromkeys(candidates or ())), np.int32)
        self.cases.append(Case(item, tuple(labels), None if grades is None else tuple(grades), own))

    def check(self) -> TaskData:
        """Whether there is something to rank, and every label is among the candidates.

        Raises:
            DatasetError: There is not.
        """
        where = f"task {self.task.name}"
        if not self.cases or not self.names:
            raise DatasetError(f"{where}: found {len(self.cases)} queries and {len(self.names)} candidates")
        for number, case in enumerate(self.cases):
            names = self._places if case.candidates is None else {self.names[place] for place in case.candidates}
            if not case.labels or not any(label in names for label in case.labels):
                raise DatasetError(
                    f"{where}, query {number}: found the answer {', '.join(map(repr, case.labels))[:80] or 'none'}, "
                    f"expected it among its {len(names)} candidates"
                )
        return self
