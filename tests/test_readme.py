"""Everything the README shows is run or compared: its Python, its commands, its figures, its links."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from fixtures.pages_of_docs import beir_folder, blocks
from typer.testing import CliRunner

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "benchmarks" / "results"


def result(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def shown(figure: float, digits: int) -> str:
    return f"{figure:.{digits}f}".removeprefix("0")


def test_the_python_prints_what_it_shows(minilm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(blocks(README, "python")) == 1
    for code in blocks(README, "python"):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), {})
        expected = [line[2:] for line in code.splitlines() if line.startswith("# ")]
        assert expected, "the block shows its output in comments"
        assert printed.getvalue().splitlines() == expected


def test_the_commands_run(minilm, tmp_path, monkeypatch):
    from smart_retrieval.cli.main import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMART_CACHE", str(tmp_path / "cache"))
    beir_folder(tmp_path / "my-data")
    (tmp_path / "my-docs").mkdir()
    (tmp_path / "my-docs" / "ops.md").write_text("# Logs\n\nLog files are rotated every night.\n")
    commands = [line[2:] for block in blocks(README, "console") for line in block.splitlines() if line.startswith("$ ")]
    # Those that the text names run too, the visual demo on its own page and the inspection of the packaged model.
    commands += ["smart inspect minilm", "smart demo --visual"]
    assert len(commands) >= 8
    for command in commands:
        program, *arguments = shlex.split(command, comments=True)
        assert program == "smart"
        outcome = CliRunner().invoke(app, arguments)
        assert outcome.exit_code == 0, (command, outcome.output)
        assert outcome.stdout.strip()


def test_commands_named_in_the_text_exist():
    from smart_retrieval.cli.main import app

    for command in re.findall(r"`smart ([a-z -]+?)(?: [A-Z]+)?`", README):
        words = [word for word in command.split() if not word.startswith("-")]
        outcome = CliRunner().invoke(app, [*words, "--help"])
        assert outcome.exit_code == 0, command


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^make ([a-z]+)$|`make ([a-z]+)`", README, re.MULTILINE))
    named = {name for pair in targets for name in pair if name}
    assert {"demo", "test", "docs"} <= named
    for target in named:
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), target


def test_the_table_holds_the_committed_figures():
    selection = result("default_selection")
    chosen = f"{selection['quantile']} {selection['chosen']}"
    measured = {
        name.removeprefix("minilm/"): [pair["anchor"], pair["paper"], pair["grid"][chosen]]
        for name, pair in selection["pairs"].items()
        if name.startswith("minilm/")
    }
    cell = r"(\*{0,2})\.(\d+)\*{0,2} \(\+([\d.]+) %\)"
    rows = re.findall(rf"^\| (\w+) \(.*?\) \| \.(\d+) \| {cell} \| {cell}", README, re.MULTILINE)
    assert {row[0] for row in rows} == set(measured)
    for name, anchor, paper_bold, paper, paper_gain, default_bold, default, default_gain in rows:
        figures = [found["ndcg@10"] for found in measured[name]]
        assert [shown(figure, 4)[1:] for figure in figures] == [anchor, paper, default], name
        assert [paper_gain, default_gain] == [f"{100 * (f / figures[0] - 1):.1f}" for f in figures[1:]], name
        assert bool(default_bold) == (figures[2] > figures[1]), "bold is the better one"
        assert bool(paper_bold) == (figures[1] > figures[2])
    own = [fold["both"]["gain"] for name, fold in selection["out_of_fold"].items() if name.startswith("minilm/")]
    assert f"out of fold its mean gain is +{100 * sum(own) / len(own):.1f} % on texts" in README


def test_the_row_of_pages_holds_the_committed_figures():
    glyph = result("glyph_default")["models"]["glyph"]
    row = re.search(r"^\| pictures of pages .*$", README, re.MULTILINE)
    assert row is not None
    assert result("glyph_default")["pages"] == 1000
    assert re.findall(r"\.(\d{3})\b", row[0]) == [
        shown(glyph["ndcg@10"][name], 3)[1:] for name in ("anchor", "paper", "default")
    ]
    gains = [glyph["over_anchor"][name]["relative"] for name in ("paper", "default")]
    assert re.findall(r"\+([\d.]+) %", row[0]) == [f"{100 * gain:.1f}" for gain in gains]


def test_other_figures_are_the_committed_ones():
    rows = {(row["system"], row["candidates"]): row for row in result("search_latency")["rows"]}
    ours, edge = rows["SmartIndex anchored+3vq+norm", 200], rows["Qdrant Edge float32", 200]
    assert f"takes {ours['p50_ms']:.1f} ms (p50, 200 candidates" in README
    assert f"embedded Qdrant {edge['p50_ms']:.1f} ms" in README
    fused = [
        next(row["ndcg@10"] for row in one["systems"] if row["name"] == "anchor + BM25 (min-max)")
        for one in result("index_quality")["comparisons"]
    ]
    assert f"{', '.join(shown(value, 4) for value in fused)} on the four collections" in README
    ratios = result("encode_overhead")["ratios"]
    low, high = sorted((ratios["paper"], ratios["default"]))
    assert f"{low:.2f} to {high:.2f} ×" in README
    exact = next(row for row in result("million")["use"]["first_stage"] if row["candidates"] == 400)["exact"]
    assert f"takes {exact['p50_ms'] / 1000:.1f} s or more" in README


@pytest.mark.parametrize("figure", sorted(path.stem for path in RESULTS.glob("*.json")))
def test_every_result_says_where_it_comes_from(figure):
    facts = result(figure)
    assert facts["commit"]
    assert facts["machine"]["cores"]
    assert facts["command"].startswith(("python benchmarks/", "python dev/"))
    script = ROOT / facts["command"].split()[1]
    assert script.exists()


def test_it_is_short_and_its_links_work_on_pypi():
    assert len(README.splitlines()) < 120
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert links
    assert [link for link in links if not link.startswith("https://")] == []
    assert "https://arxiv.org/abs/2605.24938" in links
    assert "https://github.com/HanSolo9682/SMART" in links
    assert "![" not in README, "a picture needs an absolute address too"


def test_paths_it_names_exist():
    for path in re.findall(r"`((?:benchmarks|docs|dev)/[\w./]+|[A-Z]+\.md)`", README):
        assert (ROOT / path).exists(), path
    tree = re.search(r"```\n(src/smart_retrieval/.*?)```", README, re.DOTALL)
    assert tree is not None
    for folder in re.findall(r"([a-z_/]+)/(?=[ ,\n])", tree[1]):
        assert (ROOT / folder).is_dir() or (ROOT / "src" / "smart_retrieval" / folder).is_dir(), folder
