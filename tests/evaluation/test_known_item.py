"""Known-item queries: no document contains a query, and one is relevant to it."""

import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smart_retrieval.errors import DatasetError
from smart_retrieval.evaluation.beir import load_beir
from smart_retrieval.evaluation.known_item import (
    KNOWN_ITEM_NOTE,
    Source,
    known_item_dataset,
    load_known_item,
    near_duplicates,
)

WORDS = [
    "otter",
    "river",
    "Stone",
    "kelp",
    "urchin",
    "sleeps",
    "the",
    "of",
    "a",
    "Ölwehr",
    "東京",
    "can't",
    "don't",
    "x1",
]
sentences = st.lists(st.sampled_from(WORDS), min_size=1, max_size=30).map(" ".join)
bodies = st.lists(sentences, max_size=6).map(lambda parts: ". ".join(parts))
documents = st.lists(st.tuples(st.one_of(st.just(""), sentences), bodies), min_size=2, max_size=12)


def plain(text):
    """Letters and digits alone, another way than the library's."""
    return " ".join(re.sub(r"[\W_]+", " ", re.sub("([東京])", r" \1 ", text.casefold())).split())


def made(pairs, **options):
    sources = [Source(f"d{place}", text, title) for place, (title, text) in enumerate(pairs)]
    return known_item_dataset(sources, folder="animals", **options)


# Without its middle sentence, the first text would hold a sentence of the second.
JOINED = [
    ("", "otter otter otter otter otter can't. 東京 otter 東京. otter otter otter"),
    ("", "otter. otter otter can't otter. otter otter otter otter otter otter otter 東京"),
]


@example(JOINED, 2, 0)
@given(documents, st.integers(1, 5), st.integers(0, 3))
def test_invariants(pairs, most, seed):
    try:
        data = made(pairs, queries=most, seed=seed)
    except DatasetError:
        return
    assert data == made(pairs, queries=most, seed=seed), "the same input and seed give the same collection"
    assert 1 <= len(data.queries) <= most
    assert len(set(data.query_ids)) == len(data.query_ids) == len(data.queries)
    assert len(set(data.document_ids)) == len(data.document_ids) == len(data.texts)
    assert set(data.document_ids) <= {f"d{place}" for place in range(len(pairs))}
    assert list(data.qrels) == data.query_ids
    for query, text in zip(data.query_ids, data.queries, strict=True):
        assert list(data.qrels[query].values()) == [1], "one relevant document"
        assert set(data.qrels[query]) <= set(data.document_ids)
        assert len(plain(text).split()) >= 3
        for document in data.texts:
            assert plain(text) not in plain(document)
            assert text.casefold() not in document.casefold()
    relevant = [next(iter(grades)) for grades in data.qrels.values()]
    assert len(set(relevant)) == len(relevant), "one query a document"
    assert data.warnings[0] == KNOWN_ITEM_NOTE


anything = st.text(st.characters(exclude_categories=("Cs",)) | st.sampled_from(" .\n?。ßİıſAbC東"), max_size=60)


@settings(max_examples=40)
@given(st.lists(st.tuples(anything, st.lists(anything | sentences, max_size=4).map(". ".join)), min_size=2, max_size=5))
def test_no_document_contains_a_query_in_any_script(pairs):
    try:
        data = made(pairs)
    except DatasetError:
        return
    for query in data.queries:
        assert query.strip()
        assert not [text for text in data.texts if query.casefold() in text.casefold()]


@given(documents)
def test_query_and_rest_together_keep_all_words(pairs):
    try:
        data = made(pairs, queries=100)
    except DatasetError:
        return
    queries = {next(iter(data.qrels[name])): text for name, text in zip(data.query_ids, data.queries, strict=True)}
    for name, text in zip(data.document_ids, data.texts, strict=True):
        title, body = pairs[int(name[1:])]
        # A title that the text repeats counts once.
        body = body.strip()
        if title and body.casefold().startswith(title.casefold()):
            body = body[len(title) :]
        if name in queries or plain(text) == plain(f"{title} {body}"):
            before = sorted(plain(f"{title} {body}").split())
            assert sorted(plain(f"{queries.get(name, '')} {text}").split()) == before


def test_titles_are_taken_out_of_all_documents():
    body = "It sleeps afloat, wrapped in kelp, and eats urchins all day."
    other = "Every spring the river carries stones and trees down to the sea."
    data = made([("The sea otter", body), ("How rivers rise", other)], queries=1)
    assert data.texts == [body, other]
    assert data.queries[0] in ("The sea otter", "How rivers rise")


def test_repeated_titles_are_removed_and_shared_titles_are_no_queries():
    body = "It sleeps afloat, wrapped in kelp, and eats urchins all day."
    other = "Every spring the river carries stones and trees down to the sea."
    data = made([("The sea otter", f"the sea otter. {body}"), ("Notes on rivers", other), ("Notes on rivers", "x")])
    assert dict(zip(data.document_ids, data.texts, strict=True))["d0"] == body
    assert "Notes on rivers" not in data.queries


def test_the_most_characteristic_sentence_is_cut_out():
    common = "The river is cold and the day is long here."
    rare = "An otter wraps kelp around its fur at night."
    data = made([
        ("", f"{common} {rare} {common[:-1]} too."),
        ("", f"{common} Boats pass by under the old bridge. Where is kelp for an otter with wet fur, asked a heron?"),
        ("", f"{common} Nothing else is known about the other side of this water, as far as maps go."),
    ])  # fmt: skip
    assert data.queries[0] == rare
    assert rare not in data.texts[0]
    assert common not in data.queries


def test_near_duplicates_are_left_out():
    text = "It sleeps afloat, wrapped in kelp, and eats urchins all day. In winter it stays close to the shore."
    other = "Every spring the river carries stones and trees down to the sea. Then the salmon come."
    data = made([("", text), ("", text.upper()), ("", other), ("", text.replace("winter", "autumn"))])
    assert data.document_ids == ["d0", "d2"]
    assert "2 documents left out that are much like another" in data.warnings


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=14), max_size=9))
def test_near_duplicates_equal_those_of_a_naive_loop(texts):
    def runs(words):
        return {tuple(words[start : start + 5]) for start in range(max(1, len(words) - 4))} if words else set()

    expected = set()
    for later in range(len(texts)):
        for earlier in range(later):
            one, two = runs(texts[earlier]), runs(texts[later])
            if one & two and 2 * len(one & two) >= min(len(one), len(two)):
                expected.add(later)
    assert near_duplicates(texts) == expected


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "0 documents"),
        ([("Just one title here", "and its text")], "1 documents"),
        ([("", "the same old text")] * 3, "1 documents"),
        ([("", "too short"), ("", "also short")], "no document to make a query of"),
    ],
)
def test_degenerate_collections_raise_dataset_errors(pairs, message):
    with pytest.raises(DatasetError, match=message):
        made(pairs)


def test_an_id_given_twice_is_an_error():
    with pytest.raises(DatasetError, match="'a' twice"):
        known_item_dataset([Source("a", "x"), Source("a", "y")], folder="f")


def corpus(folder, count=30):
    folder.mkdir()
    rows = [
        {
            "_id": str(place),
            "title": f"Field report number {place}",
            "text": f"On day {place} of the survey nobody saw otters by river {place * 7}, but the heron number "
            f"{place * 3} stood near stone {place * 11} of bank {place * 13}.",
        }
        for place in range(count)
    ]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def test_a_corpus_file(tmp_path):
    folder = corpus(tmp_path / "reports")
    data = load_known_item(folder, queries=7)
    assert (data.name, data.split, len(data.texts), len(data.queries)) == ("reports", "known-item", 30, 7)
    assert all(query.startswith("Field report number") for query in data.queries)
    few = load_known_item(folder, documents=10, queries=50)
    assert len(few.texts) == 10
    assert "10 of 30 documents taken at random (seed 0)" in few.warnings
    assert few.document_ids != load_known_item(folder, documents=10, queries=50, seed=1).document_ids


def test_written_as_beir_it_reads_back_the_same(tmp_path):
    """Written out in the BEIR layout and read back, it is the same."""
    data = load_known_item(corpus(tmp_path / "reports"), queries=7)
    out = tmp_path / "out"
    (out / "qrels").mkdir(parents=True)
    for name, ids, texts in (("corpus", data.document_ids, data.texts), ("queries", data.query_ids, data.queries)):
        rows = [json.dumps({"_id": own, "text": text}) + "\n" for own, text in zip(ids, texts, strict=True)]
        (out / f"{name}.jsonl").write_text("".join(rows), encoding="utf-8")
    lines = [f"{query}\t{document}\t1\n" for query, grades in data.qrels.items() for document in grades]
    (out / "qrels" / "test.tsv").write_text("".join(lines), encoding="utf-8")
    read = load_beir(out)
    assert (read.texts, read.queries, read.qrels, read.fingerprint) == (
        *(data.texts, data.queries, data.qrels, data.fingerprint),
    )


def test_a_folder_of_files(tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "otter.md").write_text(
        "# How the sea otter sleeps\n\nIt wraps itself in kelp, so that no current carries it away at night.\n",
        encoding="utf-8",
    )
    (notes / "river.txt").write_text(
        "Every spring the river carries stones down to the sea. Then salmon come, and with them all the bears of the "
        "valley and two or three eagles.",
        encoding="utf-8",
    )
    (notes / "broken.pdf").write_bytes(b"no pdf")
    (notes / "photo.xyz").write_bytes(b"\0")
    data = load_known_item(notes)
    assert data.document_ids == ["otter.md#0", "river.txt#0"]
    assert data.queries[0] == "How the sea otter sleeps"
    assert "1 files that could not be read left out" in data.warnings


def test_empty_folders_raise_dataset_errors(tmp_path):
    with pytest.raises(DatasetError, match="found no folder"):
        load_known_item(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="0 documents"):
        load_known_item(tmp_path)
    with pytest.raises(DatasetError, match="at least 2 and 1"):
        load_known_item(tmp_path, queries=0)
