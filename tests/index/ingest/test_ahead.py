"""One item made while the last is worked on: in order, errors in their place, no thread left behind."""

import threading
import time
from contextlib import closing

import pytest

from smart_retrieval.files import SkipLog, Skipped
from smart_retrieval.index.ingest import ahead as module
from smart_retrieval.index.ingest.ahead import ahead


@pytest.fixture(params=[1, 2])
def processors(request, monkeypatch):
    monkeypatch.setattr(module, "thread_count", lambda: request.param)
    return request.param


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "smart-ahead"]


def numbers(count, error=None, made=None):
    def make(stop):
        for number in range(count):
            if stop.is_set():
                return
            if made is not None:
                made.append((number, threading.current_thread()))
            yield number
        if error is not None:
            raise error

    return make


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_the_same_items_in_order(processors, count):
    assert list(ahead(numbers(count))) == list(range(count))
    assert not threads()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_error_comes_behind_the_items_before_it(processors, count):
    found = []
    with pytest.raises(ValueError, match="broken"):
        found.extend(ahead(numbers(count, ValueError("broken"))))
    assert found == list(range(count))
    assert not threads()


def test_the_next_one_is_made_meanwhile_and_no_more(monkeypatch):
    monkeypatch.setattr(module, "thread_count", lambda: 2)
    made = []
    with closing(ahead(numbers(9, made=made))) as found:
        assert next(found) == 0
        deadline = time.monotonic() + 10
        while len(made) < 3 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.05)
        assert [number for number, _ in made] == [0, 1, 2], "one that waits, and one that is at hand"
    assert made[0][1] is threading.current_thread()
    assert made[1][1] is not threading.current_thread()


def test_one_processor_has_one_thread(monkeypatch):
    monkeypatch.setattr(module, "thread_count", lambda: 1)
    made = []
    assert list(ahead(numbers(3, made=made))) == [0, 1, 2]
    assert {thread for _, thread in made} == {threading.current_thread()}


def test_what_is_not_wanted_any_more_ends(processors):
    def interrupted():
        with closing(ahead(numbers(10**9))) as found:
            for number in found:
                if number == 5:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not threads()


def test_a_call_of_the_guarded_child_ends_with_it(monkeypatch):
    monkeypatch.setattr(module, "thread_count", lambda: 2)
    asked = threading.Event()
    monkeypatch.setattr(module, "interrupt", lambda thread: asked.set())

    def make(stop):
        yield 0
        asked.wait(10)  # as a parser of a large file would

    with closing(ahead(make)) as found:
        assert next(found) == 0
    assert asked.is_set()
    assert not threads()


def test_a_log_counts_what_another_counted():
    logs = [SkipLog(keep=2), SkipLog(keep=9), SkipLog()]
    for log, names in zip(logs, ("a", "bc", ""), strict=True):
        for name in names:
            log.add(Skipped(name, "broken", failed=True))
    logs[1].add(Skipped("d", "hidden"))
    logs[0].update(logs[1])
    logs[0].update(logs[2])
    assert (dict(logs[0].counts), logs[0].failed) == ({"broken": 3, "hidden": 1}, 3)
    assert [record.path for record in logs[0]] == ["a", "b", "d"]
