"""Lanes make calls together that wait for the same work, and do not run ahead of the lane that they feed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from smart_retrieval.errors import DeadlineError, EmptyInputError
from smart_retrieval.server.work import lanes
from smart_retrieval.server.work.lanes import Lane


def blocked(lane: Lane) -> threading.Event:
    """Keep a thread of the lane busy until the event is set."""
    entered, go = threading.Event(), threading.Event()
    lane.submit(lambda: (entered.set(), go.wait(10)))
    assert entered.wait(10)
    return go


def test_what_waits_for_the_same_work_is_done_together():
    seen = list[list[Any]]()

    def double(numbers: list[int]) -> Iterator[tuple[int, Any]]:
        seen.append(numbers)
        for place, number in reversed(list(enumerate(numbers))):
            yield place, EmptyInputError("seven") if number == 7 else 2 * number

    def fails(numbers: list[int]) -> Iterator[tuple[int, Any]]:
        yield 0, "first"
        raise ValueError(f"of {len(numbers)}")

    async def ask() -> list[Any]:
        go = blocked(lane)
        jobs = [lane.run_each(double, number) for number in range(20)]
        jobs += [lane.run_each(fails, number) for number in range(2)]
        jobs.append(lane.run(lambda: "alone"))
        jobs.append(lane.run_each(double, 1, time.perf_counter() - 1))
        waiting = asyncio.gather(*jobs, return_exceptions=True)
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, go.set)
        return await waiting

    lane = Lane("one", 1, 100)
    found = asyncio.run(ask())
    lane.close()
    assert seen == [list(range(16)), [16, 17, 18, 19]]
    assert [one for place, one in enumerate(found[:20]) if place != 7] == [2 * n for n in range(20) if n != 7]
    assert str(found[7]) == "seven"
    assert (found[20], str(found[21]), found[22]) == ("first", "of 2", "alone")
    assert isinstance(found[23], DeadlineError)
    assert lane.pending == 0


@pytest.mark.parametrize("patience", [0.01, 10.0])
def test_a_lane_waits_while_the_one_that_it_feeds_has_enough_to_do(patience, monkeypatch):
    monkeypatch.setattr(lanes, "_ENOUGH", 2)
    monkeypatch.setattr(lanes, "_PATIENCE_S", patience)
    behind = Lane("behind", 1, 100)
    first = Lane("first", 1, 100, feeds=behind)
    go, done = blocked(behind), threading.Event()
    behind.submit(lambda: None)
    first.submit(done.set)
    assert done.wait(0.2 if patience == 10 else 10) == (patience < 1)
    go.set()
    assert done.wait(10)
    for lane in (first, behind):
        lane.close()
