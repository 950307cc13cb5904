"""Plots show the figures of the tables, byte-identical each time, with any text in labels."""

import re

import pytest

from smart_retrieval.errors import MissingExtraError, ReportError
from smart_retrieval.evaluation.charts import save_figure, styles
from smart_retrieval.evaluation.report import plots
from smart_retrieval.evaluation.report.plots import draw_plots
from smart_retrieval.evaluation.report.report import build_report

pytest.importorskip("matplotlib")


@pytest.fixture
def report(results):
    results.write("a.json", results.beir("a_b $x$"))
    results.write("b.json", results.codecs("a_b $x$", codecs={"int8": 0.49}))
    return build_report([results.folder])


def test_files(report, tmp_path):
    files = draw_plots(report, tmp_path / "new")
    names = [f"{name}.{kind}" for name in ("quality_bytes", "quality_time", "gains") for kind in ("svg", "png")]
    assert [file.name for file in files] == names
    assert (tmp_path / "new/gains.png").read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "new/gains.svg").read_text()
    assert svg.count("<svg") == 1
    assert "script" not in svg
    assert not re.search(r"""(href|src)=["'](?!#)""", svg)
    table = next(table for table in report.tables if table.name == "gains")
    looks = styles(report.retrieval.rows)
    again = save_figure(plots.gains_with_intervals(table, looks), tmp_path / "again/gains.svg")
    assert again.read_bytes() == files[-2].read_bytes()


def test_every_point_is_drawn(report):
    figure = plots.quality_against(report.retrieval, "ndcg@10", "bytes_per_document", "bytes")
    (axes,) = figure.axes
    drawn = {(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.get_lines()}
    assert drawn == {(10, 0.4), (200, 0.45), (210, 0.5), (21, 0.49)}
    assert axes.get_xscale() == "log"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["anchor", "late (default)", "hybrid (default)", "hybrid, int8 (default)"]
    # Told apart without colour.
    assert len({line.get_marker() for line in axes.get_lines()}) == 4


def test_intervals_and_tests_are_drawn(report):
    table = next(table for table in report.tables if table.name == "gains")
    figure = plots.gains_with_intervals(table)
    (axes,) = figure.axes
    spans = {tuple(line.get_xdata()) for line in axes.get_lines() if len(line.get_xdata()) == 2} - {(0, 0)}
    tested = [cell for _, cells in table.rows for cell in cells if cell.more["ci_low"] is not None]
    assert spans == {(cell.more["ci_low"], cell.more["ci_high"]) for cell in tested}
    points = {line.get_xdata()[0]: line for line in axes.get_lines() if len(line.get_xdata()) == 1}
    for cell in (cell for _, cells in table.rows for cell in cells):
        filled = points[cell.value].get_markerfacecolor() != "white"
        assert filled == (cell.more["p_value"] is not None and cell.more["p_value"] < 0.05)
        assert (points[cell.value].get_marker() == "x") == (cell.more["p_value"] is None)


def test_errors_of_draw_plots(results, tmp_path, monkeypatch):
    bare = results.compare(systems={"anchor": 0.4})
    report = build_report([results.write("a.json", bare)])
    with pytest.raises(ReportError, match="nothing to draw"):
        draw_plots(report, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="cannot write"):
        draw_plots(build_report([results.write("a.json", results.beir())]), tmp_path / "file/x")
    import smart_retrieval.extras as extras

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"smart-retrieval\[plot\]"):
        draw_plots(report, tmp_path)
