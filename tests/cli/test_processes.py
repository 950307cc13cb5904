"""The command line as a process: two at once, stopped, without permission, on a full disk."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smart_retrieval.index.smart_index import SmartIndex
from smart_retrieval.index.store.store import Store

ROOT = Path(__file__).parents[2]
FILES = 3000


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    for number in range(FILES):
        (folder / f"{number:04d}.txt").write_text(f"the otter number {number} swims in the cold river " * 2)
    return folder


def test_two_runs_at_once_on_a_new_index(forked, docs, tiny, tmp_path):
    index, part = tmp_path / "new.smart", ["--include", "000*", "--include", "001*"]
    runs = [forked.start("index", docs, "--index", index, "--model", tiny("mean"), *part, "--json") for _ in range(2)]
    ends = [command.wait() for command in runs]
    assert [(status, stderr) for status, _, stderr in ends] == [(0, "")] * 2
    with SmartIndex.open(index) as opened:
        assert sorted(opened.store.ids()) == [f"{number:04d}.txt#0" for number in range(20)]
        assert len(opened.store.files.all()) == 20
        assert opened.verify().ok


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped(number, status, forked, docs, tiny, tmp_path):
    index = tmp_path / "stopped.smart"
    command = forked.start("index", docs, "--index", index, "--model", tiny("mean"))
    deadline = time.monotonic() + 120
    while not _count(index) and time.monotonic() < deadline:
        time.sleep(0.02)
    code, stdout, stderr = command.kill(number)
    stored = _count(index)
    assert code == status, stderr
    assert stdout == ""
    assert stderr == f"smart: stopped: {stored:,} passages stored in {index}; run the same command again to go on\n"
    assert 0 < stored < FILES
    with Store.open(index) as store:
        assert store.verify().ok


def _count(index):
    if not (index / "index.sqlite").exists():
        return 0
    with Store.open(index) as store:
        return store.count()


# -- without permission ------------------------------------------------------------------------------------------------


@pytest.fixture
def frozen(tiny, tmp_path):
    """An index in a folder that the caller of ``unprivileged`` cannot write to, and whether it has a log."""
    from smart_retrieval import SmartModel

    path = Path("/tmp") / f"smart-frozen-{os.getpid()}"  # others can look into it, unlike into tmp_path
    index = SmartIndex.create(path, SmartModel(tiny("mean"), device="cpu"))
    index.add(["the otter swims", "tax is due", "bread and butter"])
    index.search("otter")
    yield index
    index.close()
    os.chmod(path, 0o755)
    shutil.rmtree(path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("log", [False, True], ids=["closed", "with a log"])
def test_a_folder_that_cannot_be_written_to(log, frozen, tmp_path):
    path, model = frozen.path, frozen.model
    if log:  # as a run that was killed leaves it
        for name in ("index.sqlite", "index.sqlite-wal"):
            shutil.copy(path / name, tmp_path / name)
        assert (tmp_path / "index.sqlite-wal").stat().st_size
    frozen.close()
    if log:
        for name in ("index.sqlite", "index.sqlite-wal"):
            shutil.copy(tmp_path / name, path / name)
        (path / "index.sqlite-shm").unlink(missing_ok=True)
    for file in [*path.rglob("*"), path]:
        os.chmod(file, 0o555 if file.is_dir() else 0o444)
    child = os.fork()
    if not child:
        try:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            os.environ["TMPDIR"] = "/tmp"
            from fixtures.commands import loaded, run

            assert not os.access(path, os.W_OK)
            found = loaded(run("verify", path, "--json"))
            assert found["ok"], found
            assert any("not checked" in note for note in found["notes"]), found
            assert loaded(run("info", path, "--json"))["documents"] == 3
            with SmartIndex.open(path, model, mode="r") as opened:
                assert len(opened.search("otter")) == 3
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# -- a full disk -------------------------------------------------------------------------------------------------------


def test_a_disk_that_is_full(docs, tiny, tmp_path):
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    (tmp_path / "disk").mkdir()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    script = [sys.executable, "-m", "fixtures.full_disk", tmp_path / "disk", docs, tiny("mean")]
    command = f'mount -t tmpfs -o size=2m none "{tmp_path / "disk"}" && exec "$@"'
    run = subprocess.run(
        ["unshare", "-rm", "sh", "-c", command, "sh", *map(str, script)],
        env=environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert "the disk is full" in found["error"]
    assert 10 <= found["stored"] < 1000
    assert found["ok"] is found["ok_after"] is True
    assert found["stored_after"] == 1000
