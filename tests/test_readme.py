"""Everything the README shows is run: its Python, its commands, its figures."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_prints_what_it_says(minilm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(blocks("python")) == 2
    for code in blocks("python"):
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
    data = tmp_path / "my-data"
    (data / "qrels").mkdir(parents=True)
    facts = {
        "Otters sleep afloat.": "sea animals", "Tax is due in May.": "when to pay", "Oak burns slowly.": "fire wood",
        "Rain falls in autumn.": "wet season", "Bread needs yeast.": "baking", "Trams run at night.": "late transport",
    }  # fmt: skip
    rows = [{"_id": f"d{number}", "title": "", "text": text} for number, text in enumerate(facts)]
    (data / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [{"_id": f"q{number}", "text": text} for number, text in enumerate(facts.values())]
    (data / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    judged = "".join(f"q{number}\td{number}\t1\n" for number in range(len(facts)))
    (data / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    (tmp_path / "my-docs").mkdir()
    (tmp_path / "my-docs" / "ops.md").write_text("# Logs\n\nLog files are rotated every night.\n")
    commands = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]
    assert len(commands) >= 4
    for command in commands:
        program, *arguments = shlex.split(command, comments=True)
        assert program == "smart"
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, (command, result.output)
        assert result.stdout.strip()


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"`?make ([a-z]+)`?", README)) - {"it"}
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_table_holds_the_committed_figures():
    result = json.loads((ROOT / "benchmarks" / "results" / "quality.json").read_text(encoding="utf-8"))
    measured = {
        (entry["dataset"]["name"], entry["preset"]): {row["name"]: row["ndcg@10"] for row in entry["rows"]}
        for entry in result["results"]
    }
    rows = re.findall(r"^\| (\w+) \(.*?\) \| \.(\d+) \| \.(\d+) .*? \| \*\*\.(\d+)\*\*", README, re.MULTILINE)
    assert {name for name, *_ in rows} == {name for name, _ in measured}
    for name, anchor, paper, default in rows:
        figures = (
            measured[name, "default"]["anchor"],
            measured[name, "paper"]["hybrid"],
            measured[name, "default"]["hybrid"],
        )
        assert tuple(f"{figure:.4f}"[2:] for figure in figures) == (anchor, paper, default), name


@pytest.mark.parametrize("figure", ["encode_overhead", "encode_memory", "startup", "quality"])
def test_every_result_says_where_it_comes_from(figure):
    result = json.loads((ROOT / "benchmarks" / "results" / f"{figure}.json").read_text(encoding="utf-8"))
    assert result["commit"]
    assert result["machine"]["cores"]
    assert result["command"].startswith("python benchmarks/")


def test_links_lead_somewhere():
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for link in re.findall(r"\]\(((?!https?:)[^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), (page.name, link)
