"""How long `import smart_retrieval` and `smart --help` take, beside the bare interpreter, in turn."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from lib.record import record

ROUNDS = 15
COMMANDS = {
    "interpreter": [sys.executable, "-c", "pass"],
    "import smart_retrieval": [sys.executable, "-c", "import smart_retrieval"],
    "smart --help": [str(Path(sys.executable).parent / "smart"), "--help"],
}


def main() -> None:
    runs: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            runs[name].append(1000 * (time.perf_counter() - start))
    medians = {name: statistics.median(times) for name, times in runs.items()}
    pairs = zip(runs["import smart_retrieval"], runs["interpreter"], strict=True)
    beyond = statistics.median(imported - bare for imported, bare in pairs)
    print(f"import smart_retrieval: {beyond:.0f} ms beyond the interpreter")
    print(f"smart --help: {medians['smart --help']:.0f} ms")
    record("startup", {"import_beyond_interpreter_ms": beyond, "medians_ms": medians, "runs_ms": runs})


if __name__ == "__main__":
    main()
