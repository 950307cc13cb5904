"""Rankings judged and written down as they come: memory does not grow with the number of queries."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ...errors import SmartError
from .cases import Case
from .metrics import NAMES, mean_of_columns, score_ranking
from .ranking import Ranked


def judge(
    cases: Sequence[Case], ranked: Iterable[Mapping[str, Ranked]], targets: Mapping[str, Path], *, mode: str = "correct"
) -> dict[str, dict[str, float]]:
    """Judge the rankings of a task's queries, and write each into its setting's predictions.

    Args:
        cases: The queries.
        ranked: For each of them its ranking by each setting.
        targets: The file of predictions of each setting; it appears when it is complete.
        mode: Form of the metrics, see :func:`~smart_retrieval.evaluation.mmeb.metrics.score_ranking`.

    Returns:
        The mean of each metric, by setting.

    Raises:
        ScoringError: There is no query.
        SmartError: A file cannot be written.
    """
    values: dict[str, dict[str, array[float]]] = {name: {key: array("d") for key in NAMES} for name in targets}
    with ExitStack() as stack:
        files = {name: stack.enter_context(lines_file(path)) for name, path in targets.items()}
        for case, by_setting in zip(cases, ranked, strict=True):
            for name, best in by_setting.items():
                judged = score_ranking(best.names, case.labels, case.grades, mode=mode)
                for key, column in values[name].items():
                    column.append(judged[key])
                files[name].write(
                    json_line(
                        {
                            "prediction": best.names,
                            "label": case.labels,
                            "rel_scores": case.grades,
                            "scores": best.scores,
                        }
                    )
                )
        return {name: mean_of_columns(own) for name, own in values.items()}


def json_line(row: Mapping[str, Any]) -> str:
    """One line of a JSON Lines file."""
    return json.dumps(row, ensure_ascii=False) + "\n"


@contextmanager
def lines_file(path: Path) -> Iterator[IO[str]]:
    """A text file that appears under its name when it is complete.

    Args:
        path: Its name.

    Raises:
        SmartError: It cannot be written.
    """
    partial = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8", errors="backslashreplace") as file:
            yield file
        os.replace(partial, path)
    except OSError as error:
        raise SmartError(f"cannot write {path} ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
