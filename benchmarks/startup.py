"""How long `import smart_retrieval`, `smart --help` and a cold `smart search` take, in turn.

The search is of an index of this repository's guides: as before models were exported, from an exported model with torch
alone, and from one with ONNX Runtime (extra `fast-cpu`).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lib.record import ROOT, record

ROUNDS = 15
SEARCH_ROUNDS = 5
SMART = str(Path(sys.executable).parent / "smart")
COMMANDS = {
    "interpreter": [sys.executable, "-c", "pass"],
    "import smart_retrieval": [sys.executable, "-c", "import smart_retrieval"],
    "smart --help": [SMART, "--help"],
}
# `smart` as where the extra is not installed.
WITHOUT = "import sys; sys.modules['onnx'] = None; from smart_retrieval.cli.main import main; main()"


def main() -> None:
    medians, runs = timed(COMMANDS, ROUNDS, dict(os.environ))
    pairs = zip(runs["import smart_retrieval"], runs["interpreter"], strict=True)
    beyond = statistics.median(imported - bare for imported, bare in pairs)
    print(f"import smart_retrieval: {beyond:.0f} ms beyond the interpreter")
    print(f"smart --help: {medians['smart --help']:.0f} ms")
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "SMART_CACHE": f"{folder}/cache"}
        index = f"{folder}/index"
        query = ["search", index, "how do I rotate the logs", "-k", "3"]
        subprocess.run([SMART, "index", str(ROOT / "docs" / "guides"), "--index", index], check=True, env=environment)
        searches = {
            "search, exported, ONNX Runtime": [SMART, *query],
            "search, exported, torch": [sys.executable, "-c", WITHOUT, *query],
            "search, whole model": ["env", "SMART_LIGHT=off", SMART, *query],
        }
        timed(searches, 1, environment)  # what is exported first; and files into the page cache
        of_search, search_runs = timed(searches, SEARCH_ROUNDS, environment)
    whole = of_search["search, whole model"]
    for name, median in of_search.items():
        print(f"{name}: {median:.0f} ms, {median / whole:.2f} of the whole model's")
    record(
        "startup",
        {
            "import_beyond_interpreter_ms": beyond,
            "load_average": os.getloadavg(),
            "medians_ms": medians | of_search,
            "runs_ms": runs | search_runs,
        },
    )


def timed(
    commands: dict[str, list[str]], rounds: int, environment: dict[str, str]
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Medians and all times in milliseconds, of commands run in turn."""
    runs: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
            runs[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(times) for name, times in runs.items()}, runs


if __name__ == "__main__":
    main()
