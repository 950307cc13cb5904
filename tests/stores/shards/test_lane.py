"""Questions to one server: in its own threads, again after a broken connection, and not at all for a while."""

import threading
import time

import pytest

from smart_retrieval.errors import FilterError, StoreUnreachableError
from smart_retrieval.stores.shards import lane as lanes
from smart_retrieval.stores.shards.lane import Lane, answers


@pytest.fixture
def lane():
    made = Lane([], "here")
    yield made
    made.close()


def gone(store):
    store.append(1)
    raise StoreUnreachableError("gone")


def soon(seconds=5.0):
    return time.monotonic() + seconds


def test_a_question_is_put_again_once(lane):
    def twice(store):
        return len(store) if store else gone(store)

    assert lane.ask(twice).result() == 1
    lane.store.clear()
    with pytest.raises(StoreUnreachableError, match="gone"):
        lane.ask(gone, again=False).result()
    assert lane.store == [1]


def test_who_is_gone_is_left_alone_for_a_while(lane, monkeypatch):
    monkeypatch.setattr(lanes, "PAUSE", 0.2)
    with pytest.raises(StoreUnreachableError, match="gone"):
        lane.ask(gone).result()
    assert lane.store == [1, 1]
    with pytest.raises(StoreUnreachableError, match="index here: it does not answer"):
        lane.ask(len).result()
    time.sleep(0.25)
    started, wait = threading.Event(), threading.Event()

    def trial(store):
        started.set()
        wait.wait(5)
        return "back"

    first = lane.ask(trial)
    started.wait(5)
    with pytest.raises(StoreUnreachableError):  # the trial is out
        lane.ask(len).result()
    wait.set()
    assert first.result() == "back"
    assert lane.ask(len).result() == 2


def test_answers_and_errors(lane):
    wait = threading.Event()
    late = lane.ask(lambda store: wait.wait(5))
    found = answers([lane, lane, lane], [lane.ask(len), None, late], soon(0.05))
    assert found[:2] == [0, None]
    assert isinstance(found[2], TimeoutError)
    wait.set()

    def refuse(store):
        raise FilterError("column 3")

    other = Lane([], "other")
    with pytest.raises(FilterError, match="column 3"):
        answers([other], [other.ask(refuse)], soon())
    assert other.ask(len).result() == 0  # an error of the asker is none of the server
    other.close()
