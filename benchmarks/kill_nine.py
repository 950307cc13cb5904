"""Kill -9 of ``smart index`` at random moments, with a real model: is anything lost, or there twice?

    python benchmarks/kill_nine.py [--kills 50] [--files 400] [--seed 0] [--model minilm]

Each run indexes a folder of which some files are new, changed or gone since the last one, and is killed. After every
kill the index is verified, and whatever a run before had stored of a file that has not changed since must be there.
In the end one run is left alone, and the index compared with one that was made without a kill. Writes
results/kill_nine.json.
"""

from __future__ import annotations

import argparse
import math
import random
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from lib.record import record

from smart_retrieval.index.smart_index import SmartIndex

WORDS = "otter river tax moon bread log rotate server night oak pump valve turn clock winter index key ship"
KILLED = ("killed_before_it_stored_anything", "killed_after_it_stored_something")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="minilm")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="smart-kill-nine-") as name:
        folder = Path(name)
        docs, index = folder / "docs", folder / "killed.smart"
        docs.mkdir()
        change(docs, arguments.files, chance, 1.0)
        whole = run(docs, folder / "whole.smart", arguments.model)
        counts = dict.fromkeys([*KILLED, "ended_before_the_kill"], 0)
        found = {"damaged": 0, "lost": 0, "twice": 0}
        before: dict[str, dict[str, str]] = {}
        while sum(counts[name] for name in KILLED) < arguments.kills:
            kept = {path: passages for path, passages in before.items() if unchanged(docs / path, passages)}
            seconds = run(docs, index, arguments.model, kill_after=chance.uniform(0.3, 1) * whole)
            whole, ended = min(whole, seconds), seconds < math.inf
            after = stored(index, found)
            counts["ended_before_the_kill"] += ended
            counts[KILLED[after != before]] += not ended
            found["lost"] += sum(after.get(path) != passages for path, passages in kept.items())
            before = after
            change(docs, arguments.files, chance, 0.5)
        run(docs, index, arguments.model)
        run(docs, folder / "fresh.smart", arguments.model)
        ends = [stored(path, found) for path in (index, folder / "fresh.smart")]
        differences = sum(ends[0].get(path) != ends[1].get(path) for path in {*ends[0], *ends[1]})
        result = {"kills": arguments.kills, "files": arguments.files, "seed": arguments.seed, "model": arguments.model}
        result |= {**counts, **found, "files_that_differ_in_the_end": differences, "seconds_of_the_shortest_run": whole}
    print(result)
    record("kill_nine", result)
    sys.exit(bool(differences or any(found.values())))


def change(docs: Path, files: int, chance: random.Random, share: float) -> None:
    """Write a share of the files anew, of one to many passages, and remove a few."""
    for number in chance.sample(range(files), int(share * files)):
        file = docs / f"{number:04d}.md"
        if share < 1 and chance.random() < 0.1:
            file.unlink(missing_ok=True)
            continue
        sections = 40 if chance.random() < 0.02 else chance.randint(1, 3)
        words = iter(chance.choices(WORDS.split(), k=61 * sections))
        parts = [f"# {next(words)}\n\n{' '.join(islice(words, 60))}\n" for _ in range(sections)]
        file.write_text("\n".join(parts))


def run(docs: Path, index: Path, model: str, kill_after: float = math.inf) -> float:
    """Seconds that a run took; infinite if it was killed."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "smart_retrieval", "index", docs, "--index", index, "--model", model, "--sync"]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _, errors = process.communicate(timeout=None if kill_after == math.inf else kill_after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return math.inf
    if process.returncode:
        raise SystemExit(f"a run failed: {errors.decode()}")
    return round(time.perf_counter() - started, 1)


def stored(index: Path, found: dict[str, int]) -> dict[str, dict[str, str]]:
    """The passages of each file that the index says it holds whole, by id; what is wrong is counted."""
    if not (index / "index.sqlite").exists():
        return {}
    with SmartIndex.open(index) as opened:
        found["damaged"] += not opened.verify().ok
        passages: dict[str, dict[str, str]] = {path: {} for path in opened.store.files.all()}
        for document in opened.store.get(opened.store.ids()):
            if document.source in passages:
                passages[document.source][document.id] = document.text
        texts = [(path, text) for path, own in passages.items() for text in own.values()]
        found["twice"] += len(texts) - len(set(texts))
    return passages


def unchanged(file: Path, passages: dict[str, str]) -> bool:
    """Whether a file still is what these passages were made of."""
    return file.is_file() and all(text.split("\n", 1)[-1].strip() in file.read_text() for text in passages.values())


if __name__ == "__main__":
    main()
