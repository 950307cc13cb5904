"""Real processes, killed while encoding, ranking and writing: the final results are the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "fixtures/mmeb_killed.py"


@pytest.fixture(scope="module")
def runs(tmp_path_factory, mmeb_root, tiny_vlm):
    told = {
        "model": str(tiny_vlm("qwen3-vl-embedding")),
        "root": str(mmeb_root),
        "folder": str(tmp_path_factory.mktemp("killed")),
        "tasks": ["MSCOCO_t2i", "ViDoRe_esg_reports_human_labeled_v2"],
    }
    done = subprocess.run(
        [sys.executable, str(PROGRAM)],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_run_killed_at_any_point_ends_the_same(runs):
    names = [name for name in runs["snapshots"] if name.startswith("killed at")]
    assert len(names) == 6
    for name in names:
        assert runs["codes"][name] == [[-9], [0]], name
        assert runs["snapshots"][name] == runs["snapshots"]["whole"], name
        assert runs["left"][name] == [], name


def test_a_run_killed_many_times_ends_the_same(runs):
    codes = runs["codes"]["killed again and again"]
    assert codes.count([-9]) >= 3
    assert codes[-1] == [0]
    assert runs["snapshots"]["killed again and again"] == runs["snapshots"]["whole"]


def test_two_processes_give_what_one_gives(runs):
    assert runs["codes"]["two processes"] == [[0, 0]]
    assert runs["snapshots"]["two processes"] == runs["snapshots"]["whole"]


def test_a_run_of_two_processes_resumes_after_one_is_killed(runs):
    killed, resumed = runs["codes"]["one of two killed"]
    assert -9 in killed
    assert resumed == [0, 0]
    assert runs["snapshots"]["one of two killed"] == runs["snapshots"]["whole"]
    assert runs["left"]["one of two killed"] == []
