"""``smart verify``: is every byte still the one that was written?"""

from __future__ import annotations

from dataclasses import asdict

import typer

from .options import AsJson, IndexPath

_LISTED = 50


def verify(
    index_path: IndexPath,
    as_json: AsJson = False,
) -> None:
    """Recompute every checksum of INDEX. Exit status 1, and a list, if anything is damaged."""
    from ..index.smart_index import SmartIndex

    with SmartIndex.open(index_path) as index:
        report = index.verify()
    if as_json:
        from .output import echo_json

        echo_json({"index": str(index_path), "ok": report.ok, **asdict(report)})
    else:
        from .output import plural, printable

        for damage in report.damaged[:_LISTED]:
            typer.echo(printable(f"damaged: {damage.id} ({damage.part}, row {damage.rowid})"))
        if len(report.damaged) > _LISTED:
            typer.echo(f"and {len(report.damaged) - _LISTED:,} more (--json lists them)")
        for problem in report.problems:
            typer.echo(printable(f"problem: {problem}"))
        for note in report.notes:
            typer.echo(printable(f"note: {note}"))
        found = "sound" if report.ok else "damaged: restore a copy, or delete what is listed and index again"
        typer.echo(f"{plural(report.documents, 'passage')} checked: {found}")
    if not report.ok:
        raise typer.Exit(1)
