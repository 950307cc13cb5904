"""What ten million, a hundred million and a billion documents take, from what was measured here.

    python benchmarks/scale_plan.py

Reads results/million.json, search_latency.json, encode_overhead.json and, once it is there, postgres_times.json, and
writes the tables of docs/guides/plan_for_scale.md between their marks. Nothing is measured here: every figure beyond a
million documents is arithmetic, by the rules that stand beside the tables.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from lib.record import RESULTS, ROOT

PAGE = ROOT / "docs" / "guides" / "plan_for_scale.md"
SIZES = (10**7, 10**8, 10**9)
TOKENS = 100  # of a document
ANCHOR_DIM, TOKEN_DIM, QUERY_TOKENS = 384, 128, 32
CANDIDATES, HITS, HIT_BYTES = 400, 10, 1500
# Assumed, and no more than that.
MEMORY_GIB, USABLE = 64, 0.75  # of a machine, and the part of it that holds an index
READ_MS, READS_AT_ONCE = 0.1, 32  # a random read of a solid-state disk
TRIP_MS = 0.5  # a round trip between machines of one network
NETWORK_GBIT = 10


def result(name: str) -> dict[str, Any] | None:
    """A result file, if it was recorded."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def recorded(name: str) -> dict[str, Any]:
    """A result file that has to be there."""
    found = result(name)
    if found is None:
        raise SystemExit(f"found no results/{name}.json, expected it recorded")
    return found


def amount(value: float) -> str:
    """Bytes to read."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} TB" if value < 1000 else f"{value:,.0f} TB"


def per_document() -> dict[str, float]:
    """Bytes of a document of :data:`TOKENS` tokens: on disk, in memory."""
    million = recorded("million")
    count, tokens = million["data"]["documents"], million["data"]["tokens"]
    more = TOKENS - tokens
    anchors = million["build"]["anchor_index"]["bytes"] / count
    found = {
        # The database holds codes and ids, the derived files codes again: 8 and 6 bytes a token.
        "index_disk": (million["build"]["database_bytes"] + million["build"]["derived_bytes"]) / count + 14 * more,
        "index_memory": anchors + 6 * TOKENS,
        "anchors": anchors,
    }
    if postgres := result("postgres_times"):
        found["postgres_disk"] = postgres["bytes"]["one server"] / postgres["documents"] + 8 * (TOKENS - 60)
    # Of its graph: the anchor in half precision, 2 x 16 links of 6 bytes, and a page's overhead.
    found["postgres_memory"] = 2 * ANCHOR_DIM + 32 * 6 + 60
    return found


def shares(shards: int) -> int:
    """Candidates that each of several servers gives, see ``ShardedStore.near``."""
    part = 1 / shards
    share = min(CANDIDATES, math.ceil(CANDIDATES * part + 4 * math.sqrt(CANDIDATES * part * (1 - part))))
    return share + max(32, share // 8)


def machines(bytes_each: float, documents: int) -> int:
    """Machines that hold so much in memory."""
    return max(1, math.ceil(bytes_each * documents / (MEMORY_GIB * 2**30 * USABLE)))


def search_ms(documents: int) -> tuple[float, float]:
    """Both stages of a search in one index, with everything in memory: measured at a million, then the root rule."""
    million = recorded("million")
    stage = next(row for row in million["use"]["first_stage"] if row["candidates"] == CANDIDATES)
    first = stage["anchor_index"]["p50_ms"]
    rest = million["use"]["search"]["p50_ms"] - first
    return first * math.sqrt(documents / million["data"]["documents"]), rest


def stored() -> list[str]:
    """The table of bytes."""
    rows = [
        ("float vectors, 128 d in float16", 2 * TOKEN_DIM),
        ("product quantisation, 64 bytes", 64),
        ("SMART's codes and their ids", 8),
        ("SMART's codes", 6),
    ]
    lines = [
        "| token vectors as | bytes a token | "
        + " | ".join(f"{size:,}" for size in SIZES)
        + " | machines for the last |"
    ]
    lines.append("|---|--:|" + "--:|" * (len(SIZES) + 1))
    for name, width in rows:
        cells = [amount(width * TOKENS * size) for size in SIZES]
        lines.append(f"| {name} | {width} | {' | '.join(cells)} | {machines(width * TOKENS, SIZES[-1]):,} |")
    cells = [amount(4 * ANCHOR_DIM * size) for size in SIZES]
    lines.append(f"| beside them: the anchor, float32 | {4 * ANCHOR_DIM} a document | {' | '.join(cells)} | |")
    return lines


def ways() -> list[str]:
    """The table of machines, bandwidth and latency."""
    each = per_document()
    head = "| documents | way | on disk | in memory | machines | a query moves | network full at | a query takes |"
    lines = [head, "|--:|---|--:|--:|--:|--:|--:|--:|"]
    for size in SIZES:
        first, rest = search_ms(size)
        reads = CANDIDATES * READ_MS / READS_AT_ONCE
        lines.append(
            _row(size, "one machine, codes from disk", each["index_disk"], each["anchors"], 1, 0, first + rest + reads)
        )
        count = machines(each["postgres_memory"], size)
        rows = shares(count)
        moved = count * rows * (4 * ANCHOR_DIM + 28 + 6 * TOKENS + 2 * TOKENS)
        lines.append(
            _row(
                size,
                "PostgreSQL, rows from disk",
                each.get("postgres_disk"),
                each["postgres_memory"],
                count,
                moved,
                None,
            )
        )
        count = machines(each["index_memory"], size)
        first, rest = search_ms(math.ceil(size / count))
        moved = count * (QUERY_TOKENS * TOKEN_DIM * 4 + HITS * HIT_BYTES)
        lines.append(
            _row(
                size,
                "shards on machines, all in memory",
                each["index_disk"],
                each["index_memory"],
                count,
                moved,
                first + rest + 2 * TRIP_MS,
            )
        )
    return lines


def _row(size: int, way: str, disk: float | None, memory: float, count: int, moved: float, taken: float | None) -> str:
    limit = f"{NETWORK_GBIT * 1e9 / 8 / moved:,.0f} queries/s" if moved else "–"
    cells = (
        f"{size:,}",
        way,
        "to be measured" if disk is None else amount(disk * size),
        amount(memory * size),
        f"{count:,}",
        amount(moved) if moved else "–",
        limit,
        "–" if taken is None else f"{taken:,.0f} ms",
    )
    return f"| {' | '.join(cells)} |"


def encoding() -> list[str]:
    """How long it takes to encode them all."""
    measured = recorded("encode_overhead")
    seconds = sorted(run["ours"] for run in measured["runs_seconds"]["default"])
    rate = measured["texts"] / seconds[len(seconds) // 2]
    lines = ["| documents | machine-days of encoding | cores for one week |", "|--:|--:|--:|"]
    for size in SIZES:
        days = size / rate / 86400
        lines.append(f"| {size:,} | {days:,.0f} | {math.ceil(days / 7) * 2:,} |")
    cores = measured["machine"]["cores"]
    lines += ["", f"At {rate:.0f} abstracts a second with minilm on {cores} cores; GPUs were not measured."]
    return lines


def unit_costs() -> list[str]:
    """What the tables stand on."""
    each, million, latency = per_document(), recorded("million"), recorded("search_latency")
    small = next(row for row in latency["rows"] if row["system"].endswith("anchored+3vq+norm"))
    first, rest = search_ms(million["data"]["documents"])
    count, tokens, some = CANDIDATES, million["data"]["tokens"], latency["data"]["documents"]
    lines = [
        f"- A million documents, one thread (`million.json`): first stage {first:.2f} ms for {count} candidates,",
        f"  a whole search {first + rest:.2f} ms; {small['p50_ms']:.2f} ms in {some:,} (`search_latency.json`).",
        f"- A document of {TOKENS} tokens takes {each['index_disk']:,.0f} bytes of an index and its derived files,",
        f"  {each['anchors']:.0f} of them to find anchors by; measured at {tokens} tokens, and 14 bytes for each more.",
    ]
    postgres = result("postgres_times")
    if postgres is None:
        return [*lines, "- PostgreSQL: still to be recorded (`postgres_times.json`)."]
    times = ", ".join(f"{row['system']} {row['p50_ms']:.1f} ms" for row in postgres["rows"])
    lines.append(
        f"- PostgreSQL with {postgres['documents']:,} documents of 60 tokens (`postgres_times.json`): "
        f"{each['postgres_disk']:,.0f} bytes a document of {TOKENS} with its graph; a search takes: {times}."
    )
    return lines


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, lines in (("costs", unit_costs()), ("bytes", stored()), ("ways", ways()), ("encoding", encoding())):
        mark = re.compile(rf"(<!-- {name}: computed -->\n).*?(<!-- end -->)", re.DOTALL)
        if len(mark.findall(text)) != 1:
            raise SystemExit(f"{PAGE}: expected one mark of {name!r}")
        table = "\n".join(lines)
        text = mark.sub(lambda found, table=table: f"{found[1]}\n{table}\n\n{found[2]}", text)  # type: ignore[misc]
    PAGE.write_text(text, encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
