"""``smart convert`` and ``smart export``: adapters and models from and to other formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import Layers, ModelArgument, ModelGiven, known_model, layers_of, with_model_options


@with_model_options
def official(
    adapter: Annotated[
        Path, typer.Argument(metavar="ADAPTER", exists=True, help="The paper's adapter.pt, or a folder that holds it.")
    ],
    model: Annotated[str, typer.Option(callback=known_model, help="The model it was trained on.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The adapter folder to write.")],
    layers: Layers = None,
    *,
    model_options: ModelGiven,
) -> None:
    """Convert an adapter.pt of the paper's authors; nothing in the file is executed."""
    from ...core.readout import Readout
    from ...core.scoring import Scoring
    from ...errors import AdapterMismatchError
    from ...model.smart_model import SmartModel
    from ...training import read_official

    found = read_official(adapter)
    chosen = layers_of(layers)
    readout = Readout(chosen) if chosen else found.readout
    loaded = SmartModel(model, readout=readout, **model_options)
    if found.anchor_dim is not None and found.anchor_dim != loaded.anchor_dim:
        raise AdapterMismatchError(
            f"adapter {str(adapter)!r}: found an anchor of {found.anchor_dim} dimensions, expected the "
            f"{loaded.anchor_dim} of model {model!r}"
        )
    loaded.with_adapter(found.adapter, scoring=Scoring()).save_adapter(out)
    config = found.adapter.config
    typer.echo(f"{out}: layers {list(readout.layers)}, {config.hidden_size} to {config.width} dimensions, for {model}")
    if found.instruction is not None and found.instruction not in loaded.prompts.values():
        typer.echo(
            f"It was trained with the instruction {found.instruction!r}, which is none of this model's prompts "
            f"({loaded.prompts}); pass it as the prompt if results are worse than expected.",
            err=True,
        )


@with_model_options
def st(
    model: ModelArgument,
    out: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write.")],
    layers: Layers = None,
    *,
    model_options: ModelGiven,
) -> None:
    """Write a stock late-only MultiVectorEncoder; an error says why where that is not exactly possible."""
    from ...core.readout import Readout
    from ...model.smart_model import SmartModel
    from ...training import export_multi_vector_encoder

    chosen = layers_of(layers)
    readout = Readout(chosen) if chosen else None
    folder = export_multi_vector_encoder(SmartModel(model, readout=readout, preset="paper", **model_options), out)
    typer.echo(f"{folder}: MultiVectorEncoder({str(folder)!r}) gives the token vectors; the anchor is left out")
