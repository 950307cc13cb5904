"""Training pairs: one schema, four sources."""

import json

import numpy as np
import pytest
from fixtures.pictures import picture, write_pdf
from fixtures.training import write_jsonl

from smart_retrieval.errors import DatasetError
from smart_retrieval.training.data.pairs import load_pairs


@pytest.fixture
def folder(tmp_path):
    picture(1).save(tmp_path / "one.png")
    write_pdf(tmp_path / "report.pdf", 3)
    return tmp_path


def test_every_form_of_a_row(folder):
    rows = [
        {"query": "otters", "positive": "one.png"},
        {"query": "pages", "positives": [{"image": "report.pdf#page=2"}, {"image": "one.png", "text": "a caption"}]},
        {"query": "", "query_image": "one.png", "instruction": "find alike", "positive": {"text": "squares"}},
        {"query": "otters", "positive": "swim", "negatives": ["sink", "one.png"], "scores": [3, 1.5, 0]},
    ]
    data = load_pairs(write_jsonl(folder / "pairs.jsonl", rows))
    assert [item.text for item in data.queries] == ["otters", "pages", ""]
    # A string is a text, even one that names a file.
    assert (data.documents[0].text, data.documents[0].images) == ("one.png", ())
    page, caption = data.documents[1].images[0], data.documents[2]
    assert (page.path, page.page) == (folder / "report.pdf", 2)
    assert page.load().mode == "RGB"
    assert (caption.text, caption.images) == ("a caption", (folder / "one.png",))
    assert (data.queries[2].images, data.queries[2].instruction) == ((folder / "one.png",), "find alike")
    first = data.examples[0]
    # The two rows of one query are one example, and a document that answers it is no negative of it.
    assert (first.positives, first.negatives) == ((0, 4), (5,))
    assert first.scores is None
    assert len(data.warnings) == 2


def test_recordings_and_videos(folder):
    (folder / "talk.wav").write_bytes(b"none")
    rows = [
        {"query": "applause", "positives": [{"audio": "talk.wav#t=60,90"}, {"video": "talk.wav", "text": "a clip"}]},
        {"query": "", "query_audio": "talk.wav", "positive": {"audio": "talk.wav#t=60,90"}},
    ]
    data = load_pairs(write_jsonl(folder / "pairs.jsonl", rows))
    assert (data.queries[1].audio.path.name, data.queries[1].audio.start) == ("talk.wav", None)
    part, clip = data.documents
    assert (part.audio.start, part.audio.end, clip.video.path.name, clip.text) == (60, 90, "talk.wav", "a clip")
    # Seconds of one file are parts of one document, as the pages of a file are.
    assert len(set(data.groups)) == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "no readable JSON"),
        ("[]", "expected a JSON object"),
        ({"query": "q"}, "one of positive and positives"),
        ({"query": "q", "positive": "a", "positives": ["b"]}, "one of positive and positives"),
        ({"query": "q", "positives": []}, "no positive"),
        ({"query": "q", "positives": "a"}, "expected a list"),
        ({"query": " ", "positive": "a"}, "empty query"),
        ({"query": 3, "positive": "a"}, "found int as query, expected a string"),
        ({"query": "q", "positive": "a", "answer": "b"}, r"unknown|keys \['answer'\]"),
        ({"query": "q", "positive": ""}, "empty document"),
        ({"query": "q", "positive": {"url": "x"}}, "expected a text or an object"),
        ({"query": "q", "positive": {"image": "gone.png"}}, "no file"),
        ({"query": "q", "positive": {"image": "https://a.b/c.png"}}, "nothing is fetched"),
        ({"query": "q", "positive": {"image": "report.pdf"}}, "without a page"),
        ({"query": "q", "positive": {"image": 3}}, "as image"),
        ({"query": "q", "positive": {"audio": "gone.wav"}}, "no file"),
        ({"query": "q", "positive": {"text": 3}}, "expected a string"),
        ({"query": "q", "positive": "a", "scores": [1, 2]}, "expected 1 finite"),
        ({"query": "q", "positive": "a", "scores": [True]}, "expected 1 finite"),
        ('{"query": "q", "positive": "a", "scores": [NaN]}', "expected 1 finite"),
    ],
    ids=str,
)
def test_an_error_names_file_and_line(row, message, folder):
    file = folder / "pairs.jsonl"
    file.write_text('{"query": "fine", "positive": "text"}\n\n' + (row if isinstance(row, str) else json.dumps(row)))
    with pytest.raises(DatasetError, match=message) as error:
        load_pairs(file)
    assert f"{file}, line 3" in str(error.value)


def test_missing_and_empty_sources_are_refused(tmp_path):
    for path in (tmp_path / "gone.jsonl", tmp_path):
        with pytest.raises(DatasetError, match="expected"):
            load_pairs(path)
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DatasetError, match="no training example"):
        load_pairs(tmp_path / "empty.jsonl")


def test_a_beir_folder(tmp_path):
    write_jsonl(tmp_path / "corpus.jsonl", [{"_id": f"d{i}", "title": "t", "text": f"x{i}"} for i in range(4)])
    write_jsonl(tmp_path / "queries.jsonl", [{"_id": f"q{i}", "text": f"y{i}"} for i in range(2)])
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "train.tsv").write_text("q0\td0\t2\nq0\td1\t0\nq1\td0\t1\nq1\td3\t1\n")
    data = load_pairs(tmp_path)
    assert [item.text for item in data.documents] == ["t x0", "t x1", "t x3"]
    assert [(e.positives, e.negatives) for e in data.examples] == [((0,), (1,)), ((0, 2), ())]
    with pytest.raises(DatasetError, match=r"no .*dev\.tsv"):
        load_pairs(tmp_path, "dev")


def test_lamras_layout(folder):
    pool = [{"did": "0:0", "txt": "a text"}, {"did": "0:1", "img_path": "one.png", "modality": "image"}]
    query = {"qid": "0:0", "query_txt": "q", "pos_cand_list": ["0:1"], "neg_cand_list": ["0:0"], "task_id": 1}
    write_jsonl(folder / "cand_pool.jsonl", pool)
    write_jsonl(folder / "query.jsonl", [query])
    data = load_pairs(folder)
    assert data.documents[0].images == (folder / "one.png",)
    assert (data.examples[0].positives, data.examples[0].negatives) == ((0,), (1,))
    write_jsonl(folder / "query.jsonl", [{**query, "pos_cand_list": ["0:9"]}])
    with pytest.raises(DatasetError, match=r"line 1: found pos_cand_list with unknown candidates \['0:9'\]"):
        load_pairs(folder)


def test_colpalis_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    images = []
    for number in (1, 2, 1):
        picture(number).save(tmp_path / "p.png")
        images.append({"bytes": (tmp_path / "p.png").read_bytes(), "path": None})
    table = {
        "image": [*images, images[0]],
        "image_filename": ["d_page_1.png", "d_page_2.png", "d_page_1.png", "x.png"],
        "query": ["first", "second", "third", None],
    }
    parquet.write_table(pyarrow.table(table), tmp_path / "train.parquet", row_group_size=2)
    data = load_pairs(tmp_path)
    assert [item.text for item in data.queries] == ["first", "second", "third"]
    assert [e.positives for e in data.examples] == [(0,), (1,), (0,)]
    assert len(set(data.groups)) == 1  # pages of one document
    assert np.array_equal(np.asarray(data.documents[1].images[0].load()), np.asarray(picture(2)))
    assert any("1 rows without a query" in warning for warning in data.warnings)
    parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "train.parquet")
    with pytest.raises(DatasetError, match="image and query"):
        load_pairs(tmp_path)
