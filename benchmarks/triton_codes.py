"""Scoring every document straight from its codes on a GPU: our Triton kernels beside torch and the CPU's kernel.

    python benchmarks/triton_codes.py [--documents 20000,200000,1000000] [--device cuda]

Synthetic codes of the shapes of ``anchored+3vq+norm`` with MiniLM: 384 dimensions, 30,522 vocabulary ids that follow
Zipf's law, documents of 20 to 100 tokens (60 in the mean), 32 query tokens, weights, a floor. Every contender's scores
are checked against the reference (the CPU's kernel, which gives NumPy's bits) before anything is timed:

- ``triton``: this library's kernels; and each of the two alone, as torch's profiler sees it;
- ``torch``: the same sums by indexing tables, in blocks of documents, and ``segment_reduce``;
- ``numba``: the CPU's kernel, on one thread and on all.

``exact_search`` is ``SmartIndex.search(exact=True)`` from query vectors, from call to hits.

``copy_gb_s`` is what a copy within the card's memory reads and writes, ``table_gb_s`` what the same reads of table rows
reach without any codes to decode: the ceilings of the anchors' kernel and of the tokens'. Times are medians, by CUDA
events, of queries that are on the card already; ``prepare_ms`` is what bringing one there takes. On a machine without a
GPU, ``TRITON_INTERPRET=1 ... --device cpu --documents 200`` tries the script. Writes results/triton_codes.json.
"""
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call"

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

# Before NumPy is imported, whose linear algebra reads this once: threads of ours that use threads of its would wait.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import numpy as np
import torch
import triton
import triton.language as tl
from lib.record import record

from smart_retrieval.core.late import weighted_parts
from smart_retrieval.core.scoring import Scoring
from smart_retrieval.core.vectors import unit_rows
from smart_retrieval.embeddings import SmartEmbeddings
from smart_retrieval.index.codec.base import Codec
from smart_retrieval.index.codec.codebook import CodebookCodec
from smart_retrieval.index.codec.kernels import load_kernels
from smart_retrieval.index.codec.kernels_triton import PASS, DeviceCodec, DeviceDocuments, DeviceQuery
from smart_retrieval.index.codec.names import parse_codec
from smart_retrieval.index.codec.quantize import VectorStages
from smart_retrieval.index.search.hits import Hits
from smart_retrieval.index.smart_index import SmartIndex
from smart_retrieval.index.store.manifest import Manifest
from smart_retrieval.index.store.records import Record
from smart_retrieval.index.store.store import Store
from smart_retrieval.types import Array

CODEC = "anchored+3vq+norm"
DIM, VOCABULARY, CLUSTERS, QUERY_TOKENS = 384, 30_522, 512, 32
SHORTEST, LONGEST = 20, 100
FLOOR, LAMBDA_LATE = 0.05, 2.0
# Tokens that torch takes together: 4 million rows of 32 numbers are half a gigabyte.
TORCH_TOKENS = 4_000_000
ROWS = (8, 16, 32)
# Torch multiplies the anchors in float32, where the reference rounds them to 16 bits.
TOLERANCE, TORCH_TOLERANCE = 2e-7, 3e-5


class Data:
    """A codec, the codes and anchors of documents, and a query."""

    def __init__(self, total: int, name: str = CODEC, query_tokens: int = QUERY_TOKENS) -> None:
        rng = np.random.default_rng(0)
        normal = rng.standard_normal
        spec = parse_codec(name)
        basis = np.linalg.qr(normal((DIM, 128)))[0]
        stages = normal((spec.stages, 256, 128), np.float32) * np.float32(0.02)
        context = normal((DIM, DIM), np.float32) * np.float32(0.4 / DIM**0.5)
        centroids = normal((CLUSTERS + VOCABULARY, DIM), np.float32) * np.float32(0.7 / DIM**0.5)
        ids = np.arange(VOCABULARY)
        residual = VectorStages(basis, stages) if spec.stages else None
        around = context if spec.family == "anchored" else None
        self.codec = CodebookCodec(spec, centroids.astype(np.float16), ids, residual, around)
        self.offsets = np.concatenate([[0], np.cumsum(rng.integers(SHORTEST, LONGEST + 1, total))])
        self.codes = rng.integers(0, 256, (self.offsets[-1], spec.bytes_per_token(DIM)), np.uint8)
        # Zipf's law by a table of its quantiles.
        share = np.cumsum(1 / np.arange(1, VOCABULARY + 1))
        quantiles = np.searchsorted(share / share[-1], np.arange(1 << 20) / (1 << 20)) + CLUSTERS
        numbers = quantiles[rng.integers(0, 1 << 20, len(self.codes))]
        self.codes[:, 0], self.codes[:, 1] = numbers & 255, numbers >> 8
        if spec.norm:
            self.codes[:, -1] = rng.integers(60, 110, len(self.codes))
        self.anchors = np.empty((total, DIM), np.float32)
        for start in range(0, total, 50_000):
            part = self.anchors[start : start + 50_000]
            part[:] = unit_rows(normal(part.shape, np.float32))
        self.query = unit_rows(normal((query_tokens, DIM), np.float32))
        self.anchor = unit_rows(normal((1, DIM), np.float32))[0]
        shares = rng.random(query_tokens)
        self.shares = (shares / shares.sum()).astype(np.float32)

    def on_cpu(self, total: int, threads: int, floor: float | None = FLOOR) -> tuple[Array, Array]:
        """Late and hybrid scores by the kernel that searches use without a GPU, ``[total]`` float32 each."""
        tables = self.codec.prepare(self.query)
        late, scores = np.empty(total, np.float32), np.empty(total, np.float32)

        def some(start: int, stop: int) -> None:
            offsets = self.offsets[start : stop + 1]
            anchors = self.anchors[start:stop]
            best = self.codec.best_similarities(tables, self.codes, offsets, anchors=anchors)
            late[start:stop] = weighted_parts(best, self.shares, floor).sum(axis=0)
            scores[start:stop] = np.einsum("nd,d->n", anchors, self.anchor) + np.float32(LAMBDA_LATE) * late[start:stop]

        step = min(-(-total // threads), 65_536)
        starts = range(0, total, step)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(some, starts, [min(total, start + step) for start in starts]))
        return late, scores


def by_torch(
    documents: DeviceDocuments, query: DeviceQuery, context: torch.Tensor, scales: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Late and hybrid scores with torch's own operations."""
    (tables,) = query.passes
    shift, anchor = documents.anchors @ context, documents.anchors @ query.anchor
    codes = documents.words.view(torch.uint8)
    lengths = documents.offsets.diff()
    late = torch.empty_like(anchor)
    step = max(1, TORCH_TOKENS // LONGEST)
    for start in range(0, len(anchor), step):
        part = slice(start, start + step)
        own = lengths[part]
        rows = codes[documents.offsets[start] : documents.offsets[min(start + step, len(anchor))]]
        values = tables.centroids[(rows[:, 0].int() | (rows[:, 1].int() << 8))]
        for stage in range(len(tables.tables)):
            values += tables.tables[stage][rows[:, 2 + stage].int()]
        values += torch.repeat_interleave(shift[part], own, dim=0, output_size=len(rows))
        values *= scales[rows[:, -1].int()][:, None]
        best = torch.segment_reduce(values, "max", lengths=own, axis=0, unsafe=True)
        late[part] = ((best - FLOOR) / (1 - FLOOR)).clamp_min(0) @ tables.shares
    return late, anchor + LAMBDA_LATE * late


@triton.jit(do_not_specialize=["total"])
def table_kernel(centroids, tables, numbers, out, total, P: tl.constexpr, TABLES: tl.constexpr, ROWS: tl.constexpr):
    """Read one row of the centroids' products and one of each table for every token, and as good as nothing else."""
    q = tl.arange(0, P)
    sums = tl.zeros([ROWS, P], tl.float32)
    for start in range(tl.program_id(0) * ROWS, total, tl.num_programs(0) * ROWS):
        token = start + tl.arange(0, ROWS)
        number = tl.load(numbers + (token & 1048575))
        sums += tl.load(centroids + number[:, None] * P + q[None, :])
        for table in tl.static_range(TABLES):
            row = table * 256 + ((number + token * (7 + 2 * table)) & 255)
            sums += tl.load(tables + row[:, None] * P + q[None, :])
    tl.store(out + tl.program_id(0) * P + q, tl.sum(sums, 0))


def milliseconds(call: Callable[[], Any], device: str, most_seconds: float = 2.0) -> float:
    """Median time of a call after two that warm up."""
    for _ in range(2):
        call()
    times: list[float] = []
    end = time.perf_counter() + most_seconds
    while len(times) < 3 or (len(times) < 30 and time.perf_counter() < end):
        if device == "cpu":
            start = time.perf_counter()
            call()
            times.append(1000 * (time.perf_counter() - start))
            continue
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        call()
        last.record()
        last.synchronize()
        times.append(first.elapsed_time(last))
    return float(np.median(times))


def kernel_milliseconds(call: Callable[[], Any], device: str) -> dict[str, float]:
    """Time of each of our kernels in a call, by torch's profiler."""
    if device == "cpu":
        return {}
    from torch.profiler import ProfilerActivity, profile

    repeats = 10
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(repeats):
            call()
        torch.cuda.synchronize()
    return {
        event.key: event.device_time_total / 1000 / repeats
        for event in seen.key_averages()
        if event.key in ("anchor_kernel", "code_kernel")
    }


def copy_gb_s(device: str) -> float:
    """Bytes read and written by a copy within the device's memory, in GB/s."""
    source = torch.randint(0, 255, (1 << (32 if device != "cpu" else 24),), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * len(source) / milliseconds(lambda: target.copy_(source), device) / 1e6


def table_gb_s(query: DeviceQuery, data: Data, device: str, programs: int, tokens: int) -> float:
    """Bytes of table rows read by a kernel that does nothing else, in GB/s."""
    (tables,) = query.passes
    numbers = np.resize(data.codes[:, 0].astype(np.int32) | (data.codes[:, 1].astype(np.int32) << 8), 1 << 20)
    on_device = torch.from_numpy(numbers).to(device)
    out = torch.empty((programs, PASS), device=device)
    count = len(tables.tables)
    best = 0.0
    for rows in ROWS:
        taken = milliseconds(
            lambda rows=rows: table_kernel[(programs,)](  # type: ignore[misc]
                tables.centroids, tables.tables, on_device, out, tokens, P=PASS, TABLES=count, ROWS=rows, num_warps=1
            ),
            device,
        )  # fmt: skip
        best = max(best, tokens * (1 + count) * PASS * 4 / taken / 1e6)
    return best


def in_an_index(data: Data, total: int, codec: Codec) -> dict[str, float]:
    """Milliseconds of ``SmartIndex.search(exact=True)`` on the CPU and on the GPU, whose hits are compared first."""
    manifest = Manifest(
        model={"name": "synthetic"}, codec=codec.name, anchor_dim=DIM, code_width=codec.bytes_per_token, lexical=False
    )
    query = SmartEmbeddings(data.anchor[None], data.query, [0, QUERY_TOKENS])
    with tempfile.TemporaryDirectory() as folder:
        index = SmartIndex(Store.create(Path(folder) / "a.smart", manifest, codec.to_bytes()))
        for start in range(0, total, 10_000):
            index.store.add(
                [
                    Record(f"d{number}", data.anchors[number], codes, np.full(len(codes), -1))
                    for number in range(start, min(total, start + 10_000))
                    for codes in [data.codes[data.offsets[number] : data.offsets[number + 1]]]
                ]
            )

        def search(device: str) -> Hits:
            scoring = Scoring(data.shares, 1.0, LAMBDA_LATE, FLOOR)
            found = index.search(query, 10, exact=True, device=device, scoring=scoring)
            hits: Hits = found[0]
            return hits

        if [hit.id for hit in search("cuda")] != [hit.id for hit in search("cpu")]:
            raise SystemExit("hits differ between the GPU and the CPU")
        # Host clock: a search ends on the host.
        times = {device: milliseconds(partial(search, device), "cpu", 3.0) for device in ("cpu", "cuda")}
        index.close()
    return times


def worst(found: torch.Tensor, expected: Array) -> float:
    """The largest difference."""
    return float(np.abs(found.cpu().numpy() - expected).max())


def check_shapes(device: str, documents: int) -> None:
    """Other codecs, lengths of queries, no floor, chosen documents: each is another program to compile."""
    for name, tokens, floor in (
        ("codebook", 5, None), ("codebook+norm", 33, 0.02), ("anchored", 70, 0.02), ("codebook+2vq", 16, None),
        ("anchored+2vq+norm", 32, None), ("anchored+3vq+norm", 40, 0.05), ("anchored+7vq+norm", 8, None),
    ):  # fmt: skip
        data = Data(documents, name, tokens)
        scorer = DeviceCodec(data.codec, device)
        on_device = scorer.upload(data.codes, data.offsets, data.anchors)
        query = scorer.prepare(data.query, data.shares, data.anchor)
        late, _ = data.on_cpu(documents, 1, floor)
        whole = scorer.score(query, on_device, floor=floor)
        chosen = torch.arange(documents - 1, -1, -3, device=device)
        some = scorer.score(query, on_device, floor=floor, chosen=chosen)
        error = worst(whole.late, late)
        same = torch.equal(some.scores, whole.scores[chosen])
        if not (error < TOLERANCE and late.std() > 1e-4 and same):
            raise SystemExit(f"{name}, {tokens} query tokens: scores differ from the reference by {error}")
        print(f"{name}, {tokens} query tokens: {error:.1e}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", default="20000,200000,1000000")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--index", type=int, default=100_000, help="documents of the index that is searched; 0: none")
    parser.add_argument("--name", default="triton_codes", help="name of the result file")
    options = parser.parse_args()
    sizes, device = sorted(int(size) for size in options.documents.split(",")), options.device
    check_shapes(device, 3000 if device == "cuda" else 10)
    began = time.perf_counter()
    data = Data(sizes[-1])
    threads = os.cpu_count() or 1
    compiled = load_kernels() is not None
    print(f"{sizes[-1]} documents made, {time.perf_counter() - began:.0f} s", flush=True)
    scorer = DeviceCodec(data.codec, device)
    query = scorer.prepare(data.query, data.shares, data.anchor)
    prepare_ms = milliseconds(lambda: scorer.prepare(data.query, data.shares, data.anchor), device)
    context = torch.from_numpy(data.codec.prepare(data.query).tiles[0].context[:, :QUERY_TOKENS]).to(device)
    scales = torch.tensor(2.0 ** np.linspace(-1, 2, 256), dtype=torch.float32, device=device)
    copied = copy_gb_s(device)
    tokens = int(data.offsets[-1])
    rows_read = table_gb_s(query, data, device, scorer.programs, tokens)
    print(f"copy {copied:.0f} GB/s, table rows {rows_read:.0f} GB/s, prepare {prepare_ms:.2f} ms", flush=True)
    rows: list[dict[str, Any]] = []
    for size in sizes:
        tokens = int(data.offsets[size])
        started = time.perf_counter()
        documents = scorer.upload(data.codes[:tokens], data.offsets[: size + 1], data.anchors[:size])
        upload = time.perf_counter() - started
        late, scores = data.on_cpu(size, threads)

        def ours(scorer: DeviceCodec = scorer, documents: DeviceDocuments = documents) -> Any:
            return scorer.score(query, documents, floor=FLOOR, lambda_late=LAMBDA_LATE)

        def theirs(documents: DeviceDocuments = documents) -> Any:
            return by_torch(documents, query, context, scales)

        found = ours()
        if late.std() < 0.001:
            raise SystemExit("late scores are all alike: the check says nothing")
        errors = {"triton": max(worst(found.late, late), worst(found.scores, scores) / (1 + LAMBDA_LATE))}
        by_rows: dict[str, float] = {}
        for each in ROWS:
            other = DeviceCodec(data.codec, device, rows=each)
            same = other.score(query, documents, floor=FLOOR, lambda_late=LAMBDA_LATE)
            if not torch.equal(same.scores, found.scores):
                raise SystemExit(f"scores differ between blocks of {scorer.rows} and of {each} rows")
            by_rows[str(each)] = milliseconds(lambda other=other: ours(other), device)  # type: ignore[misc]
        other_late, other_scores = theirs()
        errors["torch"] = max(worst(other_late, late), worst(other_scores, scores) / (1 + LAMBDA_LATE))
        if not (errors["triton"] < TOLERANCE and errors["torch"] < TORCH_TOLERANCE):
            raise SystemExit(f"scores differ from the reference: {errors}")
        kernels = kernel_milliseconds(ours, device)
        times = {"triton": milliseconds(ours, device), "torch": milliseconds(theirs, device)}
        times["numba, all threads"] = milliseconds(lambda size=size: data.on_cpu(size, threads), "cpu", 4.0)  # type: ignore[misc]
        started = time.perf_counter()
        data.on_cpu(size, 1)
        times["numba, one thread"] = 1000 * (time.perf_counter() - started)
        row: dict[str, Any] = {
            "documents": size, "tokens": tokens, "late": [float(late.mean()), float(late.std())],
            "largest_error": errors, "milliseconds": times,
            "upload_seconds": upload, "by_rows": by_rows, "kernels": kernels,
            "speed_up": {name: value / times["triton"] for name, value in times.items() if name != "triton"},
            "code_bytes": data.codes[:tokens].nbytes, "anchor_bytes": data.anchors[:size].nbytes,
            "share_of_copy": (data.codes[:tokens].nbytes + data.anchors[:size].nbytes) / times["triton"] / 1e6 / copied,
        }  # fmt: skip
        if len(kernels) == 2:
            anchors_ms, codes_ms = kernels["anchor_kernel"], kernels["code_kernel"]
            moved = data.anchors[:size].nbytes + 4 * size * (PASS + 1)
            row["anchor_kernel_share_of_copy"] = moved / anchors_ms / 1e6 / copied
            row["code_kernel_share_of_copy"] = data.codes[:tokens].nbytes / codes_ms / 1e6 / copied
            row["code_kernel_share_of_table_reads"] = tokens * 4 * PASS * 4 / codes_ms / 1e6 / rows_read
        rows.append(row)
        print(row, flush=True)
        del documents
    searches = {}
    if options.index and device == "cuda":
        count = min(options.index, sizes[-1])
        searches = {"documents": count, "milliseconds": in_an_index(data, count, data.codec)}
        print(searches, flush=True)
    figures = {
        "codec": CODEC, "centroids": len(data.codec.centroids), "query_tokens": QUERY_TOKENS, "floor": FLOOR,
        "threads": threads, "numba": compiled, "triton": triton.__version__, "copy_gb_s": copied,
        "table_gb_s": rows_read, "prepare_ms": prepare_ms, "sizes": rows, "exact_search": searches,
    }  # fmt: skip
    record(options.name, figures)


if __name__ == "__main__":
    main()
