"""Finding files: order, what is left out and why, links that run in circles, folders that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smart_retrieval.documents import walk
from smart_retrieval.documents.read import read_files
from smart_retrieval.documents.walk import scan
from smart_retrieval.errors import MediaError
from smart_retrieval.files import SkipLog, Skipped


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}")


def names(root: Path, **options: object) -> list[str]:
    return [file.relative for file in scan(root, **options)]  # type: ignore[arg-type]


def test_order_is_fixed_and_files_come_with_size_and_time(tmp_path: Path) -> None:
    make(tmp_path, "b/z.md", "b/a.md", "B.md", "a.md", "b/sub/c.md", "a/x.md")
    found = list(scan(tmp_path))
    assert [file.relative for file in found] == ["B.md", "a.md", "a/x.md", "b/a.md", "b/z.md", "b/sub/c.md"]
    status = (tmp_path / "B.md").stat()
    assert (found[0].path, found[0].size, found[0].mtime_ns) == (tmp_path / "B.md", status.st_size, status.st_mtime_ns)
    assert found == list(scan(str(tmp_path)))
    assert not any(file.outside for file in found)


def test_relative_root_and_single_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "docs/a.md", "docs/.hidden.md")
    monkeypatch.chdir(tmp_path)
    assert names(Path("docs")) == ["a.md"]
    assert names(Path()) == ["docs/a.md"]
    monkeypatch.chdir(tmp_path / "docs")
    assert names(Path("..")) == ["docs/a.md"]
    assert names(Path(".hidden.md"), include=["*.txt"]) == [".hidden.md"]


def test_globs(tmp_path: Path) -> None:
    make(tmp_path, "a.md", "a.txt", "docs/b.md", "docs/deep/er/c.md", "drafts/d.md", "docs/drafts/e.md")
    assert names(tmp_path, include=["*.md"], exclude=["drafts/"]) == ["a.md", "docs/b.md", "docs/deep/er/c.md"]
    assert names(tmp_path, include=["docs/**/*.md"]) == ["docs/b.md", "docs/deep/er/c.md", "docs/drafts/e.md"]
    assert names(tmp_path, include=["/*.md", "docs/deep"]) == ["a.md", "docs/deep/er/c.md"]
    assert names(tmp_path, exclude=["**/*.md", "!/a.md"]) == ["a.md", "a.txt"]
    log = SkipLog()
    names(tmp_path, include=["*.md"], exclude=["docs"], skipped=log)
    assert log.counts == {walk.NOT_INCLUDED: 1, walk.EXCLUDED: 1}
    assert [record.path for record in log] == ["a.txt", "docs/"]
    assert log.failed == 0
    with pytest.raises(MediaError, match="malformed pattern"):
        scan(tmp_path, include=["!"])


def test_hidden(tmp_path: Path) -> None:
    make(tmp_path, "a.md", ".b.md", ".c/d.md", ".git/e.md")
    log = SkipLog()
    assert names(tmp_path, skipped=log) == ["a.md"]
    assert log.counts == {walk.HIDDEN: 3}
    assert names(tmp_path, hidden=True) == [".b.md", "a.md", ".c/d.md"]


def test_gitignore_nested_and_negated(tmp_path: Path) -> None:
    make(tmp_path, "a.log", "keep.log", "src/b.log", "src/c.md", "src/gen/d.md", "build/e.md", "src/build/f.md")
    (tmp_path / ".gitignore").write_text("*.log\n!keep.log\n/build/\n# comment\n\n")
    (tmp_path / "src/.gitignore").write_bytes(b"!b.log\r\ngen\r\n")
    log = SkipLog()
    assert names(tmp_path, skipped=log) == ["keep.log", "src/b.log", "src/c.md", "src/build/f.md"]
    assert [record.path for record in log if record.reason == walk.IGNORED] == ["a.log", "build/", "src/gen/"]
    assert "a.log" in names(tmp_path, respect_ignore=False)
    (tmp_path / "src/.gitignore").write_bytes(b"\x00\xff binary")
    assert "src/gen/d.md" in names(tmp_path), "a broken one ignores nothing"


def test_gitignore_of_the_checkout_around_the_root(tmp_path: Path) -> None:
    make(tmp_path, "docs/a.md", "docs/a.tmp", "docs/gen/b.md", "build/c.md", ".git/HEAD")
    (tmp_path / ".gitignore").write_text("*.tmp\n/docs/gen\n/build\n")
    assert names(tmp_path / "docs") == ["a.md"]
    assert names(tmp_path / "build") == ["c.md"], "an ignored folder asked for by name"
    (tmp_path / ".git/HEAD").unlink()
    (tmp_path / ".git").rmdir()
    assert names(tmp_path / "docs") == ["a.md", "a.tmp", "gen/b.md"]


def test_links_to_nowhere_that_the_rules_leave_out(tmp_path: Path) -> None:
    make(tmp_path, "one.md", ".gitignore")
    (tmp_path / ".gitignore").write_text("ignored*\n")
    for name in (".#one.md", "ignored.md", "a.txt", "b.md", "round.md"):
        (tmp_path / name).symlink_to("round.md" if name == "round.md" else "nowhere")
    log = SkipLog()
    assert names(tmp_path, include=["*.md"], skipped=log) == ["one.md"]
    assert [(one.path, one.reason) for one in log if one.failed] == [
        ("b.md", "broken symbolic link"),
        ("round.md", "symbolic link in a circle"),
    ]
    assert log.counts[walk.HIDDEN] >= 1


def test_links_in_circles_and_to_the_same(tmp_path: Path) -> None:
    make(tmp_path, "a/one.md", "b/two.md", ".data/v1/three.md")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "a/self").symlink_to("self")
    (tmp_path / "0first").symlink_to("b")
    (tmp_path / "again.md").symlink_to("a/one.md")
    (tmp_path / "current").symlink_to(".data/v1")
    (tmp_path / "hidden.md").symlink_to(".data/v1/three.md")
    (tmp_path / "gone.md").symlink_to("nowhere.md")
    log = SkipLog()
    assert names(tmp_path, skipped=log) == ["a/one.md", "b/two.md", "current/three.md"]
    assert log.counts[walk.SAME] == 4
    assert log.counts["broken symbolic link"] == 1
    assert log.counts["symbolic link in a circle"] == 1
    assert log.failed == 2
    assert names(tmp_path, follow_symlinks=False) == ["a/one.md", "b/two.md"]


def test_links_out_of_the_root_are_followed_marked_or_refused(tmp_path: Path) -> None:
    make(tmp_path, "root/a.md", "other/b.md", "other/deep/c.md", "secret.txt")
    (tmp_path / "root/link").symlink_to(tmp_path / "other")
    (tmp_path / "root/twice").symlink_to(tmp_path / "other")
    (tmp_path / "root/s.txt").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "other/back").symlink_to(tmp_path / "root")
    found = list(scan(tmp_path / "root"))
    expected = [("a.md", False), ("link/b.md", True), ("link/deep/c.md", True), ("s.txt", True)]
    assert sorted((file.relative, file.outside) for file in found) == expected
    log = SkipLog()
    assert names(tmp_path / "root", outside=False, skipped=log) == ["a.md"]
    assert log.counts == {walk.OUTSIDE: 3}
    (tmp_path / "entry").symlink_to(tmp_path / "root")
    assert sorted(names(tmp_path / "entry", outside=False)) == ["a.md"], "the root itself may be a link"


def test_special_files_and_odd_names(tmp_path: Path) -> None:
    make(tmp_path, "a b.md", "日本.md")
    os.mkfifo(tmp_path / "pipe.md")
    descriptor = os.open(os.fsencode(tmp_path) + b"/\xff.md", os.O_CREAT | os.O_WRONLY)
    os.close(descriptor)
    log = SkipLog()
    found = list(scan(tmp_path, skipped=log))
    assert [file.relative for file in found] == ["a b.md", "日本.md", "\\xff.md"]
    assert found[-1].path.exists()
    assert log.counts == {"not a regular file": 1}
    assert next(iter(log)) == Skipped("pipe.md", "not a regular file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_without_permission_are_counted(tmp_path: Path) -> None:
    make(tmp_path, "a.md", "locked/b.md", "c.md")
    (tmp_path / "locked").chmod(0)
    (tmp_path / "c.md").chmod(0)
    try:
        log = SkipLog()
        assert [file.relative for file, _ in read_files(scan(tmp_path, skipped=log), log)] == ["a.md"]
        assert (log.counts["permission denied"], log.failed) == (2, 2)
    finally:
        (tmp_path / "locked").chmod(0o700)


def test_folders_that_cannot_be_read_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.md", "locked/b.md", "open/c.md")
    real = os.scandir

    def refuse(path: object) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return real(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", refuse)
    log = SkipLog()
    assert names(tmp_path, skipped=log) == ["a.md", "open/c.md"]
    assert list(log) == [Skipped("locked", "permission denied", failed=True)]


def test_files_that_vanish_are_counted(tmp_path: Path) -> None:
    make(tmp_path, "a.md", "b.md")
    log = SkipLog()
    read = []
    for file, _ in read_files(scan(tmp_path, skipped=log), log):
        read.append(file.relative)
        (tmp_path / "b.md").unlink(missing_ok=True)
    assert read == ["a.md"]
    assert list(log) == [Skipped("b.md", "no such file or directory", failed=True)]


def test_a_wrong_root_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file or directory"):
        scan(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MediaError, match="neither a file nor a folder"):
        scan(tmp_path / "pipe")


def test_unknown_types_are_counted_but_are_no_failures(tmp_path: Path) -> None:
    make(tmp_path, "a.md", "b.bin", "c.bin")
    (tmp_path / "d.txt").write_bytes(b"\x00")
    log = SkipLog(keep=1)
    assert [file.relative for file, _ in read_files(scan(tmp_path), log)] == ["a.md"]
    assert log.counts == {"not a type that is read": 2, "binary, not text": 1}
    assert (log.failed, len(log), len(list(log))) == (1, 3, 2)
    assert [record.path for record in log.records("not a type that is read")] == ["b.bin"]


def test_deep_trees(tmp_path: Path) -> None:
    make(tmp_path, "/".join(["d"] * 300) + "/a.md")
    assert len(names(tmp_path)) == 1
