"""Everything whose speed is claimed, in turn in one run, as ratios to a reference on the same machine.

    python benchmarks/speed.py [--quick] [--threads 1] [--only scoring codes encode search]
    python benchmarks/speed.py --compare            beside results/speed.json: exit status 1 where something slowed down

A ratio is how many times as fast as its group's reference something is, the median over rounds in which both ran one
after the other: for scoring NumPy's products, for encoding plain Sentence Transformers, for search SQLite + NumPy. What
a contender gives is checked against the reference before it is timed. Writes results/speed.json and draws
docs/images/speed.svg; with ``--compare`` or ``--quick`` it writes nothing unless ``--name`` is given.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

_PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
_PARSER.add_argument("--quick", action="store_true", help="smaller data and fewer rounds: under two minutes")
_PARSER.add_argument("--threads", type=int, default=1)
_PARSER.add_argument("--only", nargs="+", choices=["scoring", "codes", "encode", "search"], help="some groups")
_PARSER.add_argument("--compare", type=Path, nargs="?", const=True, metavar="FILE", help="an earlier result")
_PARSER.add_argument("--tolerance", type=float, default=0.25, help="share of a ratio that may be lost")
_PARSER.add_argument("--name", help="name of the result file")
if __name__ == "__main__":
    # Before NumPy is imported: its linear algebra reads this once.
    _threads = str(_PARSER.parse_args().threads)
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), _threads)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from encode_overhead import compare as compare_encoding  # noqa: E402
from encode_overhead import texts  # noqa: E402
from lib.collections import collections  # noqa: E402
from lib.record import RESULTS, ROOT, record  # noqa: E402
from lib.synthetic import Synthetic  # noqa: E402
from search_latency import latencies  # noqa: E402
from sentence_transformers.util.similarity import mean_maxsim  # noqa: E402

from smart_retrieval import PreparedDocuments, SmartEmbeddings, late_scores  # noqa: E402
from smart_retrieval.core.maxsim import kernels  # noqa: E402
from smart_retrieval.core.vectors import frozen, unit_rows  # noqa: E402
from smart_retrieval.errors import SmartError  # noqa: E402
from smart_retrieval.evaluation.provenance import machine  # noqa: E402
from smart_retrieval.index.codec.factory import fit_codec  # noqa: E402
from smart_retrieval.index.codec.kernels import load_kernels  # noqa: E402

SHAPES = ((174, 128), (174, 384), (1000, 128), (1000, 2048))  # document tokens x dimensions
QUERY_TOKENS = 32
NUMBERS = 100_000_000  # document numbers of a shape: 400 MB, far more than any cache
BLOCK_ROWS = 8192
REFERENCE = "NumPy"
FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_bf16", "amx_int8", "asimd", "sve")
# Late scores of unit vectors are to be this near the reference's.
TOLERANCES = {"bfloat16": 5e-4, "int8": 1.1e-3, "float16": 5e-5}

Call = Callable[[], Any]


def main() -> None:
    arguments = _PARSER.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    groups = arguments.only or ["scoring", "codes", "encode", "search"]
    ratios: dict[str, float] = {}
    skipped: dict[str, str] = {}
    details: dict[str, Any] = {}
    for group in groups:
        try:
            details[group] = GROUPS[group](arguments.quick, arguments.threads, ratios, skipped)
        except (SmartError, ImportError) as error:
            skipped[group] = str(error)
    for name, reason in skipped.items():
        print(f"skipped {name}: {reason}")
    figures = {
        "threads": arguments.threads, "quick": arguments.quick, "processor_flags": processor_flags(),
        "load_average": os.getloadavg(), "ratios": ratios, "skipped": skipped, "details": details,
    }  # fmt: skip
    target = arguments.name or (None if arguments.quick or arguments.compare else "speed")
    if arguments.compare:
        baseline = RESULTS / "speed.json" if arguments.compare is True else arguments.compare
        lost = slower(ratios, json.loads(baseline.read_text(encoding="utf-8")), arguments.tolerance)
    if target:
        record(target, figures)
        if target == "speed" and "scoring" in groups:
            plot(ratios, ROOT / "docs" / "images" / "speed.svg")
    if arguments.compare:
        sys.exit(lost)


def processor_flags() -> list[str]:
    """What the processor has of what matters here, as Linux names it."""
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return []
    return [flag for flag in FLAGS if flag in words]


def interleaved(
    calls: dict[str, Call], rounds: int, clock: Callable[[], float], seconds: float = 3.0
) -> dict[str, list[float]]:
    """Milliseconds of each call, all in turn in an order that rotates, until there were rounds enough."""
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    begun = time.perf_counter()
    for number in range(10 * rounds):
        if number >= rounds and time.perf_counter() - begun > seconds:
            break
        for name in names[number % len(names) :] + names[: number % len(names)]:
            start = clock()
            calls[name]()
            times[name].append(1000 * (clock() - start))
    return times


def rate(
    group: str,
    calls: dict[str, Call],
    reference: str,
    rounds: int,
    ratios: dict[str, float],
    clock: Callable[[], float] | None = None,
) -> Any:
    """Time calls, put their ratios to the reference beside those there are, and give all times."""
    # Of one thread, time on the processor, which other processes hardly move.
    clock = clock or (time.process_time if torch.get_num_threads() == 1 else time.perf_counter)
    times = interleaved(calls, rounds, clock)
    for name, own in times.items():
        if name != reference:
            ratio = statistics.median(a / b for a, b in zip(times[reference], own, strict=True))
            ratios[f"{group}: {name}"] = round(ratio, 3)
            print(f"{group:22} {name:42} {min(own):9.2f} ms {ratio:7.2f} x {reference}", flush=True)
    return {name: [round(one, 3) for one in own] for name, own in times.items()}


class DifferentScores(Exception):
    """Scores that are not the reference's."""


def check(name: str, found: Any, expected: np.ndarray, tolerance: float) -> None:
    """Raise DifferentScores where scores are not the reference's."""
    worst = float(np.abs(np.asarray(found).reshape(expected.shape) - expected).max())
    if not worst <= tolerance:
        raise DifferentScores(f"{name}: differs from the reference by {worst:.2g}, expected at most {tolerance:.2g}")


# -- float vectors ---------------------------------------------------------------------------------------------------


def scoring(quick: bool, threads: int, ratios: dict[str, float], skipped: dict[str, str]) -> Any:
    """``late_scores`` in every precision beside NumPy, torch, Sentence Transformers and maxsim-cpu."""
    details = {}
    for tokens, dim in SHAPES:
        group = f"scoring {tokens} x {dim}"
        queries, documents = alike((NUMBERS // 10 if quick else NUMBERS) // (tokens * dim), tokens, dim)
        calls = contenders(queries, documents, group, skipped)
        expected = calls[REFERENCE]()
        for name, call in calls.items():
            tolerance = next((value for word, value in TOLERANCES.items() if word in name), 2e-6)
            check(f"{group}: {name}", call(), expected, tolerance)
        details[group] = rate(group, calls, REFERENCE, rounds := 5 if quick else 15, ratios)
        if importlib.util.find_spec("maxsim_cpu") is None:
            skipped["maxsim-cpu"] = "not installed"
            continue
        # In a process of its own: it ends the process at some shapes.
        about = len(documents), tokens, dim
        with ProcessPoolExecutor(1, get_context("spawn"), initializer=_begin, initargs=about) as pool:
            own: dict[str, Call] = {REFERENCE: calls[REFERENCE], "maxsim-cpu": partial(_submit, pool)}
            try:
                check(f"{group}: maxsim-cpu", own["maxsim-cpu"](), expected, 2e-6)
                details[f"{group}, isolated"] = rate(group, own, REFERENCE, rounds, ratios, time.perf_counter)
            except BrokenProcessPool:
                skipped[f"{group}: maxsim-cpu"] = "ended its process"
            except DifferentScores as error:
                skipped[f"{group}: maxsim-cpu"] = str(error)
    return details


def alike(count: int, tokens: int, dim: int) -> tuple[SmartEmbeddings, SmartEmbeddings]:
    """A query and documents of unit vectors that share a direction, as those of models do."""
    rng = np.random.default_rng(0)
    shared = 0.7 * rng.standard_normal((1, dim), np.float32)
    vectors = unit_rows(rng.standard_normal((count * tokens, dim), np.float32) + shared)
    noise = rng.standard_normal((QUERY_TOKENS, dim), np.float32) * np.float32(0.5 / dim**0.5)
    asked = unit_rows(vectors[rng.integers(0, len(vectors), QUERY_TOKENS)] + noise)
    documents = SmartEmbeddings(np.ones((count, 1), np.float32), vectors, np.arange(count + 1) * tokens)
    return SmartEmbeddings(np.ones((1, 1), np.float32), asked, [0, QUERY_TOKENS]), documents


def contenders(
    queries: SmartEmbeddings, documents: SmartEmbeddings, group: str, skipped: dict[str, str]
) -> dict[str, Call]:
    """What scores one query against all documents, by name."""

    def by_numpy() -> np.ndarray:
        patience, settled, kernels.PATIENCE = kernels.PATIENCE, dict(kernels._settled), sys.maxsize
        kernels._settled.clear()
        try:
            return late_scores(queries, documents)
        finally:
            kernels.PATIENCE = patience
            kernels._settled.update(settled)

    kernels.PATIENCE = 0
    calls: dict[str, Call] = {REFERENCE: by_numpy, "late_scores": lambda: late_scores(queries, documents)}
    half = documents.astype("float16")
    calls["late_scores, float16 documents"] = lambda: late_scores(queries, half)
    for precision in ("bfloat16", "int8"):
        prepared = PreparedDocuments(documents, precision)
        calls[f"late_scores, {precision}"] = lambda p=precision: late_scores(queries, documents, precision=p)  # type: ignore[misc]
        calls[f"late_scores, {precision} prepared"] = lambda d=prepared: late_scores(queries, d)  # type: ignore[misc]
        if not kernels.load(precision):
            skipped[f"{group}: instructions for {precision}"] = "not on this processor; its rows are the slower way"
    if load_kernels() is not None:
        calls["torch.mm + segment maximum"] = lambda: by_torch(queries, documents)
    count, dim = len(documents), documents.token_dim
    stacked = documents.token_vectors.reshape(count, -1, dim)
    asked = torch.from_numpy(queries.token_vectors)
    one, padded = asked[None], torch.from_numpy(stacked)
    matrices = list(padded)
    calls["Sentence Transformers, list"] = lambda: mean_maxsim([asked], matrices).numpy()
    calls["Sentence Transformers, padded"] = lambda: mean_maxsim(one, padded).numpy()
    return calls


def by_torch(queries: SmartEmbeddings, documents: SmartEmbeddings) -> np.ndarray:
    """torch's products of some thousand rows, in rows x queries layout, and Numba's maximum over each document."""
    compiled: Any = load_kernels()
    asked = torch.from_numpy(queries.token_vectors.T.copy())
    rows, tokens = torch.from_numpy(documents.token_vectors), int(documents.lengths[0])
    best = np.full((len(documents), asked.shape[1]), -np.inf, np.float32)
    each = max(1, BLOCK_ROWS // tokens)
    space = torch.empty(each * tokens, asked.shape[1])
    for first in range(0, len(documents), each):
        last = min(len(documents), first + each)
        products = torch.mm(rows[first * tokens : last * tokens], asked, out=space[: (last - first) * tokens]).numpy()
        numbers = np.arange(first, last)
        compiled.segment_best(frozen(products), frozen((numbers - first) * tokens), frozen(numbers), best)
    return np.asarray(best.mean(axis=1))


_isolated: Any = None


def _begin(count: int, tokens: int, dim: int) -> None:
    global _isolated
    maxsim: Any = importlib.import_module("maxsim_cpu")
    queries, documents = alike(count, tokens, dim)
    asked, stacked = queries.token_vectors, documents.token_vectors.reshape(count, tokens, dim)
    _isolated = lambda: maxsim.maxsim_scores(asked, stacked) / QUERY_TOKENS  # noqa: E731


def _run() -> Any:
    return _isolated()


def _submit(pool: ProcessPoolExecutor) -> Any:
    return pool.submit(_run).result()


# -- codes, encoding, search -----------------------------------------------------------------------------------------


def codes(quick: bool, threads: int, ratios: dict[str, float], skipped: dict[str, str]) -> Any:
    """Best similarities straight from the default codec's codes, beside decoding and multiplying them."""
    data = Synthetic()
    documents = data.documents(0, 500 if quick else 4000)
    codec = fit_codec("anchored+3vq+norm", documents)
    rows, asked = codec.encode_documents(documents), data.queries(1, len(documents))[0].token_vectors
    anchors = np.repeat(documents.anchors, documents.lengths, axis=0)

    def from_codes() -> np.ndarray:
        tables = codec.prepare(asked)
        best: np.ndarray = codec.best_similarities(tables, rows, documents.offsets, anchors=documents.anchors)
        return best

    def decoded() -> np.ndarray:
        vectors = codec.decode(rows, anchors)
        return np.maximum.reduceat(asked @ vectors.T, documents.offsets[:-1], axis=1)

    load_kernels()
    check("from codes", from_codes(), decoded(), 1e-4)
    return rate("codes", {"decoded": decoded, "from codes": from_codes}, "decoded", 5 if quick else 15, ratios)


def encode(quick: bool, threads: int, ratios: dict[str, float], skipped: dict[str, str]) -> Any:
    """Encoding beside plain Sentence Transformers."""
    with collections(None) as found:
        items, plain, ours = texts(found[0], 64 if quick else 320, "minilm")
    own = {"default": ours["default"]} if quick else ours
    for name, model in own.items():
        anchors = model.encode_document(items[:32]).anchors
        check(f"encode: {name}", anchors, plain.encode(items[:32]), 5e-3 if "bfloat16" in name else 1e-6)
    runs, slowness = compare_encoding(items, plain, own, 3 if quick else 7, {})
    for name, value in slowness.items():
        ratios[f"encode: {name}"] = round(1 / value, 3)
        print(f"{'encode':22} {name:42} {'':12} {1 / value:7.2f} x plain encode", flush=True)
    return runs


def search(quick: bool, threads: int, ratios: dict[str, float], skipped: dict[str, str]) -> Any:
    """Search in an index beside SQLite + NumPy and Qdrant Edge."""
    qdrant = not quick and importlib.util.find_spec("qdrant_edge") is not None
    if not qdrant:
        skipped["search: Qdrant Edge"] = "left out by --quick" if quick else "not installed"
    codecs = ("anchored+3vq+norm",)
    rows, _ = latencies(3000 if quick else 20_000, 15 if quick else 60, threads, codecs, qdrant=qdrant, at=None)
    p50 = "cpu_p50_ms" if threads == 1 else "p50_ms"
    slowest = {row["candidates"]: row[p50] for row in rows if row["system"].startswith("sqlite")}
    for row in rows:
        if not row["same_top10_as_float32"] >= 0.6:
            raise DifferentScores(f"{row['system']}: found {row['same_top10_as_float32']} of the exact ten")
        if not row["system"].startswith("sqlite"):
            name = f"search: {row['system']}, {row['candidates']} candidates"
            ratios[name] = round(slowest[row["candidates"]] / row[p50], 3)
    return rows


GROUPS = {"scoring": scoring, "codes": codes, "encode": encode, "search": search}


# -- what is made of it ----------------------------------------------------------------------------------------------


def slower(ratios: dict[str, float], baseline: dict[str, Any], tolerance: float) -> int:
    """Print ratios beside those of an earlier result; 1 if one lost more than a share of it, else 0."""
    cpu = baseline["machine"]["cpu"] if "machine" in baseline else "?"
    print(f"\nbaseline: commit {str(baseline.get('commit'))[:10]}, {cpu}; here {machine()['cpu']}")
    lost = 0
    for name, now in ratios.items():
        before = baseline["ratios"].get(name)
        slow = before is not None and now < before * (1 - tolerance)
        lost += slow
        print(f"{'SLOWER' if slow else '':7}{name:62} {'new' if before is None else f'{before:7.2f}'} {now:7.2f}")
    if baseline.get("quick"):
        print("the baseline is of a quick run")
    print(f"{lost} of {len(ratios)} are slower by more than {tolerance:.0%}")
    return int(lost > 0)


def plot(ratios: dict[str, float], target: Path) -> None:
    """Draw how many times as fast as NumPy each way of scoring is, a panel for each shape."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "speed"
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    figure, panels = pyplot.subplots(1, len(SHAPES), figsize=(10, 3.6), layout="constrained", sharey=True)
    names = list(dict.fromkeys(name.split(": ")[1] for name in ratios if name.startswith("scoring")))[::-1]
    for (tokens, dim), axes in zip(SHAPES, panels, strict=True):
        values = [ratios.get(f"scoring {tokens} x {dim}: {name}", 0.0) for name in names]
        colours = ["#0b6e4f" if name.startswith("late_scores") else "#4a6fa5" for name in names]
        for bar, value in zip(axes.barh(names, values, color=colours), values, strict=True):
            text = f" {value:.1f}" if value else " –"
            axes.text(bar.get_width(), bar.get_y() + bar.get_height() / 2, text, va="center", fontsize=8)
        axes.axvline(1, color="grey", linewidth=0.8, linestyle=":")
        axes.set_xlim(0, max(values) * 1.2)
        axes.set_title(f"{tokens} tokens of {dim}", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Scoring a query of 32 tokens: times as fast as NumPy", fontsize=10)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Date": None})
    print(f"wrote {target.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
