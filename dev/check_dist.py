"""Build wheel and sdist into dist/, check them, and run the README's Python from the wheel in a clean environment.

python dev/check_dist.py            what `make dist` runs
python dev/check_dist.py --no-run   without the clean environment
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
PACKAGE = "smart_retrieval"
GENERATED = {"PKG-INFO", ".gitignore"}  # what hatchling adds to an sdist


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a command without this checkout on Python's path; stop with its output if it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["PIP_CONSTRAINT"] = str(ROOT / "constraints.txt")
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def tracked(*paths: str) -> set[str]:
    """Files in git, relative to the repository."""
    return set(run("git", "ls-files", "--", *paths).splitlines())


def same_files(name: str, found: set[str], expected: set[str]) -> None:
    """Stop if an archive holds other files than it should."""
    if found != expected:
        sys.exit(f"{name}: missing {sorted(expected - found)}, not expected {sorted(found - expected)}")
    print(f"{name}: {len(found)} files, as in git")


def check_wheel(wheel: Path) -> None:
    """The package's files in git and no others, and metadata that PyPI shows correctly."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = {name for name in names if re.fullmatch(rf"{PACKAGE}-[^/]+\.dist-info/.+", name)}
        metadata = message_from_bytes(archive.read(next(name for name in info if name.endswith("/METADATA"))))
    package = {name.removeprefix("src/") for name in tracked(f"src/{PACKAGE}")}
    same_files(wheel.name, names - info, package)
    for needed in (f"{PACKAGE}/py.typed", f"{PACKAGE}/demo/questions.jsonl"):
        assert needed in package, f"{needed} is not in git"
    for field in ("Summary", "License-Expression", "Requires-Python", "Project-URL", "Keywords"):
        assert metadata[field], f"metadata: {field} is missing"
    assert metadata["Description-Content-Type"] == "text/markdown"
    links = re.findall(r"\]\(([^)]+)\)", str(metadata.get_payload()))
    relative = [link for link in links if not link.startswith("https://")]
    assert not relative, f"the README has links that do not work on PyPI: {relative}"


def check_sdist(sdist: Path) -> None:
    """What pyproject.toml includes, as it is in git."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames() if archive.getmember(name).isfile()}
    include = re.search(r"targets\.sdist\]\ninclude = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL)
    assert include is not None
    paths = [path.lstrip("/") for path in re.findall(r'"([^"]+)"', include[1])]
    same_files(sdist.name, names - GENERATED, tracked("pyproject.toml", *paths))


def check_clean_run(wheel: Path) -> None:
    """Install the wheel with the extra of the README into a new environment, and run the README's Python there."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", readme, re.DOTALL))
    expected = [line[2:] for line in code.splitlines() if line.startswith("# ")]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        venv.create(folder / "venv", with_pip=True)
        programs = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
        python = programs / "python"
        run(python, "-m", "pip", "install", "-q", "torch", cwd=folder)  # alone: the CPU build, see the Makefile
        run(python, "-m", "pip", "install", "-q", f"{wheel}[demo]", cwd=folder)
        home = run(python, "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)", cwd=folder).strip()
        assert Path(home).is_relative_to(folder), f"{home} is not the installed package"
        print(run(programs / "smart", "--version", cwd=folder).strip(), "in a clean environment")
        (folder / "readme.py").write_text(code, encoding="utf-8")
        printed = run(python, folder / "readme.py", cwd=folder).splitlines()
    assert printed == expected, f"the README's Python printed {printed}, expected {expected}"
    print("the README's Python prints what it shows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-run", action="store_true", help="skip the clean environment")
    arguments = parser.parse_args()
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", DIST)
    (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    check_wheel(wheel)
    check_sdist(sdist)
    if not arguments.no_run:
        check_clean_run(wheel)
    print(f"{wheel.name} and {sdist.name} are in dist/")


if __name__ == "__main__":
    main()
