"""``smart encode``, in one process, and what it refuses."""

import json

from fixtures.commands import loaded, run

from smart_retrieval import ShardedIndex
from smart_retrieval.cluster.encode import encoded_parts


def rows(folder):
    path = folder / "rows.jsonl"
    found = [{"_id": f"d{number}", "title": "Logs", "text": f"otter {number}", "year": 2000} for number in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*found, {"_id": "empty", "title": "", "text": ""}]))
    return path


def test_embeddings_and_shards(tmp_path, tiny):
    fields = ("--id-field", "_id", "--text-field", "title", "--text-field", "text", "--model", tiny("mean"))
    report = loaded(run("encode", rows(tmp_path), "--out", tmp_path / "vectors", *fields, "--json"))
    assert (report["documents"], report["bad"], report["reasons"]) == (12, 1, {"no text and no picture": 1})
    ((documents, embeddings),) = encoded_parts(tmp_path / "vectors")
    assert (documents[3]["id"], documents[3]["text"], len(embeddings)) == ("d3", "Logs\n\notter 3", 12)
    index = ("--index", "--shards", 2, "--codec", "float16", "--part-size", 5)
    said = run("encode", rows(tmp_path), "--out", tmp_path / "shards", *fields, *index)
    assert said.exit_code == 0, said.output
    assert "12 documents" in said.output
    assert "in 2 shards" in said.output
    assert "not encoded, 1 × no text and no picture" in said.output
    with ShardedIndex.open(tmp_path / "shards", str(tiny("mean")), mode="r") as shards:
        assert shards.get("d3")[0].metadata == {"year": 2000}
    again = run("encode", rows(tmp_path), "--out", tmp_path / "shards", *fields, *index)
    assert "another dataset" in str(again.exception)  # written anew, so that its time is another


def test_options_that_do_not_fit_are_refused(tmp_path):
    for options, message in (
        (("--workers", 2), "without --ray"),
        (("--shards", 2), "without --index"),
        (("--codec", "int8"), "without --index"),
        (("--as", "films"), "expected one of auto, text, pages"),
    ):
        result = run("encode", rows(tmp_path), "--out", tmp_path / "out", *options)
        assert (result.exit_code, message in result.output.replace("│", "")) == (2, True), result.output
    result = run("serve", tmp_path / "a.smart", "--replicas", 2)
    assert (result.exit_code, "without --ray" in result.output) == (2, True)
    result = run("serve", tmp_path / "a.smart", tmp_path / "b.smart", "--ray")
    assert (result.exit_code, "expected the shards of one" in result.output) == (2, True)
