"""Kill -9 in the middle of writing, and many processes at once: is anything lost?

    python benchmarks/durability.py [--rounds 50] [--seconds 60]

Writes results/durability.json. The work itself is in tests/fixtures/stores.py, where the test suite does less of it.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

from lib.record import record

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def main() -> None:
    from fixtures import stores  # type: ignore[import-not-found]

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--folder", type=Path, help="a folder on the disk to test; a temporary one when left out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="smart-durability-", dir=arguments.folder) as name:
        folder = Path(name)
        start = time.perf_counter()
        killed = stores.kill_rounds(folder, arguments.rounds)
        killed["wall_s"] = round(time.perf_counter() - start, 1)
        print("kill -9:", killed)
        shared = stores.writers_and_readers(folder, arguments.seconds)
        print("at once:", shared)
    record("durability", {"sqlite": sqlite3.sqlite_version, "kill_9": killed, "writers_and_readers": shared})


if __name__ == "__main__":
    main()
