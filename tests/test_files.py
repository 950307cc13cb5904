"""Replacing files whole."""

from __future__ import annotations

import threading

import pytest

from smart_retrieval.files import atomic_file


def test_the_file_is_replaced_when_the_block_ends(tmp_path):
    target = tmp_path / "new" / "a.json"
    for durable in (False, True):
        with atomic_file(target, durable=durable) as partial:
            partial.write_text(str(durable))
        assert target.read_text() == str(durable)
        assert list(target.parent.iterdir()) == [target]


def test_an_error_in_the_block_leaves_the_old_file_and_no_partial_one(tmp_path):
    target = tmp_path / "a.json"
    target.write_text("old")
    with pytest.raises(UnicodeEncodeError), atomic_file(target) as partial:
        partial.write_text("half \udc80", encoding="utf-8")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_many_writers_of_one_file_leave_one_whole_file(tmp_path):
    target = tmp_path / "a.txt"

    def write(number: int) -> None:
        for _ in range(20):
            with atomic_file(target) as partial:
                partial.write_text(str(number) * 10_000)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(target.read_text())) == 1
    assert list(tmp_path.iterdir()) == [target]
