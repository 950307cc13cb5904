"""``smart index``: a folder of files into an index; a second run touches only what changed."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from .options import AsJson, ModelGiven, TokenPooling, known_model, with_model_options
from .output import console, echo_json, export_encoder, if_stopped, plural, shown_name

if TYPE_CHECKING:
    from ..documents.readers.ocr import OcrMode
    from ..index.ingest.report import IngestReport
    from ..index.smart_index import SmartIndex
    from ..index.text.language import Language

_KINDS = ("auto", "text", "pages")


@with_model_options
def index(
    folder: Annotated[Path, typer.Argument(metavar="DIR", exists=True, help="A folder, or a single file.")],
    index_path: Annotated[
        Path, typer.Option("--index", metavar="PATH", help="The index's folder; created if it does not exist.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            callback=known_model, help="A packaged name, a folder, or a hub name. [default: minilm, or the index's]"
        ),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            help="New index: how it stores token vectors, or a file of smart codec fit. [default: anchored+3vq+norm]"
        ),
    ] = None,
    token_pooling: TokenPooling = None,
    language: Annotated[
        str, typer.Option(help="New index: english, other, or auto: by the share of English stop words. For BM25.")
    ] = "auto",
    include: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Read only files that match, as in .gitignore. Repeatable.")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Skip what matches. Repeatable.")] = None,
    hidden: Annotated[bool, typer.Option("--hidden", help="Also read hidden files and folders.")] = False,
    sync: Annotated[
        bool, typer.Option("--sync", help="Delete passages of files that were removed or are now excluded.")
    ] = False,
    read_as: Annotated[
        list[str] | None,
        typer.Option(
            "--as",
            metavar="text|pages|auto|.SUFFIX=FORMAT",
            help="For a new index: text, pages (images, videos, sound, and PDFs as images of their pages) or auto "
            "(pages if the model takes images). Or the format of a file type ('*' for all unknown types). Repeatable.",
        ),
    ] = None,
    text_field: Annotated[
        list[str] | None, typer.Option(help="JSON Lines: field with the text. Repeatable. [default: text]")
    ] = None,
    title_field: Annotated[str, typer.Option(help="JSON Lines: field with the heading.")] = "",
    id_field: Annotated[str, typer.Option(help="JSON Lines: field with the id. [default: the line number]")] = "",
    metadata_field: Annotated[
        list[str] | None, typer.Option(help="JSON Lines: field to keep as metadata. Repeatable. [default: all others]")
    ] = None,
    encoding: Annotated[
        str,
        typer.Option(help="Encoding of the files' text, such as windows-1251. [default: each file's own, or a guess]"),
    ] = "",
    ocr: Annotated[
        str,
        typer.Option(
            metavar="auto|always|never",
            help="Files read as text: read pages without text, and images, those within Office files, e-mail, pages "
            "too, by OCR (Latin letters, Chinese, Japanese); always: all pages of PDFs.",
        ),
    ] = "auto",
    ocr_pages: Annotated[
        int, typer.Option(min=1, help="Most pages of a file, or images within it, that OCR reads.")
    ] = 500,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Most tokens per passage. [default: the model's limit]")
    ] = None,
    compute: Annotated[
        str,
        typer.Option(
            metavar="auto|float32|bfloat16",
            help="New index: what documents are encoded in; auto: bfloat16 for text where the processor is faster.",
        ),
    ] = "auto",
    overlap: Annotated[int, typer.Option(min=0, help="Tokens repeated from the previous passage.")] = 0,
    as_json: AsJson = False,
    model_options: ModelGiven = None,
) -> None:
    """Index the documents of DIR (text, Markdown, HTML, PDF, Office, e-mail, code and more), or its pages and images.

    Run it again to bring the index up to date: only files that changed are read. It can be interrupted at any time; the
    next run continues. Files that cannot be read are listed with the reason; the others are indexed.
    """
    kind, formats = _as(read_as or [])
    with suppress(ValueError):  # version 0.1.0 called it --pooling
        token_pooling = float(model_options.get("pooling", ""))
        del model_options["pooling"]
    # Imported here, so that --help needs neither NumPy nor a model.
    from ..documents.readers.jsonl import JsonlFields
    from ..index.smart_index import SmartIndex

    fields = JsonlFields(
        tuple(text_field or ["text"]), title_field, id_field, None if metadata_field is None else tuple(metadata_field)
    )
    with (
        SmartIndex.open_or_create(
            index_path,
            model,
            codec=codec,
            token_pooling=token_pooling,
            language=cast("Language", language),
            files_as=kind,
            compute=compute,
            **model_options,
        ) as opened,
        if_stopped(lambda: f"{plural(len(opened), 'passage')} stored in {index_path}"),
    ):
        report = opened.index_folder(
            folder,
            include=include or (),
            exclude=exclude or (),
            hidden=hidden,
            sync=sync,
            read_as=formats,
            jsonl=fields,
            encoding=encoding,
            ocr=cast("OcrMode", ocr),
            max_ocr_pages=ocr_pages,
            max_tokens=max_tokens,
            overlap=overlap,
        )
        if report.passages and (purpose := opened.model.purpose) is not None:
            name = opened.model.name
            typer.echo(
                f"note: model {name!r} is {purpose.what}: of other documents it can read nothing. For pages and "
                "pictures take a vision-language model such as Qwen/Qwen3-VL-Embedding-2B, for text minilm",
                err=True,
            )
        computing = opened.encoder.document_model().computing if report.passages else None
        if computing is not None and computing.name != "float32":
            typer.echo(f"note: encoded in {computing.name} ({computing.reason}); --compute chooses", err=True)
        if as_json:
            used = None if computing is None else {"name": computing.name, "reason": computing.reason}
            echo_json({"index": str(index_path), "documents": len(opened), "compute": used, **report.to_dict()})
        else:
            _print(report, opened, index_path)
        export_encoder(opened)


def _as(values: list[str]) -> tuple[Any, dict[str, str]]:
    """Read ``--as pages``, ``--as .conf=text`` and ``--as '*=text'``."""
    from ..documents.read import READERS

    kinds = [value for value in values if "=" not in value]
    if len(set(kinds)) > 1 or not set(kinds) <= set(_KINDS):
        raise typer.BadParameter(
            f"--as: found {' and '.join(map(repr, kinds))}, expected one of {', '.join(_KINDS)}; formats go with a "
            "suffix, such as .conf=text, or '*=text' for files of unknown types"
        )
    formats = {}
    for value in (value for value in values if "=" in value):
        suffix, _, name = value.rpartition("=")
        if not suffix or name not in READERS:
            raise typer.BadParameter(f"--as: found {value!r}, expected .suffix= and one of {', '.join(READERS)}")
        formats["*" if suffix == "*" else f".{suffix.lower().lstrip('.')}"] = name
    return kinds[0] if kinds else "auto", formats


def _print(report: IngestReport, opened: SmartIndex, path: Path) -> None:
    from ..documents.read import UNKNOWN_TYPE

    out = console()
    counts = {name: getattr(report, name) for name in ("added", "updated", "unchanged", "removed", "failed")}
    done = [f"{count:,} {name}" for name, count in counts.items() if count or name == "added"]
    out.print(f"{plural(report.seen, 'file')}: {', '.join(done)}", markup=False)
    pictures = f", {report.pictures:,} of them pictures," if report.pictures else ""
    encoded = f"{plural(report.passages, 'passage')}{pictures} encoded ({plural(report.tokens, 'token')})"
    out.print(f"{encoded} in {report.seconds:.1f} s; {plural(len(opened), 'passage')} in {path}", markup=False)
    if report.truncated:
        out.print(f"{plural(report.truncated, 'token')} at the ends of passages were beyond the model's limit")
    for reason in report.reasons():
        names = [f"{file['path']} ({file['detail']})" if file["detail"] else file["path"] for file in reason["files"]]
        more = f" and {reason['count'] - 5:,} more" if reason["count"] > 5 else ""
        head = "cannot be read" if reason["failed"] else "left out"
        listed = f": {', '.join(names[:5])}{more}" if reason["failed"] else ""
        if reason["reason"] == UNKNOWN_TYPE:
            kinds = [
                kind for kind, _ in Counter(one.detail for one in report.skipped.records(UNKNOWN_TYPE)).most_common()
            ]
            listed = f": {', '.join(kinds[:10])}" + (f" and {len(kinds) - 10} other types" if kinds[10:] else "")
        out.print(shown_name(f"{head}, {reason['count']:,} × {reason['reason']}{listed}"), markup=False)
    for kind in report.note_kinds():
        named = [f"{file['path']} ({file['detail']})" if file["detail"] else file["path"] for file in kind["files"][:5]]
        more = f" and {kind['count'] - len(named):,} more" if kind["count"] > len(named) else ""
        out.print(shown_name(f"note, {kind['count']:,} × {kind['note']}: {', '.join(named)}{more}"), markup=False)
