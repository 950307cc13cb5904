"""Result files: the figures of a benchmark, and the commit, machine, versions and command they came from."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from smart_retrieval.evaluation.provenance import run_facts, versions

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def record(name: str, figures: dict[str, Any]) -> Path:
    """Write ``benchmarks/results/<name>.json`` and print where it is on stderr."""
    facts = run_facts()
    content = {**facts, "command": portable(facts["command"]), "versions": versions(), **figures}
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{name}.json"
    target.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {target.relative_to(ROOT)}", file=sys.stderr)
    return target


def portable(command: str) -> str:
    """The command without paths of this machine: relative to the repository, or ``DATA/<last part>`` outside it."""
    return shlex.join(_portable_argument(argument) for argument in shlex.split(command))


def _portable_argument(argument: str) -> str:
    name, equals, value = argument.rpartition("=") if argument.startswith("--") else ("", "", argument)
    outside = value.startswith(("/", "~/", "../"))
    if not outside:
        return argument
    path = Path(value).expanduser().resolve()
    short = path.relative_to(ROOT) if path.is_relative_to(ROOT) else Path("DATA", path.name)
    return f"{name}{equals}{short}"
