"""BEIR folders: good ones are read exactly; errors in bad ones name file and line."""

import json
from pathlib import Path

import pytest

from smart_retrieval.errors import DatasetError
from smart_retrieval.evaluation.beir import content_fingerprint, load_beir

CORPUS = [
    {"_id": "d1", "title": "Wings", "text": "Lift and drag."},
    {"_id": "d2", "title": "", "text": " Heat in slabs. "},
    {"_id": "d3", "text": "No title at all."},
]
QUERIES = [{"_id": "q2", "text": "heat"}, {"_id": "q1", "text": "wings"}]
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td3\t0\nq2\td2\t1\n"


def jsonl(records) -> str:
    return "".join(record if isinstance(record, str) else json.dumps(record) + "\n" for record in records)


@pytest.fixture
def write(tmp_path):
    """Write a folder, any of its files replaced; None leaves the file out."""

    def write(corpus=CORPUS, queries=QUERIES, qrels=QRELS, split="test") -> Path:
        folder = tmp_path / "tiny"
        (folder / "qrels").mkdir(parents=True, exist_ok=True)
        files = {"corpus.jsonl": corpus, "queries.jsonl": queries, f"qrels/{split}.tsv": qrels}
        for name, content in files.items():
            if content is None:
                continue
            content = jsonl(content) if isinstance(content, list) else content
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder

    return write


def test_good_folder(write):
    data = load_beir(write())
    assert (data.name, data.split, data.warnings) == ("tiny", "test", [])
    assert data.document_ids == ["d1", "d2", "d3"]
    assert data.texts == ["Wings Lift and drag.", "Heat in slabs.", "No title at all."]
    assert data.query_ids == ["q2", "q1"], "the order of the query file"
    assert data.queries == ["heat", "wings"]
    assert data.qrels == {"q2": {"d2": 1}, "q1": {"d1": 2, "d3": 0}}
    assert list(data.qrels) == data.query_ids


def test_video_and_sound_of_documents_and_queries(write):
    folder = write()
    (folder / "talk.wav").write_bytes(b"one")
    corpus = [{"_id": "d1", "audio": "talk.wav"}, {"_id": "d2", "text": "said", "audio": "talk.wav#t=1.5,3"}]
    queries = [{"_id": "q2", "video": "talk.wav#t=2"}, QUERIES[1]]
    data = load_beir(write([*corpus, CORPUS[2]], queries))
    first, second, _ = data.items("document")
    whole, part = (folder / "talk.wav").resolve(), (second.audio.start, second.audio.end)
    assert (first.audio.path, first.audio.start, second.text, part) == (whole, None, "said", (1.5, 3.0))
    (clip, _), contents = data.items("query"), data.contents("document")
    assert (clip.video.path, clip.video.start, clip.audio) == (whole, 2.0, None)
    assert len(set(contents)) == 3
    before = data.fingerprint
    (folder / "talk.wav").write_bytes(b"two")
    assert load_beir(folder).fingerprint != before
    with pytest.raises(DatasetError, match=r"corpus.jsonl, line 1: .*not a part .3.0 to 1.0 s"):
        load_beir(write([{"_id": "d1", "audio": "talk.wav#t=3,1"}, *CORPUS[1:]]))


def test_pictures_of_documents_and_queries(write):
    folder = write()
    (folder / "a.png").write_bytes(b"one")
    (folder / "r.PDF").write_bytes(b"%PDF")
    corpus = [{"_id": "d1", "image": "a.png"}, {"_id": "d2", "text": "with words", "image": "r.PDF#page=3"}, CORPUS[2]]
    data = load_beir(write(corpus, [{"_id": "q2", "text": "heat", "image": "a.png"}, QUERIES[1]]))
    assert (data.texts[:2], data.warnings) == (["", "with words"], [])
    first, second, third = data.items("document")
    assert (first.text, first.images, second.text, third) == ("", (folder / "a.png",), "with words", CORPUS[2]["text"])
    assert (second.images[0].path, second.images[0].page) == ((folder / "r.PDF").resolve(), 3)
    assert data.items("query")[0].images == (folder / "a.png",)
    before = data.fingerprint
    (folder / "a.png").write_bytes(b"two")
    assert load_beir(folder).fingerprint != before


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("b.png", "line 1: found no file"),
        ("https://x/y.png", "nothing is fetched"),
        ("r.pdf", "without a page"),
        (7, "found 7 as image"),
        (None, "found no text for _id 'd1', expected a string, or an image"),
    ],
)
def test_pictures_that_are_none(write, image, message):
    folder = write()
    (folder / "r.pdf").write_bytes(b"%PDF")
    with pytest.raises(DatasetError, match=message):
        load_beir(write([{"_id": "d1", "image": image}, *CORPUS[1:]]))


def test_tolerated_variants_are_read_the_same(write):
    plain = load_beir(write())
    corpus = "\ufeff\n" + jsonl(CORPUS).replace("\n", "\r\n\r\n")
    queries = b"\xef\xbb\xbf" + jsonl(QUERIES).encode().rstrip(b"\n")
    qrels = QRELS.split("\n", 1)[1].replace("\n", "\r\n") + "\n\n"
    same = load_beir(write(corpus, queries, qrels))
    assert (same.texts, same.queries, same.qrels) == (plain.texts, plain.queries, plain.qrels)
    assert same.fingerprint == plain.fingerprint


def test_line_separators_inside_a_text_do_not_split_it(write):
    text = "a\u2028b\x85c\x0bd"
    folder = write([{"_id": "d1", "text": "x"}, json.dumps({"_id": "d2", "text": text}, ensure_ascii=False) + "\n"])
    assert load_beir(folder).texts[1] == text


def test_integer_ids_and_null_title(write):
    folder = write(
        [{"_id": 7, "title": None, "text": "seven"}], [{"_id": 1, "text": "q"}], "query-id\tcorpus-id\tscore\n1\t7\t1\n"
    )
    data = load_beir(folder)
    assert (data.document_ids, data.texts, data.qrels) == (["7"], ["seven"], {"1": {"7": 1}})


def test_other_split(write):
    folder = write()
    write(qrels="q1\td3\t1\n", split="dev")
    data = load_beir(folder, split="dev")
    assert data.qrels == {"q1": {"d3": 1}}
    assert data.warnings == ["1 query without any judgment in split 'dev' left out: 'q2'"]


BAD_LINES = {
    "malformed": ('{"_id": "x", "text": \n', "malformed JSON .*column"),
    "huge number": ('{"_id": "x", "text": ' + "9" * 5000 + "}\n", "cannot be read"),
    "too deep": ("[" * 200_000 + "\n", "cannot be read"),
    "not an object": ("[1]\n", "found a list, expected a JSON object"),
    "null": ("null\n", "found null, expected a JSON object"),
    "no id": ({"text": "t"}, "found no _id"),
    "empty id": ({"_id": "", "text": "t"}, "found '' as _id"),
    "null id": ({"_id": None, "text": "t"}, "found None as _id"),
    "boolean id": ({"_id": True, "text": "t"}, "found True as _id"),
    "id with a zero byte": ({"_id": "a\0b", "text": "t"}, "as _id"),
    "no text": ({"_id": "x"}, "found no text for _id 'x'"),
    "null text": ({"_id": "x", "text": None}, "found null as text of _id 'x'"),
    "number as text": ({"_id": "x", "text": 3}, "found a number as text of _id 'x'"),
    "list as title": ({"_id": "x", "title": [], "text": "t"}, "found a list as title of _id 'x'"),
    "half a surrogate pair": ({"_id": "x", "text": "\ud800"}, "surrogate"),
}


@pytest.mark.parametrize(("line", "message"), BAD_LINES.values(), ids=BAD_LINES)
@pytest.mark.parametrize("name", ["corpus", "queries"])
def test_errors_name_file_and_line_of_bad_texts(write, name, line, message):
    # A blank line before it: the number is that of the file, not of the record.
    folder = write(**{name: [*(CORPUS if name == "corpus" else QUERIES)[:2], "\n", line]})
    with pytest.raises(DatasetError, match=rf"{name}\.jsonl, line 4: .*{message}"):
        load_beir(folder)


@pytest.mark.parametrize("name", ["corpus", "queries"])
def test_duplicate_id_names_both_lines(write, name):
    records = CORPUS if name == "corpus" else QUERIES
    with pytest.raises(DatasetError, match=rf"{name}\.jsonl, line {len(records) + 1}: .*again, first given on line 1"):
        load_beir(write(**{name: [*records, records[0]]}))


def test_an_integer_and_a_string_id_can_clash(write):
    with pytest.raises(DatasetError, match="line 2: found the _id '7' again"):
        load_beir(write([{"_id": 7, "text": "a"}, {"_id": "7", "text": "b"}]))


@pytest.mark.parametrize("name", ["corpus", "queries", "qrels"])
def test_errors_name_bytes_that_are_not_utf8(write, name):
    good = {"corpus": jsonl(CORPUS), "queries": jsonl(QUERIES), "qrels": QRELS}[name].encode()
    lines = good.count(b"\n")
    with pytest.raises(DatasetError, match=rf"line {lines + 1}: found bytes that are not UTF-8 at column 3"):
        load_beir(write(**{name: good + b"ab\xff\n"}))


BAD_QRELS = {
    "two columns": ("q1\td2\n", "found 2 columns, expected 3"),
    "four columns": ("q1\t0\td2\t1\n", "found 4 columns, expected 3"),
    "spaces": ("q1 d2 1\n", "found 1 column, expected 3"),
    "word": ("q1\td2\thigh\n", "found score 'high'"),
    "fraction": ("q1\td2\t0.5\n", "found score '0.5'"),
    "underscore": ("q1\td2\t1_0\n", "found score '1_0'"),
    "too high": ("q1\td2\t1001\n", "found score '1001'"),
    "far too high": ("q1\td2\t" + "9" * 5000 + "\n", "found score"),
    "no score": ("q1\td2\t\n", "found score ''"),
    "no document": ("q1\t\t1\n", "empty id"),
    "conflict": ("q1\td1\t1\n", "which an earlier line gives 2"),
    "second header": ("query-id\tcorpus-id\tscore\n", "found score 'score'"),
}


@pytest.mark.parametrize(("line", "message"), BAD_QRELS.values(), ids=BAD_QRELS)
def test_errors_name_file_and_line_of_bad_judgments(write, line, message):
    with pytest.raises(DatasetError, match=rf"qrels/test\.tsv, line 5: .*{message}"):
        load_beir(write(qrels=QRELS + line))


def test_a_malformed_first_line_is_no_header(write):
    with pytest.raises(DatasetError, match="line 1: found score 'high'"):
        load_beir(write(qrels="q1\td1\thigh\n"))


def test_missing_folder(tmp_path):
    with pytest.raises(DatasetError, match=r"found no folder .*nowhere, expected one with corpus\.jsonl"):
        load_beir(tmp_path / "nowhere")


def test_missing_files_are_listed_with_what_is_there(write):
    folder = write(corpus=None, queries=None)
    with pytest.raises(DatasetError, match=r"no \S*corpus\.jsonl and no \S*queries\.jsonl; \S* holds qrels/"):
        load_beir(folder)


def test_missing_split_lists_those_available(write):
    folder = write()
    write(split="dev")
    with pytest.raises(DatasetError, match=r"found no \S*qrels/train\.tsv; .*splits available: dev, test"):
        load_beir(folder, split="train")
    (folder / "qrels" / "dev.tsv").unlink()
    (folder / "qrels" / "test.tsv").unlink()
    with pytest.raises(DatasetError, match="splits available: none"):
        load_beir(folder)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"corpus": []}, "found no documents"),
        ({"queries": "\n"}, "found no queries"),
        ({"qrels": ""}, "found no judgments"),
        ({"qrels": "query-id\tcorpus-id\tscore\n"}, "found no judgments"),
        ({"qrels": "q1\td1\t0\nq2\td1\t-1\n"}, "no query with a relevant document.*2 queries without a relevant"),
        ({"qrels": "stranger\td1\t1\n"}, "no query with a relevant document.*1 unknown query left out: 'stranger'"),
    ],
)
def test_nothing_to_evaluate(write, replaced, message):
    with pytest.raises(DatasetError, match=message):
        load_beir(write(**replaced))


def test_unknown_ids_are_counted_and_named(write):
    strangers = "".join(f"q1\tx{number}\t1\n" for number in range(4)) + "q2\tx0\t1\nq8\td1\t1\nq9\td1\t1\nq9\td2\t1\n"
    data = load_beir(write(qrels=QRELS + strangers))
    assert data.qrels == {"q2": {"d2": 1}, "q1": {"d1": 2, "d3": 0}}
    assert data.warnings == [
        "3 judgments of 2 unknown queries left out: 'q8', 'q9'",
        "5 judgments of 4 unknown documents left out: 'x0', 'x1', 'x2', …",
    ]


def test_queries_without_relevant_documents_are_left_out_and_counted(write):
    queries = [*QUERIES, {"_id": "q3", "text": "none"}, {"_id": "q4", "text": "zero"}, {"_id": "q5", "text": "gone"}]
    data = load_beir(write(queries=queries, qrels=QRELS + "q4\td1\t0\nq5\tx\t1\n"))
    assert data.query_ids == ["q2", "q1"]
    assert data.warnings == [
        "1 judgment of 1 unknown document left out: 'x'",
        "1 query without any judgment in split 'test' left out: 'q3'",
        "2 queries without a relevant document in split 'test' left out: 'q4', 'q5'",
    ]


def test_negative_grades_are_kept(write):
    assert load_beir(write(qrels=QRELS + "q2\td1\t-1\n")).qrels["q2"] == {"d2": 1, "d1": -1}


def test_repeated_judgments_count_once(write):
    data = load_beir(write(qrels=QRELS + "q1\td1\t2\n"))
    assert data.qrels["q1"] == {"d1": 2, "d3": 0}
    assert data.warnings == ["1 judgment repeated in test.tsv counted once: 'q1 d1'"]


def test_empty_texts_are_kept_and_counted(write):
    corpus = [*CORPUS, {"_id": "d4", "title": " ", "text": ""}, {"_id": "d5", "text": "\n"}]
    data = load_beir(write(corpus, [{"_id": "q1", "text": "  "}, QUERIES[0]]))
    assert data.texts[3:] == ["", ""]
    assert data.warnings == [
        "2 documents without any text kept: 'd4', 'd5'",
        "1 query without any text kept: 'q1'",
    ]


def test_the_fingerprint_changes_with_the_texts_in_use(write):
    folder = write()
    original = load_beir(folder).fingerprint
    assert load_beir(folder).fingerprint == original
    # A judgment changes no encoding, and a query that nobody judged is not used.
    write(qrels=QRELS.replace("q1\td1\t2", "q1\td1\t3"), queries=[*QUERIES, {"_id": "q9", "text": "unused"}])
    assert load_beir(folder).fingerprint == original
    for changed in (
        {"corpus": [*CORPUS[:2], {"_id": "d3", "text": "No title at all!"}]},
        {"corpus": [CORPUS[1], CORPUS[0], CORPUS[2]]},
        {"corpus": [*CORPUS[:2], {"_id": "d4", "text": "No title at all."}]},
        {"queries": [{"_id": "q2", "text": "cold"}, QUERIES[1]]},
    ):
        write(**{"corpus": CORPUS, "queries": QUERIES, **changed})
        assert load_beir(folder).fingerprint != original, changed


def test_content_fingerprint_separates_its_parts():
    assert content_fingerprint(["a", "b"], ["c", "d"]) != content_fingerprint(["a"], ["cbd"])
    assert content_fingerprint(["a"], ["b"]) != content_fingerprint(["b"], ["a"])
    with pytest.raises(ValueError, match="zip"):
        content_fingerprint(["a"], [])


REAL = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.parametrize(
    ("name", "documents", "queries", "judgments"), [("cranfield", 1400, 225, 1837), ("cacm", 3204, 52, 796)]
)
def test_real_collections(name, documents, queries, judgments):
    if not (REAL / name).is_dir():
        pytest.skip("the measuring collections are not on this machine")
    data = load_beir(REAL / name)
    assert (len(data.texts), len(data.queries)) == (documents, queries)
    assert sum(len(grades) for grades in data.qrels.values()) == judgments
