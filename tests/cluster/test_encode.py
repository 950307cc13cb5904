"""Datasets encoded in one process: parts, bad documents, shards, and runs that were stopped."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval import ShardedIndex, SmartIndex
from smart_retrieval.cluster.dataset import open_dataset, read_rows
from smart_retrieval.cluster.encode import InProcess, encode_dataset, encoded_parts
from smart_retrieval.cluster.rows import Columns
from smart_retrieval.errors import DatasetError, EncodingRunError, IndexMismatchError

WORDS = ["logs", "oak", "rotate", "night", "burn", "slow", "file", "tree", "wood", "disk", "error", "cloud", "rain"]


def texts(count, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(2, 5))) for _ in range(count)]


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" if isinstance(row, dict) else f"{row}\n" for row in rows))
    return path


def bad_rows(out):
    return {row["id"] or row["place"]: row["reason"] for row in pq.read_table(out / "bad.parquet").to_pylist()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """120 rows in two Parquet files with small row groups."""
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(2):
        own = texts(60, number)
        rows = [
            {"id": f"d{number}{i:03d}", "text": text, "metadata": json.dumps({"year": 2000 + i % 5}), "score": i / 2}
            for i, text in enumerate(own)
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{number}.parquet", row_group_size=17)
    return folder


def test_embeddings_of_parquet_rows(tmp_path, corpus, tiny, smart):
    report = encode_dataset(corpus, tmp_path / "out", str(tiny("mean")), part_size=25)
    assert (report.documents, report.bad, report.parts, report.parts_before) == (120, 0, 6, 0)
    found = list(encoded_parts(tmp_path / "out"))
    documents = [one for part, _ in found for one in part]
    assert [one["id"] for one in documents] == [f"d{n}{i:03d}" for n in range(2) for i in range(60)]
    assert documents[3]["metadata"] == {"year": 2003, "score": 1.5}
    assert [one["text"] for one in documents] == texts(60, 0) + texts(60, 1)
    expected = smart("mean", preset="default").encode_document(texts(60, 1)[-10:], show_progress=False)
    np.testing.assert_allclose(found[-1][1].anchors, expected.anchors, atol=1e-5)
    assert isinstance(found[0][1].token_vectors.base, np.memmap) or isinstance(found[0][1].token_vectors, np.memmap)


def test_shards_are_one_index(tmp_path, corpus, tiny, smart):
    model = smart("mean", preset="default")
    report = encode_dataset(
        corpus, tmp_path / "out", str(tiny("mean")), index=True, shards=3, part_size=25, codec="float16"
    )
    assert (report.documents, report.shards) == (120, 3)
    with SmartIndex.create(tmp_path / "whole.smart", model, codec="float16") as whole:
        rows = [row for n in range(2) for row in pq.read_table(corpus / f"{n}.parquet").to_pylist()]
        whole.add([row["text"] for row in rows], ids=[row["id"] for row in rows])
        with ShardedIndex.open(tmp_path / "out", model) as shards:
            assert len(shards) == 120
            assert all(len(shard) > 20 for shard in shards.shards)
            assert len({json.dumps(one.store.manifest.calibration) for one in shards.shards}) == 1
            assert shards.calibration().lambda_late == pytest.approx(whole.calibration().lambda_late, rel=0.2)
            same = {"lambda_late": 1.0, "floor": None}
            for query in texts(5, 9):
                expected = [hit.id for hit in whole.search(query, **same)]
                assert [hit.id for hit in shards.search(query, **same)] == expected
            assert shards.count("year = 2003") == 24
            assert shards.shards[0].store.manifest.language == "other"
    assert sorted(one.name for one in (tmp_path / "out").iterdir() if not one.name.startswith(".")) == [
        "bad.parquet", "encode.json", "shard-00000", "shard-00001", "shard-00002",
    ]  # fmt: skip
    assert not (tmp_path / "out" / ".parts").exists()


def test_bad_documents_are_rows_with_a_reason(tmp_path, tiny):
    rows = [
        {"id": "good", "text": "logs rotate"},
        {"id": "empty", "text": "   "},
        {"id": None, "text": "oak"},
        "{not json",
        "[1, 2]",
        {"id": "good", "text": "again"},
        {"id": "far", "text": "sea", "image": "https://example.org/a.png"},
        {"id": "gone", "text": "sea", "image": "gone.png"},
        {"id": "odd", "text": "rain", "metadata": [1]},
        {"id": "nul\u0000", "text": "cloud"},
        {"text": "without an id"},
        {"id": 7, "text": ["two", "parts"], "page": 3, "source": "a.txt"},
    ]
    data = jsonl(tmp_path / "rows.jsonl", rows)
    report = encode_dataset(data, tmp_path / "out", str(tiny("mean")), part_size=4)
    assert bad_rows(tmp_path / "out") == {
        "empty": "no text and no picture",
        "rows.jsonl#3": "no id",
        "rows.jsonl#4": "not JSON",
        "rows.jsonl#5": "not JSON",
        "far": "a picture that is no file",
        "gone": "a picture that is not there",
        "odd": "metadata that is no object",
    }
    documents = {one["id"]: one for part, _ in encoded_parts(tmp_path / "out") for one in part}
    assert set(documents) == {"good", "nul", "rows.jsonl#11", "7"}
    assert (documents["7"]["text"], documents["7"]["page"], documents["7"]["source"]) == ("two\nparts", 3, "a.txt")
    # Of one id in two parts of embeddings, both are there, and said so.
    assert (report.documents, report.bad, report.repeated) == (5, 7, 1)
    indexed = encode_dataset(data, tmp_path / "index", str(tiny("mean")), index=True, codec="float16", part_size=4)
    assert (indexed.documents, indexed.bad, indexed.repeated) == (4, 8, 1)
    assert bad_rows(tmp_path / "index")["good"] == "id was used before"


def test_a_folder_of_files_is_cut_into_passages(tmp_path, tiny):
    (tmp_path / "docs").mkdir()
    for number, text in enumerate(texts(13)):
        (tmp_path / "docs" / f"{number:02d}.md").write_text(f"# Note {number}\n\n{text}\n")
    (tmp_path / "docs" / "broken.docx").write_bytes(b"PK\3\4 no archive")
    (tmp_path / "docs" / "data.bin").write_bytes(b"\0\1")
    report = encode_dataset(
        tmp_path / "docs", tmp_path / "out", str(tiny("mean")), index=True, codec="float16", part_size=40
    )
    assert (report.documents, report.bad, report.left_out, report.parts) == (13, 1, 1, 4)
    reasons = bad_rows(tmp_path / "out")
    assert set(reasons) == {"broken.docx", "data.bin"}
    with ShardedIndex.open(tmp_path / "out", str(tiny("mean")), mode="r") as shards:
        ids = sorted(id for shard in shards.shards for id in shard.store.ids())
        assert [one.source for one in shards.get(ids)] == [f"{number:02d}.md" for number in range(13)]
        assert shards.shards[0].store.manifest.root == str((tmp_path / "docs").resolve())


class Killed(BaseException):
    """In place of a kill: nothing may catch it."""


class Killer:
    """A runner that ends a stage after some items, and leaves what a killed worker would."""

    def __init__(self, after):
        self.after = after

    def run(self, stage, worker, job, items, folder):
        for result in InProcess().run(stage, worker, job, items, folder):
            if self.after == 0:
                raise Killed
            self.after -= 1
            yield result


@pytest.mark.parametrize("index", [False, True])
def test_a_run_that_is_stopped_goes_on(tmp_path, corpus, tiny, index):
    out, options = tmp_path / "out", {"index": index, "codec": "float16", "part_size": 25, "shards": 2}
    model = str(tiny("mean"))
    stops = 0
    for after in (0, 1, 2, 6, 1):
        try:
            encode_dataset(corpus, out, model, runner=Killer(after), **options)
        except Killed:
            stops += 1
            parts = out / ".parts" if index else out
            (parts / ".part-0000003.old.1").mkdir(exist_ok=True)  # what a killed worker leaves
    assert stops >= 3
    report = encode_dataset(corpus, out, model, **options)
    assert (report.documents, report.parts_before) == (120, 6)
    again = encode_dataset(corpus, out, model, **options)
    assert (again.documents, again.parts_before) == (120, 6)
    assert not list(out.glob(".part-*"))
    if index:
        with ShardedIndex.open(out, model, mode="r") as shards:
            ids = [id for shard in shards.shards for id in shard.store.ids()]
    else:
        ids = [one["id"] for part, _ in encoded_parts(out) for one in part]
    assert sorted(ids) == [f"d{n}{i:03d}" for n in range(2) for i in range(60)]


def test_a_run_killed_between_its_last_steps_goes_on(tmp_path, corpus, tiny, monkeypatch):
    from smart_retrieval.cluster import encode

    out, model = tmp_path / "out", str(tiny("mean"))
    options = {"index": True, "codec": "float16", "shards": 3, "part_size": 60}

    def dies(file, facts, real=encode._write_json):
        if "report" in facts:
            (out / "shard-00001").rename(out / ".shards" / "shard-00001")  # the last renames were not done
            raise Killed
        real(file, facts)

    with monkeypatch.context() as patch:
        patch.setattr(encode, "_write_json", dies)
        with pytest.raises(Killed):
            encode_dataset(corpus, out, model, **options)
    with pytest.raises(IndexMismatchError, match="expected all 3 shards"):
        ShardedIndex.open(out, model, mode="r")
    assert encode_dataset(corpus, out, model, **options).documents == 120
    with ShardedIndex.open(out, model, mode="r") as shards:
        assert len(shards) == 120


def test_a_codec_that_is_only_named_is_fitted_once_and_shared(tmp_path, corpus, tiny):
    report = encode_dataset(
        corpus, tmp_path / "out", str(tiny("mean")), index=True, shards=2, part_size=30, codec="int8"
    )
    assert report.documents == 120
    with ShardedIndex.open(tmp_path / "out", str(tiny("mean"))) as shards:
        assert {shard.codec().name for shard in shards.shards} == {"int8"}
        assert len({shard.codec().hash for shard in shards.shards}) == 1
    given = encode_dataset(
        corpus, tmp_path / "again", str(tiny("mean")), index=True, codec=tmp_path / "out" / "codec.safetensors"
    )
    assert given.documents == 120


def test_another_run_another_dataset_and_another_model_are_refused(tmp_path, corpus, tiny):
    out, model = tmp_path / "out", str(tiny("mean"))
    encode_dataset(corpus, out, model, part_size=60)
    with pytest.raises(EncodingRunError, match="of other settings or of another dataset"):
        encode_dataset(corpus, out, model, part_size=50)
    with pytest.raises(EncodingRunError, match="pooling 1, not 2"):
        encode_dataset(corpus, out, model, part_size=60, token_pooling=2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("a")
    with pytest.raises(EncodingRunError, match=r"found a\.txt in it"):
        encode_dataset(corpus, tmp_path / "full", model)
    from smart_retrieval.cluster.encode import _alone

    with _alone(out), pytest.raises(EncodingRunError, match="another run is writing"):
        encode_dataset(corpus, out, model, part_size=60)


def test_nothing_to_encode(tmp_path, tiny):
    with pytest.raises(DatasetError, match="no such file"):
        encode_dataset(tmp_path / "gone", tmp_path / "out", str(tiny("mean")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no rows, lines or files"):
        encode_dataset(tmp_path / "empty", tmp_path / "out", str(tiny("mean")))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DatasetError, match=r"bad\.parquet as Parquet"):
        encode_dataset(tmp_path / "bad.parquet", tmp_path / "out", str(tiny("mean")))
    data = jsonl(tmp_path / "rows.jsonl", [{"id": "a", "text": ""}])
    with pytest.raises(EncodingRunError, match="1 × no text and no picture"):
        encode_dataset(data, tmp_path / "out2", str(tiny("mean")))


def test_a_part_that_keeps_ending_its_process_is_named(tmp_path, corpus, tiny):
    from smart_retrieval.cluster.parts import Job, PartEncoder

    dataset = open_dataset(corpus, 30)
    for number in range(3):
        (tmp_path / f".part-0000001.run.{number}").mkdir()
    encoder = PartEncoder(Job(dataset, tmp_path, str(tiny("mean")), "run"))
    assert encoder(dataset.parts[0]).documents == 30
    with pytest.raises(EncodingRunError, match=r"part-0000001 \(0\.parquet, rows 30 to 59\): .* 3 times"):
        encoder(dataset.parts[1])


def test_pages_and_pictures(tmp_path, tiny_vlm):
    from fixtures.pictures import picture

    (tmp_path / "data" / "img").mkdir(parents=True)
    picture(1).save(tmp_path / "data" / "img" / "a.png")
    packed = (tmp_path / "data" / "img" / "a.png").read_bytes()
    (tmp_path / "data" / "img" / "broken.png").write_bytes(packed[:60])
    rows = [
        {"id": "file", "text": None, "images": [{"path": "img/a.png", "bytes": None}]},
        {"id": "packed", "text": "a caption", "images": [{"path": None, "bytes": packed}]},
        {"id": "broken", "text": None, "images": [{"path": "img/broken.png", "bytes": None}]},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / "rows.parquet")
    model = str(tiny_vlm("qwen3-vl-embedding"))
    report = encode_dataset(tmp_path / "data", tmp_path / "out", model, index=True, codec="float16", columns=Columns())
    assert (report.documents, report.bad, report.pictures) == (2, 1, 2)
    assert list(bad_rows(tmp_path / "out")) == ["broken"]
    with ShardedIndex.open(tmp_path / "out", model, mode="r") as shards:
        assert {one.id: one.media.kind for one in shards.get(["file", "packed"])} == {
            "file": "image",
            "packed": "image",
        }
        assert shards.get("file")[0].source.endswith("img/a.png")


def test_pages_of_pdfs(tmp_path, tiny_vlm):
    pytest.importorskip("pypdfium2")
    from fixtures.pictures import write_pdf

    model = str(tiny_vlm("qwen3-vl-embedding"))
    (tmp_path / "docs").mkdir()
    write_pdf(tmp_path / "docs" / "report.pdf", 2)
    (tmp_path / "docs" / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    report = encode_dataset(tmp_path / "docs", tmp_path / "pages", model, index=True, codec="float16")
    assert (report.documents, report.bad, report.pictures) == (2, 1, 2)
    with ShardedIndex.open(tmp_path / "pages", model, mode="r") as shards:
        assert shards.get("report.pdf#page=2")[0].media.kind == "page"
    rows = [
        {"id": "second", "image": "docs/report.pdf", "page": 2},
        {"id": "which", "image": "docs/report.pdf"},
        {"id": "ninth", "image": "docs/report.pdf", "page": 9},
        {"id": "half", "text": "a", "page": 1.5},
    ]
    data = jsonl(tmp_path / "rows.jsonl", rows)
    assert encode_dataset(data, tmp_path / "rows", model).documents == 1
    reasons = bad_rows(tmp_path / "rows")
    assert (reasons["which"], reasons["half"]) == ("a PDF without a page", "no page number")
    ((documents, _),) = encoded_parts(tmp_path / "rows")
    assert [(one["id"], one["page"], one["kind"]) for one in documents] == [("second", 2, "page")]


@given(lines=st.lists(st.sampled_from([b'{"text": "a"}', b"", b"{", b'{"text": "\xff"}', b"x" * 70]), max_size=40),
       size=st.integers(1, 7), ended=st.booleans())  # fmt: skip
def test_every_line_is_in_one_part_whatever_their_size(tmp_path_factory, lines, size, ended):
    path = tmp_path_factory.mktemp("lines") / "rows.jsonl"
    path.write_bytes(b"\n".join(lines) + (b"\n" if ended and lines else b""))
    count = len(lines) if ended or not lines or lines[-1] else len(lines) - 1
    try:
        dataset = open_dataset(path, size)
    except DatasetError:
        assert count == 0
        return
    assert [part.start for part in dataset.parts] == list(range(0, count, size))
    found = {row.name: row for part in dataset.parts for row in read_rows(dataset, part)}
    assert set(found) == {f"rows.jsonl#{number}" for number, line in enumerate(lines, 1) if line}
    good = {name for name, row in found.items() if not row.reason}
    assert good == {f"rows.jsonl#{number}" for number, line in enumerate(lines, 1) if line == b'{"text": "a"}'}


@pytest.mark.parametrize("size", [1, 7, 17, 20, 59, 60, 200])
def test_every_row_of_parquet_is_in_one_part(corpus, size):
    dataset = open_dataset(corpus, size)
    ids = [row.values["id"] for part in dataset.parts for row in read_rows(dataset, part)]
    assert ids == [f"d{n}{i:03d}" for n in range(2) for i in range(60)]
