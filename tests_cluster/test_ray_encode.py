"""Encoding on Ray: the same as in one process, whatever is killed meanwhile."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from smart_retrieval import ShardedIndex
from smart_retrieval.cluster.encode import encode_dataset, encoded_parts
from smart_retrieval.cluster.ray_runs import RayRunner
from smart_retrieval.errors import EncodingRunError


@pytest.fixture
def rows(tmp_path, texts):
    """120 documents and one without a text."""
    found = [{"id": f"d{number:03d}", "text": text} for number, text in enumerate(texts(120))]
    found.insert(50, {"id": "empty", "text": ""})
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


def stored(out, model):
    with ShardedIndex.open(out, model, mode="r") as shards:
        return Counter(id for shard in shards.shards for id in shard.store.ids())


EVERY_ONE_ONCE = Counter(f"d{number:03d}" for number in range(120))


def test_shards_are_those_of_one_process(tmp_path, rows, model, runner):
    options = {"index": True, "shards": 3, "codec": "float16", "part_size": 20}
    report = encode_dataset(rows, tmp_path / "ray", model, runner=runner, **options)
    here = encode_dataset(rows, tmp_path / "here", model, **options)
    assert (report.documents, report.bad, report.reasons) == (120, 1, {"no text and no picture": 1})
    assert (report.documents, report.tokens, report.reasons) == (here.documents, here.tokens, here.reasons)
    assert stored(tmp_path / "ray", model) == EVERY_ONE_ONCE
    with ShardedIndex.open(tmp_path / "ray", model) as one, ShardedIndex.open(tmp_path / "here", model) as other:
        assert one.calibration() == other.calibration()
        for query in ("logs oak", "night rain"):
            assert [hit.id for hit in one.search(query)] == [hit.id for hit in other.search(query)]


def test_a_worker_that_is_killed_is_replaced(tmp_path, rows, model, runner):
    class Killer:
        """Kills the worker once, as soon as it has written something."""

        killed = False

        def run(self, stage, worker, job, items, folder):
            for result in runner.run(stage, _dies_once, (worker, job, str(tmp_path / "died")), items, folder):
                self.killed = True
                yield result

    report = encode_dataset(rows, tmp_path / "out", model, part_size=20, runner=Killer())
    assert (tmp_path / "died").exists()
    assert report.documents == 120
    assert Counter(one["id"] for part, _ in encoded_parts(tmp_path / "out") for one in part) == EVERY_ONE_ONCE


def _dies_once(given):
    worker, job, mark = given
    called = worker(job)

    def call(item):
        result = called(item)
        if not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return call


def test_a_stage_that_stalls_is_ended_by_its_name(tmp_path, rows, model, runner):
    stalling = RayRunner(stall_s=4.0, workers=1)

    class Sleeper:
        def run(self, stage, worker, job, items, folder):
            (folder / ".part-0000003.run.1").mkdir()
            yield from stalling.run(stage, _sleeps, str(tmp_path / "awake"), items, folder)

    with pytest.raises(EncodingRunError, match=r"stage 'encode' has stalled: .* 4 s; under way: part-0000003"):
        encode_dataset(rows, tmp_path / "out", model, part_size=20, runner=Sleeper())
    (tmp_path / "awake").touch()  # so that the worker leaves its CPU to others


def _sleeps(mark):
    def call(item):
        while not os.path.exists(mark):
            time.sleep(0.1)

    return call


def test_an_error_of_a_worker_has_its_name(tmp_path, rows, runner):
    with pytest.raises(EncodingRunError, match=r"stage 'encode': model .*gone.*: found no such folder"):
        encode_dataset(rows, tmp_path / "out", str(tmp_path / "gone"), part_size=20, runner=runner)


def test_the_command_goes_on_after_kill_9(tmp_path, rows, model):
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "smart_retrieval", "encode", str(rows), "--out", str(out), "--model", model, "--index",
        "--shards", "2", "--codec", "float16", "--part-size", "5", "--ray",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 100
    while time.monotonic() < until and not list(out.glob(".parts/part-*")):
        time.sleep(0.05)
    process.kill()
    process.wait()
    written = {path.name for path in out.glob(".parts/part-*")}
    assert written
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "120 documents" in again.stdout
    assert stored(out, model) == EVERY_ONE_ONCE
