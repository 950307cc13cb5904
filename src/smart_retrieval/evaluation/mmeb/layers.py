"""Which layer late interaction reads, on MMEB-V2: beside the model's own anchor, and with the anchor of that layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from ...core.scoring import Scoring
from ..layers import KINDS, layers_of
from ..results import MmebResult
from ..results import write_json as write_result
from .processes import find_processes
from .run import MmebOptions, Plan, Run, cache_folder, load_model, media_digests
from .store import EncodingStore
from .tasks import all_tasks

if TYPE_CHECKING:
    from ...model.options import ModelOptions
    from ...model.smart_model import SmartModel


def ablate_layers(
    data_root: str | Path,
    out: str | Path,
    *,
    layers: Sequence[int] = (),
    tasks: Sequence[str] = ("paper",),
    model: str | Path | SmartModel = "glyph",
    lambda_late: float = 1.0,
    skip_incomplete: bool = False,
    discard: bool = False,
    cache: str | Path | None = None,
    batch_size: int | None = None,
    progress: bool | None = False,
    **model_options: Unpack[ModelOptions],
) -> dict[str, Any]:
    """Measure MMEB-V2 with the late score of each layer (arXiv 2605.24938), by the paper's scoring.

    Every input is encoded once: all layers are read from one forward pass.

    Args:
        data_root: Where the data lie, see ``docs/guides/mmeb_and_mteb.md``.
        out: Folder of the results: ``layers.json``, and every layer's own run.
        layers: Hidden states, 0 the embedding output; seven evenly spread ones up to the last when empty.
        tasks: Names of tasks, as :func:`~smart_retrieval.evaluation.mmeb.evaluate_mmeb` takes them.
        model: Name or path of a model, or a loaded one.
        lambda_late: Weight of the late score.
        skip_incomplete: Measure the tasks that are complete.
        discard: Remove a task's encodings once it is scored: all layers together take much space.
        cache: Where encodings are kept; the user's cache when None.
        batch_size: Most items in one forward pass.
        progress: Draw bars on stderr; None draws them on a terminal only.
        **model_options: As :class:`~smart_retrieval.SmartModel` takes them; none beside a loaded model.

    Returns:
        JSON-able: ``model``, ``tasks`` (those measured), ``anchor`` and for each layer under ``points`` ``layer`` and
        the :data:`~smart_retrieval.evaluation.layers.KINDS`: the ``mean`` over these tasks in percent, and that of
        each whole group of tasks under ``groups``.

    Raises:
        DatasetError: Files are missing or malformed.
        ReadoutError: There is no such layer.
        UnsupportedModelError: The model has an adapter, which reads its own layers.
    """
    given: ModelOptions = {"preset": "paper", **model_options} if isinstance(model, str | Path) else model_options
    options, folder = MmebOptions(lambdas_late=(lambda_late,), skip_incomplete=skip_incomplete), Path(out).expanduser()
    plan = Plan.make(data_root, folder, tasks, (), options)
    smart = load_model(model, None, given)
    chosen = layers_of(smart, layers)
    cached, processes = cache_folder(cache), find_processes()
    digests, runs = media_digests(cached), dict[tuple[int, str], Run]()
    for whole, parts in _readings(smart, chosen):
        store = EncodingStore(cached, whole, batch_size=batch_size, progress=progress, processes=processes)
        for number, part in enumerate(parts):
            view = store.part(part.smart, anchors=part.anchors, tokens=part.tokens)
            own = replace(options, discard=discard and number == len(parts) - 1)  # once all of them have read it
            setting = replace(part.smart.preset, scoring=Scoring(lambda_late=lambda_late))
            place = folder / f"layer-{part.layer}" / part.kind
            runs[part.layer, part.kind] = Run(plan, place, view, setting, own, digests)
    for task in plan.fitting(smart):
        for run in runs.values():
            run.measure(task)
    results = {place: run.finish() for place, run in runs.items()}
    system = "hybrid" if lambda_late else "anchor"
    points = []
    for layer in chosen:
        late = results[layer, "late"]
        both = results.get((layer, "both"), late)  # of the last layer the same thing
        measured = (late, system), (both, system), (late, "late"), (both, "anchor")
        kinds = {kind: _means(*one) for kind, one in zip(KINDS, measured, strict=True)}
        points.append({"layer": layer, **kinds})
    result = results[chosen[0], "late"]
    found = {
        "model": result["model"],
        "metric": f"mean of {len(result['tasks'])} tasks, %",
        "identity": smart.identity(),
        "lambda_late": lambda_late,
        "tasks": list(result["tasks"]),
        "missing": result["missing"],
        "anchor": _means(result, "anchor"),
        "points": points,
        "versions": result["versions"],
        "run": result["run"],
    }
    write_result(found, folder / "layers.json")
    return found


@dataclass(frozen=True)
class _Part:
    """A model that reads one layer, and its columns in the encodings of all layers together."""

    layer: int
    kind: str  # "late" has the model's own anchor, "both" the layer's
    smart: SmartModel
    anchors: slice
    tokens: slice


def _readings(smart: SmartModel, layers: Sequence[int]) -> Iterator[tuple[SmartModel, list[_Part]]]:
    """Models that read all layers in one forward pass, and the parts of what they give; nearly always one model."""
    backbone, last = smart.backbone, smart.backbone.n_states - 1
    together = [[*layers]]
    if backbone.output_size != backbone.hidden_size:  # -1 is no hidden state, but what a projection makes of the last
        together = [group for group in ([layer for layer in layers if layer < last], [last]) if group]
    for group in together:
        whole = [-1] if group == [last] else group
        pooled = sorted({*group, last})
        every = smart.with_readout(replace(smart.readout, layers=tuple(whole), mix="concat" if whole[1:] else "mean"))
        yield every.with_anchor_of(*pooled), list(_parts(smart, group, pooled))


def _parts(smart: SmartModel, group: Sequence[int], pooled: Sequence[int]) -> Iterator[_Part]:
    last = smart.backbone.n_states - 1

    def columns(place: int, width: int) -> slice:
        return slice(place * width, (place + 1) * width)

    for place, layer in enumerate(group):
        read = smart.with_readout(replace(smart.readout, layers=(layer if layer < last else -1,), mix="mean"))
        tokens = columns(place, read.token_dim) if group[1:] else slice(None)
        yield _Part(layer, "late", read, columns(pooled.index(last), read.anchor_dim), tokens)
        if layer < last:
            anchors = columns(pooled.index(layer), read.anchor_dim)
            yield _Part(layer, "both", read.with_anchor_of(layer), anchors, tokens)


def _means(result: MmebResult, system: str) -> dict[str, Any]:
    """The mean over all tasks measured, and those of the groups that are whole, in percent."""
    setting = next(own for name, own in result["settings"].items() if name.startswith(system))
    metrics = {task.name: task.metric for task in all_tasks()}
    values = [100 * float(scores[metrics[name]]) for name, scores in setting["scores"].items()]
    groups = {mean["name"]: mean["value"] for mean in setting["means"] if mean["value"] is not None}
    return {"mean": math.fsum(values) / len(values) if values else None, "groups": groups}
