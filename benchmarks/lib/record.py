"""What every result file of a benchmark carries: the figures, and the commit, machine and command they came from."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from smart_retrieval.evaluation.provenance import run_facts, versions

RESULTS = Path(__file__).parent / "results"


def record(name: str, figures: dict[str, Any]) -> Path:
    """Write ``results/<name>.json`` and say so on stderr."""
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{name}.json"
    text = json.dumps({**run_facts(), "versions": versions(), **figures}, indent=1, ensure_ascii=False)
    target.write_text(text + "\n", encoding="utf-8")
    print(f"wrote {target.relative_to(Path.cwd()) if target.is_relative_to(Path.cwd()) else target}", file=sys.stderr)
    return target
