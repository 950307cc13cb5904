"""Measure every candidate default on every cached collection; benchmarks/results/default_preset.csv is its output.

python measure.py OUT.csv NAME=DATA:CACHE[:PENULTIMATE,LAST] ... (MiniLM layers 5,6 unless given)
Collections named cranfield and cacm are the judged ones; the selection protocols use these two only.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from collection import Collection

JUDGED = ("cranfield", "cacm")
Scorer = Callable[[Collection, str, str], np.ndarray]
ROWS: dict[str, Scorer] = {}


def add(name: str, scorer: Scorer) -> None:
    ROWS[name] = scorer


def hybrid(c: Collection, spec: str, lam: float, **kind: Any) -> np.ndarray:
    return c.anchor + lam * c.late(spec, **kind)


def register() -> None:
    add("anchor", lambda c, pen, last: c.anchor)
    add("late only, last", lambda c, pen, last: c.late(last, weighted=False))
    add("paper (last, w=1, lam=1)", lambda c, pen, last: hybrid(c, last, 1, weighted=False))
    add("paper recipe on penultimate", lambda c, pen, last: hybrid(c, pen, 1, weighted=False))
    for lam in (1.0, 1.5, 2.0):
        add(f"idf lam={lam} last", lambda c, pen, last, lam=lam: hybrid(c, last, lam))
        add(f"idf lam={lam} penultimate", lambda c, pen, last, lam=lam: hybrid(c, pen, lam))
        for k, alpha in ((2, 0.2), (3, 0.1), (3, 0.2), (3, 0.25), (3, 0.3), (3, 0.4), (5, 0.1), (5, 0.2), (5, 0.3)):
            add(
                f"idf lam={lam} penultimate + neighbours k={k} alpha={alpha}",
                lambda c, pen, last, lam=lam, k=k, alpha=alpha: c.smooth(hybrid(c, pen, lam), k, alpha),
            )
        for alpha in (0.2, 0.3):
            add(
                f"idf lam={lam} last + neighbours k=3 alpha={alpha}",
                lambda c, pen, last, lam=lam, alpha=alpha: c.smooth(hybrid(c, last, lam), 3, alpha),
            )
    for alpha in (0.2, 0.3):
        add(
            f"anchor alone + neighbours k=3 alpha={alpha}",
            lambda c, pen, last, alpha=alpha: c.smooth(c.anchor, 3, alpha),
        )
        for size in (100, 200, 400):
            add(
                f"idf lam=2.0 penultimate + neighbours k=3 alpha={alpha}, {size} candidates",
                lambda c, pen, last, a=alpha, size=size: c.smooth_candidates(hybrid(c, pen, 2), size, 3, a),
            )
    for size in (100, 200, 400):
        add(
            f"idf lam=2.0 penultimate, {size} candidates",
            lambda c, pen, last, size=size: c.smooth_candidates(hybrid(c, pen, 2), size, 3, 0.0),
        )
    for k in (3, 5):
        add(
            f"context anchor k={k} + 2 idf penultimate", lambda c, pen, last, k=k: c.context_anchor(k) + 2 * c.late(pen)
        )
    for k, beta in ((3, 0.5), (3, 1.0)):
        add(
            f"PRF k={k} beta={beta} + 2 idf penultimate",
            lambda c, pen, last, k=k, b=beta: c.feedback(hybrid(c, pen, 2), k, b) + 2 * c.late(pen),
        )
    for power in (2.0, 3.0, 4.0):
        add(f"idf lam=2.0 penultimate, power {power}", lambda c, pen, last, p=power: hybrid(c, pen, 2, power=p))
    for floor in (0.3, 0.4, 0.5, 0.6):
        for lam in (0.75, 1.0, 1.25, 1.5):
            for k, alpha in ((3, 0.0), (3, 0.1), (3, 0.2), (3, 0.25), (3, 0.3), (2, 0.2), (5, 0.2)):
                if floor != 0.5 and alpha not in (0.0, 0.2):
                    continue
                add(
                    f"idf floor={floor} lam={lam} penultimate + neighbours k={k} alpha={alpha}",
                    lambda c, pen, last, f=floor, m=lam, k=k, a=alpha: c.smooth(hybrid(c, pen, m, floor=f), k, a),
                )
    for alpha in (0.0, 0.2):
        add(
            f"idf floor=0.5 lam=1.0 last + neighbours k=3 alpha={alpha}",
            lambda c, pen, last, a=alpha: c.smooth(hybrid(c, last, 1, floor=0.5), 3, a),
        )
        for size in (100, 200):
            add(
                f"idf floor=0.5 lam=1.0 penultimate + neighbours k=3 alpha={alpha}, {size} candidates",
                lambda c, pen, last, a=alpha, n=size: c.smooth_candidates(hybrid(c, pen, 1, floor=0.5), n, 3, a),
            )
    for floor in (0.4, 0.5, 0.55, 0.6):
        for lam in (0.75, 1.0, 1.25):
            add(
                f"idf floor={floor} lam={lam} mean of the two layers below the last",
                lambda c, pen, last, f=floor, m=lam: hybrid(c, f"a{int(pen) - 1}+{pen}", m, floor=f),
            )
    add("context anchor k=3 + idf floor=0.5", lambda c, pen, last: c.context_anchor(3) + c.late(pen, floor=0.5))
    for spec in ("a0+5", "c0+5"):
        for lam in (1.0, 1.5, 2.0):
            add(f"idf lam={lam} {spec}", lambda c, pen, last, s=spec, lam=lam: hybrid(c, s, lam))
            for alpha in (0.2, 0.3):
                add(
                    f"idf lam={lam} {spec} + neighbours k=3 alpha={alpha}",
                    lambda c, pen, last, s=spec, lam=lam, a=alpha: c.smooth(hybrid(c, s, lam), 3, a),
                )


def gain(values: np.ndarray, anchor: np.ndarray, at: np.ndarray | slice = slice(None)) -> float:
    return float(100 * (values[at].mean() / anchor[at].mean() - 1))


def protocols(per: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    """Leave-one-collection-out, repeated two-fold query splits and a bootstrap, on the judged collections."""
    rng = np.random.default_rng(0)
    names = [n for n in ROWS if all(n in per[c] for c in JUDGED) and "candidates" not in n]

    def both(name: str, at: dict[str, Any]) -> float:
        return float(np.mean([gain(per[c][name], per[c]["anchor"], at[c]) for c in JUDGED]))

    out: dict[str, Any] = {"leave_one_collection_out": [], "bootstrap_95": {}}
    for source, target in (JUDGED, JUDGED[::-1]):
        best = max(names, key=lambda n: gain(per[source][n], per[source]["anchor"]))
        held = gain(per[target][best], per[target]["anchor"])
        out["leave_one_collection_out"].append({"chosen_on": source, "setting": best, "gain_on": target, "gain": held})
    held_out = []
    for _ in range(100):
        masks = {c: rng.permutation(len(per[c]["anchor"])) % 2 == 0 for c in JUDGED}
        for flip in (False, True):
            train = {c: m ^ flip for c, m in masks.items()}
            test = {c: ~m for c, m in train.items()}
            held_out.append(both(max(names, key=lambda n, at=train: both(n, at)), test))
    out["two_fold_held_out_mean_gain"] = {"mean": float(np.mean(held_out)), "sd": float(np.std(held_out))}
    for name in names:
        draws = []
        for _ in range(1000):
            at = {c: rng.integers(0, len(per[c]["anchor"]), len(per[c]["anchor"])) for c in JUDGED}
            draws.append(both(name, at))
        out["bootstrap_95"][name] = [float(x) for x in np.percentile(draws, [2.5, 97.5])]
    return out


def main() -> None:
    register()
    per: dict[str, dict[str, np.ndarray]] = {}
    for argument in sys.argv[2:]:
        label, _, rest = argument.partition("=")
        data, cache, *layers = rest.split(":")
        pen, last = layers[0].split(",") if layers else ("5", "6")
        c = Collection(Path(data), Path(cache), label)
        per[label] = {}
        for name, scorer in ROWS.items():
            mixed = next((m for m in ("a0+5", "c0+5") if m in name), "")
            if mixed and not (c.cache / f"M_{mixed}.npy").exists() and label not in JUDGED:
                continue
            per[label][name] = c.ndcg(scorer(c, pen, last))
        print(label, c.n, "documents", int(c.judged.sum()), "queries", f"{per[label]['anchor'].mean():.4f}", flush=True)
    intervals: dict[str, list[float]] = {}
    if all(c in per for c in JUDGED):
        selection = protocols(per)
        intervals = selection.pop("bootstrap_95")
        print(selection)
    with open(sys.argv[1], "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["setting", *per, "mean_gain_low", "mean_gain_high"])
        for name in ROWS:
            values = [f"{per[label][name].mean():.4f}" if name in per[label] else "" for label in per]
            writer.writerow([name, *values, *(f"{bound:.2f}" for bound in intervals.get(name, []))])


if __name__ == "__main__":
    main()
