"""Lanes make calls together that wait for the same work, and hand their results on together."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from smart_retrieval.errors import DeadlineError, EmptyInputError, OverloadedError
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


def test_what_comes_out_together_goes_through_the_next_lane_together():
    seen = list[list[str]]()

    def letters(numbers: list[int]) -> Iterator[tuple[int, Any]]:
        for place, number in enumerate(numbers):
            yield place, EmptyInputError("three") if number == 3 else chr(97 + number)

    def twice(texts: list[str]) -> Iterator[tuple[int, Any]]:
        seen.append(texts)
        yield from ((place, 2 * text) for place, text in enumerate(texts))

    async def ask() -> list[Any]:
        go = [blocked(first), blocked(second)]
        until = time.perf_counter() + 100
        jobs = [
            asyncio.ensure_future(first.run_through(letters, number, second, twice, str.upper, until))
            for number in range(6)
        ]
        await asyncio.sleep(0)
        jobs[4].cancel()  # while it waits to be made
        await asyncio.sleep(0)
        go[0].set()
        while second.pending < 5:  # the blocked one and four letters
            await asyncio.sleep(0.001)
        jobs[5].cancel()
        await asyncio.sleep(0)
        go[1].set()
        return await asyncio.gather(*jobs, return_exceptions=True)

    first, second = Lane("first", 1, 100), Lane("second", 1, 100)
    found = asyncio.run(ask())
    for lane in (first, second):
        lane.close()
        assert lane.pending == 0
    assert (found[:3], str(found[3])) == (["AA", "BB", "CC"], "three")
    assert all(isinstance(one, asyncio.CancelledError) for one in found[4:])
    assert seen == [["A", "B", "C"]]


def test_a_full_lane_refuses_what_comes_from_another():
    def same(texts: list[str]) -> Iterator[tuple[int, Any]]:
        return enumerate(texts)

    async def ask() -> list[Any]:
        go, until = blocked(second), time.perf_counter() + 100
        jobs = [first.run_through(same, text, second, same, str.upper, until) for text in ("one", "two")]
        waiting = [asyncio.ensure_future(job) for job in jobs]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        go.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    first, second = Lane("first", 1, 100), Lane("second", 1, 1)
    found = asyncio.run(ask())
    for lane in (first, second):
        lane.close()
        assert lane.pending == 0
    assert found[0] == "ONE"
    assert isinstance(found[1], OverloadedError)


def test_a_call_that_gives_too_few_results_fails_for_the_others():
    lane = Lane("one", 1, 100)
    with pytest.raises(RuntimeError, match="no result"):
        asyncio.run(lane.run_each(lambda _: [], 1))
    lane.close()
