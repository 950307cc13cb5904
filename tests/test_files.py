"""Files: opened safely, hashed, replaced atomically, and the record of what was skipped."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from smart_retrieval.errors import MediaError, MissingExtraError
from smart_retrieval.files import Skipped, UnreadableFileError, atomic_file, content_hash, open_local, read_bytes


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


def test_content_hash(tmp_path: Path) -> None:
    data = b"x" * 3_000_000
    (tmp_path / "a").write_bytes(data)
    assert content_hash(tmp_path / "a") == hashlib.sha256(data).hexdigest()
    for bad in (tmp_path, tmp_path / "none"):
        with pytest.raises(MediaError):
            content_hash(bad)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MediaError, match="not a regular file"):
        content_hash(tmp_path / "pipe")


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("none", "no such file"), (".", "is a directory"), ("pipe", "not a regular"), ("a\0", "name")):
        with pytest.raises(UnreadableFileError, match=reason):
            open_local(tmp_path / name)
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bytes(tmp_path / "a", 5) == b"12345"
    with pytest.raises(UnreadableFileError, match="larger than the limit of 4 bytes"):
        read_bytes(tmp_path / "a", 4)


@pytest.mark.parametrize(
    ("error", "record"),
    [
        (UnreadableFileError("a", "no pages", "0"), Skipped("x", "no pages", "0", failed=True)),
        (PermissionError(13, "Permission denied"), Skipped("x", "permission denied", failed=True)),
        (MissingExtraError("run pip"), Skipped("x", "run pip", failed=True)),
        (KeyError("k"), Skipped("x", "cannot be read", "KeyError: 'k'", failed=True)),
    ],
)
def test_every_error_becomes_a_record(error: Exception, record: Skipped) -> None:
    assert Skipped.from_error("x", error) == record
    assert not Skipped.from_error("x", error, failed=False).failed
