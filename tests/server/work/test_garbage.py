"""Python's garbage collector in a process of the server's own, and in one that is somebody else's."""

import gc
import weakref

import pytest

from smart_retrieval.server.work.garbage import Collector


@pytest.fixture(autouse=True)
def as_before():
    yield
    gc.unfreeze()
    gc.enable()


def test_it_pauses_while_all_is_loaded_and_then_leaves_that_out() -> None:
    collector = Collector()
    collector.pause()
    assert not gc.isenabled()
    loaded = [[] for _ in range(1000)]
    collector.settle()
    assert gc.isenabled()
    assert gc.get_freeze_count() >= len(loaded)


def test_what_became_garbage_since_is_found_again() -> None:
    class Model:
        """Something in a circle, as large as it may be."""

    collector = Collector()
    collector.pause()
    model = Model()
    model.own = model
    gone = weakref.ref(model)
    collector.settle()
    del model
    gc.collect()
    assert gone() is not None  # left out
    collector.settle()
    assert gone() is None
    collector.release()
    assert gc.get_freeze_count() == 0


def test_in_a_process_of_others_it_does_nothing() -> None:
    before = gc.get_freeze_count()
    Collector().settle()
    assert gc.isenabled()
    assert gc.get_freeze_count() == before
