"""``smart codec``: fit a codec once for several indexes and stores, and look at one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..options import AsJson, ModelGiven, TokenPooling, known_model, with_model_options
from ..output import echo_json, size

if TYPE_CHECKING:
    from ...index.codec.base import Codec


@with_model_options
def fit(
    source: Annotated[Path, typer.Argument(metavar="DIR", exists=True, help="A folder of documents, or an index.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write.")],
    codec: Annotated[str | None, typer.Option(help="The codec's name. [default: anchored+3vq+norm]")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            callback=known_model, help="A packaged name, a folder, or a hub name. [default: minilm, or the index's]"
        ),
    ] = None,
    token_pooling: TokenPooling = None,
    as_json: AsJson = False,
    model_options: ModelGiven = None,
) -> None:
    """Fit a codec to the documents of DIR, or take an index's, and write it to a file that others can share.

    smart index DIR --index PATH --codec FILE makes an index with it.
    """
    from ...index.shared_codec import fit_shared_codec
    from ...index.smart_index import DEFAULT_CODEC

    found = fit_shared_codec(source, codec or DEFAULT_CODEC, model, token_pooling=token_pooling or 1, **model_options)
    _show(found, found.save(out), as_json)


def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of smart codec fit.")], as_json: AsJson = False
) -> None:
    """Show a codec's name, hash and sizes."""
    from ...index.codec.factory import Codec

    _show(Codec.load(file), file, as_json)


def _show(codec: Codec, file: Path, as_json: bool) -> None:
    about: dict[str, Any] = {
        "file": str(file),
        "codec": codec.name,
        "hash": codec.hash,
        "token_dim": codec.token_dim,
        "anchor_dim": codec.anchor_dim,
        "bytes_per_token": codec.bytes_per_token,
        "bytes": file.stat().st_size,
    }
    if as_json:
        echo_json(about)
        return
    anchors = f", beside anchors of {codec.anchor_dim} dimensions" if codec.anchor_dim else ""
    typer.echo(
        f"{file}: {codec.name} {codec.hash}, {codec.bytes_per_token} bytes for a token of {codec.token_dim} dimensions"
        f"{anchors}; {size(about['bytes'])}"
    )
