"""The documentation is run and compared: tutorial, snippets of the guides, imports, commands, links, references."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import io
import itertools
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures.pages_of_docs import beir_folder, blocks
from typer.testing import CliRunner

import smart_retrieval

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)]
PUBLIC = (
    *("", ".cluster", ".documents", ".pictures", ".server", ".stores", ".training", ".errors"),
    *(".evaluation", ".evaluation.probe", ".evaluation.tune"),
)

# Modules that import a framework: the snippets that use them are run beside the tests of each.
INTEGRATIONS = "smart_retrieval.integrations."
pages = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def close(printed: str, shown: str) -> bool:
    """The same words; numbers up to rounding on another machine, seconds of any length."""
    number = re.compile(r"\d+\.\d+(?! s\b)")
    plain = [re.sub(r"\d+\.\d+ s\b", "T", re.sub(r"█+", "█", number.sub("N", text))) for text in (printed, shown)]
    lines = [[line.rstrip() for line in text.strip().splitlines()] for text in plain]
    # Columns are as wide as what they hold.
    words = [[" ".join(line.split()) for line in side] for side in lines]
    pairs = zip(number.findall(printed), number.findall(shown), strict=False)
    return words[0] == words[1] and all(abs(float(a) - float(b)) <= 0.011 for a, b in pairs)


def run_python(code: str, page: str) -> list[str]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, page, "exec"), {"__name__": "__main__"})
    return printed.getvalue().splitlines()


def test_the_tutorial_runs_and_prints_what_it_shows(minilm, tmp_path, monkeypatch):
    from smart_retrieval.cli.main import app

    monkeypatch.chdir(tmp_path)
    text = read(DOCS / "start.md")
    files = re.findall(r"```\{code-block\} markdown\n:caption: (\S+)\n\n(.*?)```", text, re.DOTALL)
    assert len(files) == 4
    for name, content in files:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
    ran = 0
    for kind, code in re.findall(r"```(console|python)\n(.*?)```", text, re.DOTALL):
        if kind == "python":
            expected = [line.strip()[2:] for line in code.splitlines() if re.match(r" *# ", line)]
            assert run_python(code, "docs/start.md") == expected
        else:
            command, _, shown = code.removeprefix("$ ").partition("\n")
            outcome = CliRunner().invoke(app, shlex.split(command)[1:])
            assert outcome.exit_code == 0, (command, outcome.output)
            assert close(outcome.stdout, shown), (command, outcome.output)  # notes depend on the machine
        ran += 1
    assert ran >= 8
    assert "tests" in (tmp_path / "why.html").read_text(encoding="utf-8")


@pages
def test_imports_are_public_and_resolve(page):
    for code in blocks(read(page), "python"):
        for node in ast.walk(ast.parse(code)):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("smart_retrieval"):
                continue
            if node.module.startswith(INTEGRATIONS):
                source = read(ROOT / "src" / f"{node.module.replace('.', '/')}.py")
                assert {name.name for name in node.names} <= set(re.findall(r"^class (\w+)", source, re.MULTILINE))
                continue
            assert node.module.removeprefix("smart_retrieval") in PUBLIC, f"{node.module} is not public"
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name), f"{node.module} has no {name.name}"


@pages
def test_commands_are_valid(page):
    for arguments in commands_of(read(page)):
        check_command(arguments)


def commands_of(text: str) -> Iterator[list[str]]:
    """Arguments of every ``smart`` command in the code blocks of a page."""
    for code in blocks(text, "bash", "console"):
        lines = re.sub(r"\\\n *", " ", code).splitlines()
        for line in lines:
            found = re.match(r"(?:\$ )?(?:(?:torchrun|accelerate launch) .*-m smart_retrieval|smart) (.*)", line)
            if found:
                yield shlex.split(found[1], comments=True)


def check_command(arguments: list[str]) -> None:
    """Every option exists on that command, without running it."""
    import typer

    from smart_retrieval.cli.main import app

    command: Any = typer.main.get_command(app)
    context = command.context_class(command, info_name="smart")
    rest = list(arguments)
    while hasattr(command, "commands"):
        name = rest.pop(0)
        assert name in command.commands, f"smart {' '.join(arguments)}: no command {name}"
        command = command.commands[name]
        context = command.context_class(command, info_name=name, parent=context)
    command.make_parser(context).parse_args(args=rest)


GUIDES = {
    "search_documents": 2,
    "does_it_help": 1,
    "tune": 2,
    "compare_results": 1,
    "train": 1,
}


@pytest.mark.parametrize("guide", GUIDES)
def test_snippets_of_guides_run(guide, minilm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMART_CACHE", str(tmp_path / "cache"))
    for name in ("cranfield", "cacm", "data/cranfield"):
        beir_folder(tmp_path / name)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "logs.md").write_text("# Logs\n\nLog files are rotated every night.\n")
    rows = [f'{{"query": "what is in box {n}", "positive": "Box {n} holds {n} apples."}}\n' for n in range(24)]
    (tmp_path / "pairs.jsonl").write_text("".join(rows))
    snippets = blocks(read(DOCS / "guides" / f"{guide}.md"), "python")
    assert len(snippets) == GUIDES[guide]
    for code in snippets:
        expected = [line.strip()[2:] for line in code.splitlines() if re.match(r" *# ", line)]
        printed = run_python(code, guide)
        assert printed
        if expected:
            assert printed == expected


def test_the_snippet_of_pictures_runs_with_the_packaged_model(tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("pypdfium2")
    from fixtures.drawn_pdf import Drawn, drawn_pdf

    monkeypatch.chdir(tmp_path)
    for name in ("report-page-3.png", "a.png", "b.png", "photo.png", "chart.png"):
        image.new("RGB", (64, 48), "white").save(tmp_path / name)
    (tmp_path / "report.pdf").write_bytes(drawn_pdf([Drawn()] * 3))
    (code,) = blocks(read(DOCS / "guides" / "search_pictures.md"), "python")
    assert "Qwen/Qwen3-VL-Embedding-2B" in code
    assert run_python(code.replace("Qwen/Qwen3-VL-Embedding-2B", "glyph"), "search_pictures.md") == ["image"]


def test_the_command_reference_is_up_to_date():
    spec = importlib.util.spec_from_file_location("cli_reference", ROOT / "dev" / "cli_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.reference() == read(DOCS / "cli.md"), "run: python dev/cli_reference.py > docs/cli.md"


def test_every_public_name_is_in_the_api_reference_and_nothing_else():
    text = "".join(read(path) for path in sorted((DOCS / "api").glob("*.md")))
    documented = set(re.findall(r"\.\. auto(?:class|function):: (smart_retrieval\S+)", text))
    names = {f"smart_retrieval.{name}" for name in smart_retrieval.__all__}
    # The base of all errors is on the page of errors; the version is a string.
    assert documented == names - {"smart_retrieval.SmartError", "smart_retrieval.__version__"}
    for suffix in PUBLIC[1:]:
        assert f".. automodule:: smart_retrieval{suffix}\n   :members:" in text
        module = importlib.import_module(f"smart_retrieval{suffix}")
        for name in module.__all__ if suffix != ".errors" else ():
            value = getattr(module, name)
            assert not callable(value) or value.__doc__, f"smart_retrieval{suffix}.{name} has no docstring to show"


@pages
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(((?!https?:)[^)#]+)", read(page)):
        assert (page.parent / link).exists(), link


@pages
def test_paths_in_code_exist(page):
    for path in re.findall(r"`((?:benchmarks|docs|dev|examples|src|tests)/[\w./-]+)`", read(page)):
        assert (ROOT / path).exists() or path in {"docs/_build/html"}, path


def test_the_tree_of_the_architecture_page_is_the_tree():
    tree = re.search(r"```\nsrc/smart_retrieval/\n(.*?)\n```", read(DOCS / "architecture.md"), re.DOTALL)
    assert tree is not None
    package, parents, shown = Path(smart_retrieval.__file__).parent, [Path()], set()
    for line in tree[1].splitlines():
        indent = len(line) - len(line.lstrip())
        name = line.split()[0]
        if indent == 0:
            assert (ROOT / name).is_dir(), name
            continue
        path = parents[indent // 2 - 1] / name
        assert (package / path).exists(), path
        shown.add(path)
        parents[indent // 2 :] = [path]
    folders = {path.parent.relative_to(package) for path in package.rglob("__init__.py")} - {Path()}
    assert folders <= shown


def test_the_layers_of_the_architecture_page_are_those_of_the_contract():
    import tomllib

    contracts = tomllib.loads(read(ROOT / "pyproject.toml"))["tool"]["importlinter"]["contracts"]
    layers = [re.findall(r"\w+", layer) for layer in contracts[0]["layers"]]
    order = {name: number for number, names in enumerate(layers) for name in names}
    table = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", read(DOCS / "architecture.md"), re.MULTILINE)
    rows = [re.findall(r"`(\w+)`", cell) for cell in table]
    assert set().union(*rows) == set(order) - {"__main__", "_lazy", "_version"}
    bounds = [(min(order[name] for name in row), max(order[name] for name in row)) for row in rows]
    assert all(above[1] < below[0] for above, below in itertools.pairwise(bounds)), bounds


def test_tables_of_how_it_works_hold_the_committed_figures():
    import json

    text = read(DOCS / "how_it_works.md")
    readme = re.findall(r"^\| (?:cranfield|cacm|npl|stdlib) \(.*$", read(ROOT / "README.md"), re.MULTILINE)
    here = re.findall(r"^\| (?:cranfield|cacm|npl|stdlib) \(.*$", text, re.MULTILINE)
    assert [re.findall(r"\.\d{4}|\+[\d.]+ %", row) for row in here] == [
        re.findall(r"\.\d{4}|\+[\d.]+ %", row) for row in readme
    ]
    results = json.loads(read(ROOT / "benchmarks" / "results" / "index_quality.json"))["comparisons"]
    order = ["anchor", "BM25", "anchor + BM25 (RRF)", "anchor + BM25 (min-max)", "SMART", "SMART + BM25"]
    for name, comparison in zip(("cranfield", "cacm", "npl", "stdlib"), results, strict=True):
        values = {row["name"]: row["ndcg@10"] for row in comparison["systems"]}
        row = re.search(rf"^\| {name} \| .*$", text, re.MULTILINE)
        assert row is not None
        assert re.findall(r"\.(\d{4})", row[0]) == [f"{values[system]:.4f}"[2:] for system in order], name


def test_the_guide_shows_the_measured_gains_of_options(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    table = importlib.import_module("search_options").table
    measured = json.loads(read(ROOT / "benchmarks" / "results" / "search_options.json"))
    expected = "\n".join(table(measured["collections"]))
    assert expected in read(DOCS / "guides" / "search_documents.md"), expected
