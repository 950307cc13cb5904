"""Files: opened safely, hashed, replaced atomically, and the record of what was skipped."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import threading
from pathlib import Path

import pytest

from smart_retrieval import files
from smart_retrieval.documents.read import read_file
from smart_retrieval.errors import MediaError, MissingExtraError
from smart_retrieval.files import Skipped, UnreadableFileError, atomic_file, content_hash, open_local, read_bytes
from smart_retrieval.pictures.images import load_image
from smart_retrieval.pictures.pdf_pages import PdfPages
from smart_retrieval.pictures.video import VideoFile


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


def test_a_full_disk_says_which_file_has_no_room(tmp_path):
    target = tmp_path / "a.json"
    with pytest.raises(OSError, match=r"No space left.*a\.json"), atomic_file(target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(FileNotFoundError, match="other"), atomic_file(target) as partial:
        partial.with_name("other").read_bytes()
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc and /sys are Linux's")
@pytest.mark.parametrize("name", ["/proc/self/status", "/proc/kmsg", "/proc/self/mem", "/sys/kernel/mm/ksm/run"])
def test_files_of_the_system_are_refused(tmp_path: Path, name: str) -> None:
    if not os.path.exists(name):
        pytest.skip(f"no {name} here")
    link = tmp_path / "link.pdf"
    link.symlink_to(name)
    for call in (
        content_hash,
        load_image,
        lambda path: VideoFile(path).frames(2),
        PdfPages,
        lambda path: read_file(path),
    ):
        with pytest.raises(MediaError, match=r"link\.pdf: of the system"):
            call(link)


def test_a_special_file_is_not_even_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pdf")
    opened: list[object] = []

    def write() -> None:
        with open(tmp_path / "pipe.pdf", "wb") as file:
            opened.append(file)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    for call in (content_hash, load_image, PdfPages, read_file):
        with pytest.raises(MediaError, match=r"pipe\.pdf: not a regular file"):
            call(tmp_path / "pipe.pdf")
    thread.join(0.2)
    assert opened == []  # a reader would have let the writer in
    with open(tmp_path / "pipe.pdf", "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)):
        thread.join()


def test_a_file_that_grows_is_read_up_to_what_it_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_LEAST_READ", 100)
    path = tmp_path / "log"
    path.write_bytes(b"line\n" * 1000)
    with open_local(path) as whole, open_local(path) as lines, open_local(path) as some, path.open("ab") as more:
        for _ in range(3):
            more.write(b"more\n" * 10_000)
            more.flush()
            assert whole.read() in (b"line\n" * 1000, b"")
        assert sum(1 for _ in lines) == 1000
        assert some.seek(4990) == 4990
        assert some.read(100) == b"line\nline\n"
        assert some.readinto(bytearray(9)) == 0
        assert whole.seek(0, os.SEEK_END) > 5000
        assert whole.read(10) == b""
    with pytest.raises(UnreadableFileError, match="larger than the limit"):
        read_bytes(path, 10_000)
