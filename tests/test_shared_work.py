"""Work among threads comes back in order, with its first error, and leaves BLAS and threads as they were."""

import threading

import pytest

from smart_retrieval import threads
from smart_retrieval.threads import in_threads, one_blas_thread, thread_count


@pytest.fixture
def two(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    threads._blas.cache_clear()
    yield
    threads._blas.cache_clear()


def blas_threads():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    return [one["num_threads"] for one in threadpoolctl.threadpool_info() if "numpy" in one["filepath"]]


@pytest.mark.parametrize("count", [1, 2, 5, 100])
def test_results_are_in_order_and_no_thread_stays(count):
    before = threading.active_count()
    assert in_threads(lambda number: number * number, range(50), count) == [number**2 for number in range(50)]
    assert in_threads(abs, [], count) == []
    assert threading.active_count() == before


def test_two_threads_work_at_once(two):
    assert thread_count() == 2
    barrier = threading.Barrier(2, timeout=20)
    in_threads(lambda _: barrier.wait(), range(2))


def test_work_within_work_stays_in_its_thread(two):
    def name(_):
        return threading.current_thread().name

    for outer in in_threads(lambda number: [name(number), *in_threads(name, range(3))], range(4)):
        assert len(set(outer)) == 1
    assert not threads._local.inside


@pytest.mark.parametrize("value", ["", "0", "many", "-1"])
def test_without_a_number_the_processors_count(monkeypatch, value):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert thread_count() >= 1


@pytest.mark.parametrize("count", [1, 3])
def test_the_first_error_is_raised(count):
    def fail(number):
        if number >= 3:
            raise ValueError(f"number {number}")

    with pytest.raises(ValueError, match="number 3"):
        in_threads(fail, range(9), count)


def test_blas_has_one_thread_whatever_the_environment_says_by_now(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads._blas.cache_clear()
    with one_blas_thread():
        assert set(blas_threads()) == {1}
    threads._blas.cache_clear()


def test_blas_has_one_thread_while_anybody_is_inside(two):
    before = blas_threads()
    inside, leave = threading.Event(), threading.Event()

    def stay():
        with one_blas_thread():
            inside.set()
            leave.wait(20)

    other = threading.Thread(target=stay)
    with one_blas_thread():
        other.start()
        assert inside.wait(20)
        assert set(blas_threads()) == {1}
    assert set(blas_threads()) == {1}
    leave.set()
    other.join()
    assert blas_threads() == before
