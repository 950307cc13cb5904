"""A document with the query's id is the query itself and not ranked for it, wherever a BEIR folder is judged."""

import numpy as np
import pytest
from fixtures.training import write_jsonl

from smart_retrieval import Readout, SmartModel
from smart_retrieval.core.presets import get_preset
from smart_retrieval.demo.text_demo import compare_questions
from smart_retrieval.evaluation.beir import load_beir
from smart_retrieval.evaluation.cache import EncodingCache
from smart_retrieval.evaluation.codecs import evaluate_codecs
from smart_retrieval.evaluation.compare import COMPARED, compare_beir
from smart_retrieval.evaluation.evaluate import evaluate_beir
from smart_retrieval.evaluation.metrics import METRICS
from smart_retrieval.evaluation.probe.sweep import Sweep
from smart_retrieval.evaluation.tune.run import tune
from smart_retrieval.training.data.batches import batch_of_step, training_rows
from smart_retrieval.training.data.mining import mine_negatives
from smart_retrieval.training.data.pairs import load_pairs
from smart_retrieval.training.hidden_states import LiveStates
from smart_retrieval.training.validation import Validation

# As in ArguAna: every argument is a document and asks for its counter-argument, which shares its words.
ARGUMENTS = {
    "otter-pro": "otter swim in the cold river", "otter-con": "otter swim in the warm river",
    "tax-pro": "tax is due now", "tax-con": "tax is due long",
    "moon-pro": "sun and moon will come down", "moon-con": "sun and moon will come up",
}  # fmt: skip
COUNTER = {"otter-pro": "otter-con", "tax-pro": "tax-con", "moon-con": "moon-pro"}


def write(folder, corpus, queries, judged):
    (folder / "qrels").mkdir(parents=True)
    write_jsonl(folder / "corpus.jsonl", [{"_id": name, "text": text} for name, text in corpus.items()])
    write_jsonl(folder / "queries.jsonl", [{"_id": name, "text": text} for name, text in queries.items()])
    for split in ("test", "train"):
        lines = [f"{query}\t{document}\t{grade}\n" for query, document, grade in judged]
        (folder / "qrels" / f"{split}.tsv").write_text("".join(lines))
    return folder


@pytest.fixture
def folder(tmp_path):
    judged = [(query, document, 1) for query, document in COUNTER.items()]
    return write(tmp_path / "arguments", ARGUMENTS, {name: ARGUMENTS[name] for name in COUNTER}, judged)


@pytest.fixture(scope="module")
def model(tiny):
    return SmartModel(tiny("mean"), device="cpu", readout=Readout((-3, -2)))


def test_every_row_of_every_report(folder, model):
    rows = {
        **{row["name"]: row for row in evaluate_beir(folder, model=model)["rows"]},
        **{row["name"]: row for row in compare_beir(folder, model=model)["systems"]},
        "codec": evaluate_codecs(folder, model=model, codecs="int8")["codecs"][0],
    }
    assert {"anchor", "late", "hybrid", "codec", *COMPARED} == set(rows)
    for name, row in rows.items():
        assert [row[metric] for metric in METRICS] == [1.0] * 4, name


def test_probe_tune_and_demo(folder, model):
    sweep = Sweep.encode(model, load_beir(folder))
    for system in ("anchor", "late", "hybrid"):
        assert sweep.per_query(get_preset("paper"), system=system).tolist() == [1.0] * 3
    row = tune([folder], model=model, folds=2)["rows"][0]
    assert [row[name] for name in ("anchor", "default", "in_sample")] == [1.0] * 3
    for question in compare_questions(model, load_beir(folder), EncodingCache(folder / "cache")):
        assert question["hybrid"]["results"][0]["grade"] == 1


def test_the_figures_are_those_of_mteb_where_the_task_says_so(folder, model, tmp_path):
    pytest.importorskip("mteb")
    from fixtures.mteb_tasks import local_task, rows, run

    from smart_retrieval.evaluation.mteb import IndexSearch, SmartSearch

    corpus = rows({"id": list(ARGUMENTS), "title": [""] * len(ARGUMENTS), "text": list(ARGUMENTS.values())})
    queries = rows({"id": list(COUNTER), "text": [ARGUMENTS[name] for name in COUNTER]})
    for number, search in enumerate((SmartSearch(model), IndexSearch(model, codec="float32"))):
        task = local_task(corpus, queries, {query: {document: 1} for query, document in COUNTER.items()})
        assert run(search, task, tmp_path / f"kept {number}")["ndcg_at_10"] == pytest.approx(0.63093)
        task.ignore_identical_ids = True
        found = run(search, task, tmp_path / f"ignored {number}")
        assert (found["ndcg_at_10"], found["map_at_1000"]) == (1.0, 1.0)


def test_what_is_left_out_is_said_and_nothing_else_is_left_out(folder):
    data = load_beir(folder)
    assert data.warnings == [
        "3 queries have the id of a document, which is not ranked for them, as in BEIR: "
        "'otter-pro', 'tax-pro', 'moon-con'"
    ]
    scores = np.arange(18, dtype=np.int64).reshape(3, 6)
    before = scores.copy()
    ranked = data.rank(scores, 10)
    assert list(ranked) == data.query_ids
    for query, names in ranked.items():
        assert names == [name for name in reversed(ARGUMENTS) if name != query]
    # Parts of the queries give what the whole gives, and the scores stay as they were.
    for part in (slice(0, 1), slice(1, 3)):
        assert data.rank(scores[part], 10, part) == {query: ranked[query] for query in data.query_ids[part]}
    np.testing.assert_array_equal(scores, before)


def test_a_document_judged_relevant_to_the_query_of_its_id_is_an_answer(tmp_path):
    """Home-made collections number both alike: document 1 answers query 1."""
    corpus = {"1": "otter", "2": "tax", "3": "moon"}
    data = load_beir(write(tmp_path / "own", corpus, {"1": "river", "2": "due"}, [("1", "1", 2), ("2", "3", 1)]))
    assert data.identical == {"2"}
    assert data.rank(np.float32([[3, 2, 1], [3, 2, 1]]), 3) == {"1": ["1", "2", "3"], "2": ["1", "3"]}
    not_relevant = [("1", "1", 0), ("1", "2", 1), ("2", "3", 1)]
    assert load_beir(write(tmp_path / "zero", corpus, {"1": "river", "2": "due"}, not_relevant)).identical == {"1", "2"}


def test_scores_are_not_copied_where_no_id_is_shared(tmp_path):
    data = load_beir(write(tmp_path / "plain", {"d1": "a", "d2": "b"}, {"q1": "a"}, [("q1", "d1", 1)]))
    scores = np.float32([[1, 2]])
    assert data.warnings == []
    assert data.without_identical(scores) is scores


def test_training_neither_mines_ranks_nor_contrasts_the_query_itself(tmp_path, model):
    # Here every argument asks, so that each is a document of the training set, and one judges itself.
    counter = {
        name: name.replace("-pro", "-con") if "-pro" in name else name.replace("-con", "-pro") for name in ARGUMENTS
    }
    judged = [*((query, document, 1) for query, document in counter.items()), ("tax-pro", "tax-pro", 0)]
    data = load_pairs(write(tmp_path / "all", ARGUMENTS, ARGUMENTS, judged))
    itself = {n: next(i for i, d in enumerate(data.documents) if d.text == q.text) for n, q in enumerate(data.queries)}
    assert [example.identical for example in data.examples] == [(itself[e.query],) for e in data.examples]
    assert all(not example.negatives for example in data.examples)
    assert data.relevant() == {e.query: {*e.positives, itself[e.query]} for e in data.examples}
    mined = mine_negatives(model, data, 5, below=1e9)
    for example in mined.examples:
        others = set(range(6)) - {itself[example.query], *example.positives}
        assert set(example.negatives) == others
        assert example.identical == (itself[example.query],)
    batch = batch_of_step(data, 0, batch_size=6, negatives=0, seed=0)
    for row, query in enumerate(batch.queries):
        assert batch.documents[int(batch.ignored[row].argmax())] == itself[query]
        assert batch.ignored[row].sum() == 1
    rows = training_rows(data, 2, seed=0)
    for query, *drawn in zip(rows["query"], rows["negative_1"], rows["negative_2"], strict=True):
        assert itself[query] not in drawn
    states = (LiveStates(model, items, task) for items, task in ((data.queries, "query"), (data.documents, "document")))
    measured = Validation(data, *states).measure(model.head)
    assert [measured[system] for system in ("anchor", "late", "hybrid")] == [1.0] * 3
    part = data.subset([1, 4], "part")
    for example in part.examples:
        assert [part.documents[d].text for d in example.identical] == [part.queries[example.query].text]
