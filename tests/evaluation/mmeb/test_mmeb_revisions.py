"""Commits: read from what downloads leave behind, pinned by users, checked before a model is loaded."""

import json

import pytest
from fixtures.mmeb_layouts import Layout
from typer.testing import CliRunner

from smart_retrieval.cli.main import eval_app as app
from smart_retrieval.errors import DatasetError
from smart_retrieval.evaluation.mmeb.hub import MEDIA, check_revisions, read_pins, record_commit, recorded_commit
from smart_retrieval.evaluation.mmeb.run import evaluate_mmeb
from smart_retrieval.evaluation.mmeb.tasks import choose

ONE, TWO = "1" * 40, "2" * 40
MSVD = "VLM2Vec/MSVD"


def test_pins_from_the_command_line_and_from_a_file(tmp_path):
    file = tmp_path / "pins.toml"
    file.write_text(f'[revisions]\n"{MSVD}" = "{ONE}"\n"{MEDIA}" = "{ONE}"\n')
    assert read_pins([]) == {}
    assert read_pins([str(file), f"{MSVD}={TWO}"]) == {MSVD: TWO, MEDIA: ONE}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("VLM2Vec/MSVS=" + ONE, "VLM2Vec/MSVS.*VLM2Vec/MSVD"),
        (f"{MSVD}=main", "found 'main', expected a commit of 40"),
        (f"{MSVD}=" + ONE[:7], "expected a commit of 40"),
        ("none.toml", "none.toml.*expected DATA_SET=COMMIT"),
    ],
)
def test_malformed_pins_are_refused(value, message):
    with pytest.raises(DatasetError, match=message):
        read_pins([value])


@pytest.mark.parametrize("text", ["", "revisions = 3", '[revisions]\n"VLM2Vec/MSVD" = 3', "[revisions"])
def test_files_without_pins_are_refused(tmp_path, text):
    (tmp_path / "pins.toml").write_text(text)
    with pytest.raises(DatasetError, match="revision"):
        read_pins([str(tmp_path / "pins.toml")])


@pytest.mark.parametrize("place", [".", "annotations"])
def test_commits_recorded_by_hf_download_are_read(tmp_path, place):
    """Written by the Hub's own code, as ``hf download --local-dir`` has it."""
    from huggingface_hub._local_folder import write_download_metadata

    folder = tmp_path / place / MSVD
    folder.mkdir(parents=True)
    assert recorded_commit(tmp_path, MSVD) is None
    write_download_metadata(folder, "data/test-00000-of-00001.parquet", ONE, "etag")
    write_download_metadata(folder, "README.md", TWO, "etag")  # no annotations
    assert recorded_commit(tmp_path, MSVD) == ONE
    write_download_metadata(folder, "data/train.parquet", TWO, "etag")
    assert recorded_commit(tmp_path, MSVD) == f"{ONE}+{TWO}"
    (folder / "revision.json").write_text("[]")  # malformed: says nothing
    assert recorded_commit(tmp_path, MSVD) == f"{ONE}+{TWO}"
    (folder / "revision.json").write_text(json.dumps({"revision": TWO}))
    assert recorded_commit(tmp_path, MSVD) == TWO


def test_another_commit_is_refused_before_a_model_is_loaded(tmp_path):
    layout = Layout(tmp_path / "root")
    layout.write(choose(["MSVD"]))
    common = {"tasks": ["MSVD"], "model": "/no/such/model"}
    with pytest.raises(DatasetError, match=f"of an unknown commit in .*, expected {ONE}"):
        evaluate_mmeb(layout.root, tmp_path / "out", revisions={MSVD: ONE}, **common)
    record_commit(layout.root, MSVD, TWO)
    with pytest.raises(DatasetError, match=f"of commit {TWO} in .*, expected {ONE}"):
        evaluate_mmeb(layout.root, tmp_path / "out", revisions={MSVD: ONE}, **common)
    check_revisions(choose(["MSVD", "VATEX"]), layout.root, {MSVD: TWO, "VLM2Vec/VATEX": ONE})  # what is not there
    line = ["mmeb", "--data-root", str(layout.root), "--tasks", "MSVD", "--check"]
    assert CliRunner().invoke(app, [*line, "--revision", f"{MSVD}={TWO}"]).exit_code == 0
    assert isinstance(CliRunner().invoke(app, [*line, "--revision", f"{MSVD}={ONE}"]).exception, DatasetError)


def test_the_users_pin_overrides_the_tables(tmp_path):
    from dataclasses import replace

    (task,) = (replace(task, revision=ONE) for task in choose(["MSVD"]))
    record_commit(tmp_path, MSVD, TWO)
    with pytest.raises(DatasetError, match=f"expected {ONE}"):
        check_revisions([task], tmp_path, {})
    check_revisions([task], tmp_path, {MSVD: TWO})
