"""``smart convert``: other people's formats into ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Read other formats.")


@app.callback()
def _group() -> None:
    """Keep ``official`` a named command."""


@app.command()
def official(
    adapter: Annotated[
        Path, typer.Argument(metavar="ADAPTER", help="The paper's adapter.pt, or a folder that holds it.")
    ],
    model: Annotated[str, typer.Option(help="The model it was trained on.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The adapter folder to write.")],
    layers: Annotated[
        str | None, typer.Option(metavar="-1,-2", help="Hidden states to read, over what the file says.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, …; the best at hand when left out.")] = None,
) -> None:
    """Convert an adapter.pt of the paper's authors; nothing in the file is run."""
    from ..core.readout import Readout
    from ..core.scoring import Scoring
    from ..errors import AdapterMismatchError
    from ..model.smart_model import SmartModel
    from ..training.adapter.official import read_official
    from .train import _layers

    found = read_official(adapter)
    readout = Readout(_layers(layers)) if layers else found.readout
    loaded = SmartModel(model, readout=readout, device=device)
    if found.anchor_dim is not None and found.anchor_dim != loaded.anchor_dim:
        raise AdapterMismatchError(
            f"adapter {str(adapter)!r}: found an anchor of {found.anchor_dim} dimensions, expected the "
            f"{loaded.anchor_dim} of model {model!r}"
        )
    loaded.with_adapter(found.adapter, scoring=Scoring()).save_adapter(out)
    typer.echo(
        f"{out}: layers {list(readout.layers)}, {found.adapter.config.hidden_size} to {found.adapter.config.width} "
        f"dimensions, for {model}"
    )
    if found.instruction is not None and found.instruction not in loaded.prompts.values():
        typer.echo(
            f"It was trained with the instruction {found.instruction!r}, which is none of this model's prompts "
            f"({loaded.prompts}); pass it as the prompt if results are worse than expected.",
            err=True,
        )
