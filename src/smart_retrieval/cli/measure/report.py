"""``smart report``: result files as tables and plots, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULTS…", help="Result files of smart eval, or folders of them.")
    ],
    against: Annotated[
        str | None,
        typer.Option(
            metavar="published|smart-paper|FILE",
            help="Compare with published rows, those of SMART's paper, a table of figures, or results.",
        ),
    ] = None,
    form: Annotated[str, typer.Option("--format", metavar="md|latex|csv|json", help="Format of the report.")] = "md",
    metric: Annotated[str, typer.Option(help="Metric for retrieval; the tasks of MMEB-V2 have their own.")] = "ndcg@10",
    plots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also draw plots, as SVG and PNG (extra plot).")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write to a file instead of stdout.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Compare results: quality, gains with significance tests, cost, MMEB-V2 against published rows.

    Results on other data, with other prompts or of other metrics are kept in tables of their own, with a note.
    """
    from ...evaluation.report.report import FORMATS, build_report

    if form not in FORMATS:
        raise typer.BadParameter(f"format: found {form!r}, expected one of {', '.join(FORMATS)}")
    if plots is not None:
        from ...extras import require

        require("matplotlib", "plot")
    found = build_report(results, against=against, metric=metric)
    text = found.render("json" if as_json else form)
    if out is not None:
        from ...errors import ReportError
        from ...files import write_text

        write_text(text, out, ReportError)
    if plots is not None:
        from ...evaluation.report.plots import draw_plots

        files = draw_plots(found, plots)
        typer.echo(f"drew {len(files)} files in {plots}", err=True)
    if out is None:
        typer.echo(text, nl=False)
