"""``smart encode``: a dataset into embeddings or index shards."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ..options import AsJson, BatchSize, Model, ModelGiven, TokenPooling, with_model_options
from ..output import echo_json, if_stopped, plural, printable

if TYPE_CHECKING:
    from ...cluster.encode import EncodeReport
    from ...index.text.language import Language


@with_model_options
def encode(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="Parquet or JSON Lines, or a folder of them or of files to read.")
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder, or that of a run that was stopped.")],
    model: Model = "minilm",
    index: Annotated[bool, typer.Option("--index", help="Write the shards of an index instead of embeddings.")] = False,
    shards: Annotated[int, typer.Option("--shards", "-n", min=1, help="Shards of the index.")] = 1,
    codec: Annotated[
        str | None, typer.Option(help="Of the index: a codec's file, or its name. [default: as for smart index]")
    ] = None,
    token_pooling: TokenPooling = None,
    language: Annotated[str, typer.Option(help="Of the index: auto, english or other.")] = "auto",
    files_as: Annotated[str, typer.Option("--as", help="Of files: auto, text or pages.")] = "auto",
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Of files: most tokens per passage.")] = None,
    id_field: Annotated[str, typer.Option(metavar="NAME", help="Column of the ids.")] = "id",
    text_field: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Column of the text; several are joined. [default: text]")
    ] = None,
    image_field: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Column of paths of pictures, or of their bytes. [default: image, images]"),
    ] = None,
    video_field: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Column of videos, likewise. [default: video, where the model takes it]"),
    ] = None,
    audio_field: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Column of recordings, likewise. [default: audio, where the model takes it]"),
    ] = None,
    metadata_field: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Columns kept as metadata. [default: all others]")
    ] = None,
    part_size: Annotated[int, typer.Option(min=1, help="Rows encoded at a time, and lost at most by a kill.")] = 1000,
    batch_size: BatchSize = None,
    ray: Annotated[bool, typer.Option("--ray", help="On a Ray cluster, or on all cores of this machine.")] = False,
    address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster; auto for this machine's. [default: one of its own]")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Most workers. [default: half of the CPUs, or one for each GPU]")
    ] = None,
    stall: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="End a stage that has finished nothing for so long.")
    ] = 900,
    as_json: AsJson = False,
    model_options: ModelGiven = None,
) -> None:
    """Encode DATASET into FOLDER: embeddings, or with --index the shards that search and serve take as one index.

    Run it again after it was stopped or killed, and it goes on; every document is there once. Documents that cannot be
    encoded are rows of bad.parquet in FOLDER, with a reason. Rows are encoded whole; files are cut into passages.
    """
    from ...cluster.encode import encode_dataset
    from ...cluster.rows import Columns
    from ...index.creation import FILES_AS
    from ...index.smart_index import DEFAULT_CODEC
    from ...index.text.language import LANGUAGES

    for option, value, choices in (("--as", files_as, FILES_AS), ("--language", language, LANGUAGES)):
        if value not in choices:
            raise typer.BadParameter(f"{option}: found {value!r}, expected one of {', '.join(choices)}")
    if not ray and (address, workers) != (None, None):
        raise typer.BadParameter("found --address or --workers without --ray, expected --ray")
    if not index and (codec is not None or shards > 1 or token_pooling is not None):
        raise typer.BadParameter("found --codec, --shards or --token-pooling without --index, expected --index")
    usual = Columns()
    columns = Columns(
        id_field, tuple(text_field or usual.text), tuple(image_field or usual.image),
        *(None if names is None else tuple(names) for names in (video_field, audio_field, metadata_field)),
    )  # fmt: skip
    with _runner(ray, address, workers, stall) as runner, if_stopped(lambda: f"run it again to go on in {out}"):
        report = encode_dataset(
            dataset, out, model, index=index, shards=shards, codec=codec or DEFAULT_CODEC,
            token_pooling=token_pooling or 1, language=cast("Language", language), files_as=cast("Any", files_as),
            max_tokens=max_tokens, columns=columns, part_size=part_size, batch_size=batch_size, runner=runner,
            **model_options,
        )  # fmt: skip
    if as_json:
        echo_json(report.to_dict())
    else:
        _print(report)


def _runner(ray: bool, address: str | None, workers: int | None, stall: float) -> Any:
    if not ray:
        return nullcontext()
    from ...cluster.ray_runs import RayRunner

    return RayRunner(address, workers, stall)


def _print(report: EncodeReport) -> None:
    into = f" in {plural(report.shards, 'shard')}" if report.shards else ""
    before = f", {report.parts_before:,} of them before" if report.parts_before else ""
    lines = [
        f"{plural(report.documents, 'document')} ({plural(report.tokens, 'token')}){into} at {report.out}",
        f"{plural(report.parts, 'part')}{before}; {report.seconds:.1f} s",
    ]
    lines += [f"not encoded, {count:,} × {reason}" for reason, count in report.reasons.items()]
    if report.truncated:
        lines.append(f"{plural(report.truncated, 'token')} at the ends of documents were beyond the model's limit")
    if report.repeated and not report.shards:
        lines.append(f"{plural(report.repeated, 'document')} with the id of another one")
    typer.echo(printable("\n".join(lines)))
