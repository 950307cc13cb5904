"""What a measurement of each layer shows, on MMEB-V2 or on a judged collection: its table and its plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.readout import Readout
from ..errors import UnsupportedModelError
from .charts import new_figure, save_figure, styles

if TYPE_CHECKING:
    from rich.table import Table

    from ..model.smart_model import SmartModel

#: What is measured of a layer, and how the report calls it: its late score beside the last layer's anchor, beside the
#: layer's own, alone, and the layer's own anchor alone.
KINDS = {
    "late": "late + last anchor",
    "both": "late + own anchor",
    "late_alone": "late alone",
    "anchor_alone": "own anchor alone",
}
_POINTS = 7


def layers_of(smart: SmartModel, layers: Sequence[int] = ()) -> tuple[int, ...]:
    """The hidden states to measure, absolute and ascending: those asked for, or seven spread evenly up to the last.

    Args:
        smart: The model.
        layers: As :class:`~smart_retrieval.Readout` counts them.

    Raises:
        ReadoutError: There is no such layer.
        UnsupportedModelError: The model has an adapter, which reads its own layers.
    """
    if smart.adapter is not None:
        raise UnsupportedModelError("found an adapter, expected a frozen model: an adapter reads the layers it was for")
    last = smart.backbone.n_states - 1
    spread = sorted({round(last * (place + 1) / _POINTS) for place in range(_POINTS)} - {0})
    return Readout(tuple(layers) or tuple(spread)).resolve_layers(last + 1)


def layers_table(found: dict[str, Any]) -> Table:
    """The figures for a terminal."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", title_justify="left")
    for title in ("layer", *KINDS.values()):
        table.add_column(title, justify="right")
    for point in found["points"]:
        table.add_row(str(point["layer"]), *(_shown(point[kind]["mean"]) for kind in KINDS))
    table.add_row("anchor", _shown(found["anchor"]["mean"]), "", "", "")
    return table


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def draw_layers(found: dict[str, Any], file: str | Path) -> Path:
    """Draw the figures of each kind by layer.

    Args:
        found: What :func:`~smart_retrieval.evaluation.mmeb.layers.ablate_layers` or
            :func:`~smart_retrieval.evaluation.probe.layers.ablate_collection` returned.
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
    axes.set_ylabel(found["metric"])
    axes.set_xticks(layers)
    axes.legend(frameon=False)
    return save_figure(figure, Path(file))
