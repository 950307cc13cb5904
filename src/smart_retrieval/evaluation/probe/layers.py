"""Which layer late interaction reads, on a judged collection of texts or pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from ...core.readout import Readout
from ...core.roles import TokenFilter
from ...core.scoring import Scoring
from ...core.vectors import unit_rows
from ...extras import require
from ...types import Array
from ..beir import load_beir
from ..cache import EncodingCache, encode_dataset
from ..evaluate import GAIN_METRIC
from ..layers import KINDS, layers_of
from ..provenance import run_facts, versions
from .sweep import Sweep

if TYPE_CHECKING:
    from ...model.options import ModelOptions
    from ...model.smart_model import SmartModel


def ablate_collection(
    folder: str | Path,
    *,
    layers: Sequence[int] = (),
    model: str | Path | SmartModel = "minilm",
    lambda_late: float = 1.0,
    split: str = "test",
    cache: EncodingCache | None = None,
    batch_size: int | None = None,
    progress: bool | None = False,
    **model_options: Unpack[ModelOptions],
) -> dict[str, Any]:
    """Measure a judged collection with the late score of each layer (arXiv 2605.24938), by the paper's scoring.

    Everything is encoded once, all layers together.

    Args:
        folder: A BEIR-layout folder, of texts or of pictures, see `load_beir`.
        layers: Hidden states, 0 the embedding output; seven evenly spread ones up to the last when empty.
        model: Name or path of a model, or a loaded one.
        lambda_late: Weight of the late score.
        split: Which qrels file to judge by.
        cache: Where encodings are kept and looked for. With None they are held in memory.
        batch_size: Most inputs in one forward pass.
        progress: Draw bars on stderr; None draws them on a terminal only.
        **model_options: As :class:`~smart_retrieval.SmartModel` takes them; none beside a loaded model.

    Returns:
        JSON-able: ``model``, ``collection``, ``metric``, ``anchor`` and for each layer under ``points`` ``layer`` and
        the :data:`~smart_retrieval.evaluation.layers.KINDS`: the ``mean`` of nDCG@10 in percent.

    Raises:
        DatasetError: The folder is missing or malformed.
        ReadoutError: There is no such layer.
        UnsupportedModelError: The model has an adapter, or does not take what is in the folder.
        MissingExtraError: pytrec_eval is not installed.

    Example:
        >>> ablate_collection("cranfield", layers=(2, 4, 6))["points"][0]["late"]  # doctest: +SKIP
        {'mean': 43.7}
    """
    require("pytrec_eval", "eval")
    from ...model.smart_model import SmartModel

    data = load_beir(folder, split)
    given: ModelOptions = {"preset": "paper", **model_options}
    smart = SmartModel(model, **given) if isinstance(model, str | Path) else model
    chosen, last = layers_of(smart, layers), smart.backbone.n_states - 1
    pooled = sorted({*chosen, last})
    token_filter = f"paper{TokenFilter.parse(smart.readout.token_filter).modifiers}"
    several = Readout((-1,) if chosen == (last,) else chosen, "concat" if chosen[1:] else "mean", token_filter)
    every = smart.with_readout(several).with_anchor_of(*pooled)
    options: dict[str, Any] = {"batch_size": batch_size, "progress": progress}
    encodings = encode_dataset(every, data, cache, **options)
    sweep = Sweep(smart, data, chosen, encodings, cache=cache, batch_size=batch_size)

    def cosines(layer: int) -> Array:
        place, width = pooled.index(layer), smart.anchor_dim
        columns = slice(place * width, (place + 1) * width)
        queries, documents = (unit_rows(one.anchors[:, columns]) for one in (sweep.queries, sweep.documents))
        found: Array = queries @ documents.T
        return found

    def mean(scores: Array) -> dict[str, float]:
        return {"mean": 100 * float(np.mean(sweep.judge(scores)))}

    anchor, scoring, points = cosines(last), Scoring(lambda_late=lambda_late), []
    for layer in chosen:
        own = cosines(layer)
        late = sweep.late(replace(smart.readout, layers=(layer if layer < last else -1,), mix="mean"))
        measured = scoring.combine(anchor, late), scoring.combine(own, late), late, own
        points.append({"layer": layer, **dict(zip(KINDS, map(mean, measured), strict=True))})
    return {
        "model": smart.name,
        "identity": smart.identity(),
        "collection": data.name,
        "metric": f"{GAIN_METRIC}, %",
        "lambda_late": lambda_late,
        "documents": len(data.texts),
        "queries": len(data.queries),
        "anchor": mean(anchor),
        "points": points,
        "notes": data.warnings,
        "versions": versions(["pillow"]),
        "run": run_facts(),
    }
