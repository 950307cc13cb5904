"""Annotation files are found under every name the Hub gives them, and read with errors that name the row."""

import json

import pyarrow
import pytest
from pyarrow import parquet

from smart_retrieval.errors import DatasetError
from smart_retrieval.evaluation.mmeb.annotations import Row, find_annotations, read_rows


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}\n")
    return path


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ("", "test.parquet"),
        ("", "data/test-00000-of-00001.parquet"),
        ("", "data/test-00000-of-00001-1f3a.parquet"),
        ("", "default/test.jsonl"),
        ("", "test/test.json"),
        ("MC", "MC/test-00000-of-00001.parquet"),
        ("MC", "MC/test.parquet"),
        ("MC", "data/MC/test-00000-of-00001.parquet"),
        ("MC", "MC-test.jsonl"),
        ("MC", "MC.jsonl"),
    ],
)
@pytest.mark.parametrize("below", ["org/set", "annotations/org/set"])
def test_usual_names(tmp_path, config, name, below):
    path = touch(tmp_path / below / name)
    touch(tmp_path / below / "other" / "train-00000-of-00001.parquet")
    assert find_annotations(tmp_path, "org/set", config, "test") == [path]


def test_another_split_is_not_taken(tmp_path):
    touch(tmp_path / "org/set/data/test_1k-00000-of-00001.parquet")
    touch(tmp_path / "org/set/data/train.parquet")
    assert find_annotations(tmp_path, "org/set", "", "test") == []


def test_shards_come_in_order(tmp_path):
    paths = [touch(tmp_path / f"org/set/data/test-{number:05d}-of-00003.parquet") for number in (2, 0, 1)]
    assert find_annotations(tmp_path, "org/set", "", "test") == sorted(paths)


def test_the_readme_overrides_the_usual_names(tmp_path):
    folder = tmp_path / "org/set"
    right = touch(folder / "files/mine.jsonl")
    touch(folder / "test.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: A\n  data_files: wrong.jsonl\n- config_name: B\n  data_files:\n"
        "  - split: train\n    path: train.jsonl\n  - split: test\n    path:\n    - files/*.jsonl\n---\ntext\n"
    )
    assert find_annotations(tmp_path, "org/set", "B", "test") == [right]


@pytest.mark.parametrize(
    "matter",
    ["configs: 3", "configs:\n- 7", "]: {", "configs:\n- config_name: default\n  data_files: ../../secret.json"],
)
def test_a_malformed_readme_is_ignored(tmp_path, matter):
    touch(tmp_path / "secret.json")
    path = touch(tmp_path / "org/set/test.jsonl")
    (tmp_path / "org/set/README.md").write_text(f"---\n{matter}\n---\n")
    assert find_annotations(tmp_path, "org/set", "", "test") == [path]


def test_rows_of_parquet_and_json(tmp_path):
    rows = [{"a": 1, "b": "x", "c": [1]}, {"a": 2, "b": None, "c": []}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "r.parquet")
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "r.json").write_text(json.dumps(rows))
    for name in ("r.parquet", "r.jsonl", "r.json"):
        found = list(read_rows([tmp_path / name], ["a", "b"], optional=["z"]))
        assert [(row.text("a"), row.text("b")) for row in found] == [("1", "x"), ("2", "")]
        assert found[1].where.endswith(f"{name}, row 2")


@pytest.mark.parametrize(
    ("name", "content"),
    [("r.parquet", b"PAR1 no"), ("r.jsonl", b"{"), ("r.json", b"{}"), ("r.jsonl", b"3\n"), ("r.json", b"\xff")],
)
def test_errors_name_damaged_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=name):
        list(read_rows([tmp_path / name], ["a"]))


def test_errors_name_missing_columns(tmp_path):
    parquet.write_table(pyarrow.table({"b": [1]}), tmp_path / "r.parquet")
    (tmp_path / "r.jsonl").write_text('{"b": 1}\n')
    for name in ("r.parquet", "r.jsonl"):
        with pytest.raises(DatasetError, match=r"found columns \['b'\], expected a, b \(a missing\)"):
            list(read_rows([tmp_path / name], ["a", "b"]))


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda row: row.text("list"), "found list"),
        (lambda row: row.texts("number"), "expected a list of texts"),
        (lambda row: row.number("text"), "expected a number"),
        (lambda row: row.rows("list"), "expected a list of objects"),
        (lambda row: row.text("none"), "found no column 'none'"),
        (lambda row: row.text("truth"), "found bool"),
    ],
)
def test_errors_name_wrong_values(read, message):
    row = Row({"list": [1], "number": 3, "text": "x", "truth": True}, "file, row 1")
    with pytest.raises(DatasetError, match=f"file, row 1: .*{message}"):
        read(row)
