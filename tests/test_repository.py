"""What is committed beside the package: no path of a machine, one version, every benchmark with its claim."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

import smart_retrieval

ROOT = Path(__file__).parent.parent
FOLDERS = ("benchmarks", "dev", "docs", "examples", "src")
FILES = (
    "README.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "Makefile",
    "constraints.txt",
    "pyproject.toml",
)


def text_files() -> list[Path]:
    found = [ROOT / name for name in FILES]
    for folder in FOLDERS:
        found += [
            path
            for path in (ROOT / folder).rglob("*")
            if path.suffix in {".py", ".md", ".json", ".csv", ".toml", ".svg"}
        ]
    return [path for path in found if not {"_build", "__pycache__"} & set(path.parts)]


def test_no_file_holds_an_absolute_path_of_a_machine():
    pattern = re.compile(r"(?<![\w.~:/])/(?:work|root|tmp|home/\w+|Users/\w+|mnt|private|var/folders)/[\w.-]+")
    found = [
        (str(path.relative_to(ROOT)), hit)
        for path in text_files()
        for hit in pattern.findall(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_pages_and_benchmarks_named_in_the_sources_exist():
    for path in text_files():
        if path.suffix == ".py" and path != ROOT / "src" / "smart_retrieval" / "documents" / "walk.py":
            for name in re.findall(
                r"\b((?:docs|dev)/[\w/]+\.md|benchmarks/\w[\w/]*(?:\.\w+)?)", path.read_text(encoding="utf-8")
            ):
                assert (ROOT / name).exists(), (path.relative_to(ROOT), name)


def test_the_version_is_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == smart_retrieval.__version__


def test_every_benchmark_and_result_is_in_the_readme_of_the_benchmarks():
    folder = ROOT / "benchmarks"
    text = (folder / "README.md").read_text(encoding="utf-8")
    links = {link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("https:")}
    for link in links:
        assert (folder / link).exists(), link
    assert {path.name for path in folder.glob("*.py")} <= links
    for path in (folder / "results").iterdir():
        assert f"results/{path.name}" in text, path.name
    for path in re.findall(r"`((?:docs|dev)/[\w./]+)`", text):
        assert (ROOT / path).exists(), path


def test_commands_of_results_are_recorded_without_paths_of_the_machine(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from lib.record import portable

    command = f"python benchmarks/quality.py /elsewhere/data/cacm {ROOT}/docs --keep=/elsewhere/index 'two words'"
    assert portable(command) == "python benchmarks/quality.py DATA/cacm docs --keep=DATA/index 'two words'"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_nothing_that_is_built_is_committed():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    assert [name for name in files if re.search(r"(^|/)(_build|dist|build|__pycache__|\.venv)(/|$)|\.pyc$", name)] == []


SOURCES = sorted((ROOT / "src" / "smart_retrieval").rglob("*.py"))


def test_folders_and_files_keep_their_size():
    folders = {path.parent for path in SOURCES}
    assert {str(folder): count for folder in folders if (count := len(list(folder.glob("*.py")))) > 15} == {}
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {str(path): count for path, count in lines.items() if count > 600} == {}


@pytest.mark.parametrize("folder", ["src", "benchmarks", "examples"])
def test_no_private_name_of_another_module_is_imported(folder):
    private = [
        f"{path.relative_to(ROOT)}: {name.name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("smart_retrieval"))
        for name in node.names
        if re.match("_[^_]", name.name)
    ]
    assert private == []


def test_names_of_test_files_are_unique():
    """Two files of one name in folders without ``__init__.py`` cannot be collected together."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []
