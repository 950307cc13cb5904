"""``smart verify``: check an index for damage."""

from __future__ import annotations

from dataclasses import asdict

import typer

from .options import AsJson, IndexPath
from .output import echo_json, plural, printable

_LISTED = 50


def verify(index_path: IndexPath, as_json: AsJson = False) -> None:
    """Recompute every checksum of INDEX; if anything is damaged, list it and exit with status 1."""
    from ..errors import IndexFullError, IndexReadOnlyError
    from ..index.smart_index import SmartIndex

    try:
        index = SmartIndex.open(index_path)
    except (IndexReadOnlyError, IndexFullError):
        index = SmartIndex.open(index_path, mode="r")
    with index:
        report = index.verify()
    if as_json:
        echo_json({"index": str(index_path), "ok": report.ok, **asdict(report)})
    else:
        lines = [f"damaged: {damage.id} ({damage.part}, row {damage.rowid})" for damage in report.damaged[:_LISTED]]
        if len(report.damaged) > _LISTED:
            lines.append(f"and {len(report.damaged) - _LISTED:,} more (--json lists them)")
        lines += [f"problem: {problem}" for problem in report.problems]
        lines += [f"note: {note}" for note in report.notes]
        found = "sound" if report.ok else "damaged: restore a copy, or delete what is listed and index again"
        for line in [*lines, f"{plural(report.documents, 'passage')} checked: {found}"]:
            typer.echo(printable(line))
    if not report.ok:
        raise typer.Exit(1)
