"""Run trials over the cached sources and judge them on the checks, never on Cranfield or CACM.

python trials.py SOURCES CACHE OUT.jsonl [NAME ...]   (all in TRIALS that OUT does not have yet)
python trials.py --record OUT.jsonl CEILING.jsonl     (../../results/text_trials.json from them and ceiling.py's lines)
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from explore import Check, Source, Trial, principal_axes, report, train

FOR_CRANFIELD = ("cacm", "debian", "packages")
CHECKS = ("debtags", "foldoc_also", "stdlib")


def trial(name: str, **settings: object) -> Trial:
    return Trial(name, FOR_CRANFIELD, **{"steps": 200, "batch": 48, "lr": 3e-4, **settings})  # type: ignore[arg-type]


TRIALS = [
    trial("frozen", steps=0),
    trial("titles, requests, sentences"),
    trial("hard negatives", negatives=2, skip=2, batch=24, lr=1e-3),
    trial("teacher smoothed by neighbours", distill=0.8, smooth=0.3, negatives=2, batch=24, lr=1e-3),
    trial("smoothed teacher alone", distill=1.0, smooth=0.5, negatives=3, batch=16, steps=300, lr=1e-3),
    trial("weights by token", weigh=True, negatives=2, skip=2, batch=24, lr=1e-3),
    trial("principal axes 64", steps=0, width=64),
    trial("width 64", width=64, lr=1e-3),
    trial("no floor and equal weights in the loss", floor=None, idf=False, lr=1e-3),
    trial("titles, requests, sentences at 1e-3", lr=1e-3),
    trial("titles at 1e-3", asked="q9s1", lr=1e-3),
]


def keep(files: list[str]) -> None:
    """Write what was found where the other results are."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from lib.record import record

    trials, ceiling = ([json.loads(line) for line in Path(file).read_text().splitlines()] for file in files)
    about = "nDCG@10 of the 100 best documents of the frozen default, ranked anew; cells are floor/lambda_late"
    record("text_trials", {"measured": about, "trials": trials, "ceiling": ceiling})


def main() -> None:
    if sys.argv[1] == "--record":
        keep(sys.argv[2:])
        return
    torch.set_num_threads(1)
    sources, cache, out = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    done = {json.loads(line)["trial"]["name"] for line in out.read_text().splitlines()} if out.exists() else set()
    loaded = {name: Source(cache / f"train_{name}") for name in FOR_CRANFIELD}
    checked = {name: Source(cache / name) for name in CHECKS}
    checks = [Check(sources / "check" / name, source, side) for name, source in checked.items() for side in "qv"]
    for one in TRIALS:
        if one.name in done or (sys.argv[4:] and one.name not in sys.argv[4:]):
            continue
        began = time.perf_counter()
        used = [loaded[name] for name in one.sources]
        model, losses = train(one, used, principal_axes(used, one.width) if one.width else None)
        report(one, checks, model, out, losses or [0.0], began)


if __name__ == "__main__":
    main()
