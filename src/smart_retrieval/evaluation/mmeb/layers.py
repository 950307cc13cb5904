"""Which layer late interaction reads: beside the model's own anchor, and with the anchor of the same layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from ...core.readout import Readout
from ...errors import UnsupportedModelError
from ..charts import new_figure, save_figure, styles
from ..results import MmebResult
from ..results import write_json as write_result
from .run import MmebOptions, evaluate_mmeb
from .tasks import all_tasks

if TYPE_CHECKING:
    from rich.table import Table

    from ...model.options import ModelOptions
    from ...model.smart_model import SmartModel

#: What is read of a layer, and how the report calls it.
KINDS = {"late": "late of the layer, last anchor", "both": "late and anchor of the layer"}
_POINTS = 7


def ablate_layers(
    data_root: str | Path,
    out: str | Path,
    *,
    layers: Sequence[int] = (),
    tasks: Sequence[str] = ("paper",),
    model: str | Path | SmartModel = "glyph",
    lambda_late: float = 1.0,
    skip_incomplete: bool = False,
    cache: str | Path | None = None,
    batch_size: int | None = None,
    progress: bool | None = False,
    **model_options: Unpack[ModelOptions],
) -> dict[str, Any]:
    """Measure MMEB-V2 with the late score of each layer (arXiv 2605.24938), by the paper's scoring.

    Args:
        data_root: Where the data lie, see ``docs/guides/mmeb_and_mteb.md``.
        out: Folder of the results: ``layers.json``, and every layer's own run.
        layers: Hidden states, 0 the embedding output; seven evenly spread ones up to the last when empty.
        tasks: Names of tasks, as :func:`~smart_retrieval.evaluation.mmeb.evaluate_mmeb` takes them.
        model: Name or path of a model, or a loaded one.
        lambda_late: Weight of the late score.
        skip_incomplete: Measure the tasks that are complete.
        cache: Where encodings are kept; the user's cache when None.
        batch_size: Most items in one forward pass.
        progress: Draw bars on stderr; None draws them on a terminal only.
        **model_options: As :class:`~smart_retrieval.SmartModel` takes them; none beside a loaded model.

    Returns:
        JSON-able: ``model``, ``tasks`` (those measured), ``anchor`` and for each layer under ``points`` ``layer``,
        ``late`` and ``both``: the mean over these tasks in percent, and the mean of each whole group of tasks.

    Raises:
        DatasetError: Files are missing or malformed.
        ReadoutError: There is no such layer.
        UnsupportedModelError: The model has an adapter, which reads its own layers.
    """
    from ...model.smart_model import SmartModel

    model_options.setdefault("preset", "paper")
    smart = model if isinstance(model, SmartModel) else SmartModel(model, **model_options)
    if smart.adapter is not None:
        raise UnsupportedModelError("found an adapter, expected a frozen model: an adapter reads the layers it was for")
    last, folder = smart.backbone.n_states - 1, Path(out).expanduser()
    chosen = Readout(tuple(layers) or _spread(last)).resolve_layers(last + 1)
    options = MmebOptions(lambdas_late=(lambda_late,), skip_incomplete=skip_incomplete)
    points: list[dict[str, Any]] = []
    result: MmebResult
    for layer in chosen:
        point: dict[str, Any] = {"layer": layer}
        for kind in KINDS:
            if layer == last and kind == "both":  # the same thing
                point["both"] = point["late"]
                continue
            read = smart.with_readout(replace(smart.readout, layers=(layer if layer < last else -1,), mix="mean"))
            result = evaluate_mmeb(
                data_root, folder / f"layer-{layer}" / kind, tasks=tasks, weights="uniform", floor=None,
                model=read if kind == "late" else read.with_anchor_of(layer), lambda_anchor=1.0, options=options,
                cache=cache, batch_size=batch_size, progress=progress,
            )  # fmt: skip
            point[kind] = _means(result, "hybrid" if lambda_late else "anchor")
            own = _means(result, "anchor")
            point.setdefault("anchor_of_last" if kind == "late" else "anchor_of_layer", own)
        points.append(point)
    found = {
        "model": result["model"],
        "identity": smart.identity(),
        "lambda_late": lambda_late,
        "tasks": list(result["tasks"]),
        "missing": result["missing"],
        "anchor": points[0]["anchor_of_last"],
        "points": [{name: point[name] for name in ("layer", *KINDS)} for point in points],
        "versions": result["versions"],
        "run": result["run"],
    }
    write_result(found, folder / "layers.json")
    return found


def _spread(last: int) -> tuple[int, ...]:
    """Evenly spread layers up to the last."""
    return tuple(sorted({round(last * (place + 1) / _POINTS) for place in range(_POINTS)} - {0}))


def _means(result: MmebResult, system: str) -> dict[str, Any]:
    """The mean over all tasks measured, and those of the groups that are whole, in percent."""
    setting = next(own for name, own in result["settings"].items() if name.startswith(system))
    metrics = {task.name: task.metric for task in all_tasks()}
    values = [100 * float(scores[metrics[name]]) for name, scores in setting["scores"].items()]
    groups = {mean["name"]: mean["value"] for mean in setting["means"] if mean["value"] is not None}
    return {"mean": math.fsum(values) / len(values) if values else None, "groups": groups}


def layers_table(found: dict[str, Any]) -> Table:
    """The figures for a terminal."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", title_justify="left")
    for title in ("layer", *KINDS.values()):
        table.add_column(title, justify="right")
    for point in found["points"]:
        table.add_row(str(point["layer"]), *(_shown(point[kind]["mean"]) for kind in KINDS))
    table.add_row("anchor", _shown(found["anchor"]["mean"]), "")
    return table


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def draw_layers(found: dict[str, Any], file: str | Path) -> Path:
    """Draw the mean over the tasks by layer.

    Args:
        found: What :func:`ablate_layers` returned.
        file: A picture, in the format that its name ends in.

    Returns:
        The file.

    Raises:
        MissingExtraError: matplotlib is not installed.
        SmartError: The file cannot be written.
    """
    figure = new_figure(6.4, 3.6)
    axes = figure.add_subplot()
    layers = [point["layer"] for point in found["points"]]
    for kind, look in styles(KINDS).items():
        values = [math.nan if (mean := point[kind]["mean"]) is None else mean for point in found["points"]]
        axes.plot(layers, values, label=KINDS[kind], **look)
    if found["anchor"]["mean"] is not None:
        axes.axhline(found["anchor"]["mean"], color="#777777", linestyle="--", label="anchor alone")
    axes.set_xlabel("hidden state")
    axes.set_ylabel(f"mean of {len(found['tasks'])} tasks, %")
    axes.set_xticks(layers)
    axes.legend(frameon=False)
    return save_figure(figure, Path(file))
