"""Adapter training with cached states against running the backbone in each step: steps a second, and memory.

    python benchmarks/adapter_cache.py --model minilm --documents 2000 --steps 20

Pairs are made of random words: lengths matter here, meaning does not.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lib.record import record

from smart_retrieval import SmartModel
from smart_retrieval.inputs import Item
from smart_retrieval.training import AdapterRecipe, TrainingSet
from smart_retrieval.training.adapter.train import AdapterTraining
from smart_retrieval.training.data.examples import Collector


def made_pairs(count: int, words: int, seed: int = 0) -> TrainingSet:
    """Documents of made-up words, each with a query of some of its own: lengths matter here, meaning does not."""
    rng = np.random.default_rng(seed)
    vocabulary = ["water", "house", "river", "engine", "paper", "light", "stone", "window", "garden", "signal"]
    collector = Collector("made")
    for number in range(count):
        chosen = [vocabulary[i] for i in rng.integers(len(vocabulary), size=int(rng.integers(words // 2, words)))]
        document = collector.document(Item(f"{number} {' '.join(chosen)}"))
        collector.add(Item(f"{number} {' '.join(chosen[:8])}"), [document])
    return collector.finish()


def measure(run: AdapterTraining, steps: int) -> dict[str, Any]:
    """Seconds a step, the first left out, and the memory at three times."""
    run.step(0)
    memory = []
    clock, own = time.perf_counter(), time.process_time()
    for step in range(1, steps + 1):
        run.step(step)
        if step in (1, steps // 2, steps):
            memory.append(resident())
    return {
        "steps_per_second": steps / (time.perf_counter() - clock),
        # On a machine that others use, too, this is the figure to compare.
        "steps_per_cpu_second": steps / (time.process_time() - own),
        "resident_mb": memory,
    }


def resident() -> float:
    """Megabytes now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--words", type=int, default=200)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--live-steps", type=int, default=3)
    parser.add_argument("--width", type=int, default=128)
    options = parser.parse_args()
    data = made_pairs(options.documents, options.words)
    held = made_pairs(8, options.words, seed=1)
    model = SmartModel(options.model, preset="paper", device="cpu")
    recipe = AdapterRecipe(width=options.width, epochs=100)
    found: dict[str, Any] = {"threads": torch.get_num_threads(), **vars(options)}
    with tempfile.TemporaryDirectory() as folder:
        for name, budget, steps in (("cached", 10**11, options.steps), ("live", 0, options.live_steps)):
            run = AdapterTraining(model, data, held, Path(folder) / name, recipe)
            clock = time.perf_counter()
            run.open_states(Path(folder) / f"{name}_states", budget, False, lambda _: None)
            found[name] = {
                "open_seconds": time.perf_counter() - clock,
                "states": run.result.states.replace(f"{folder}/", ""),
                **measure(run, steps),
            }
    found["ratio"] = found["cached"]["steps_per_cpu_second"] / found["live"]["steps_per_cpu_second"]
    print(json.dumps(found, indent=1))
    record("adapter_cache", found)


if __name__ == "__main__":
    main()
