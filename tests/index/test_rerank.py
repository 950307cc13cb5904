"""The first hits in another model's order: any object, a cross-encoder, and what neither can be given."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fixtures.indexes import documents
from fixtures.pictures import picture, write_pdf
from fixtures.rerankers import Brightness, SharedWords, save_cross_encoder
from fixtures.tiny_models import TEXTS

from smart_retrieval.errors import (
    ModelNotFoundError,
    NonFiniteError,
    ScoringError,
    SmartError,
    SmartWarning,
    UnsupportedModelError,
)
from smart_retrieval.index import rerank as reranking
from smart_retrieval.index.smart_index import SmartIndex

TORCHVISION = Path(os.environ.get("SMART_TORCHVISION", Path(sys.prefix) / "torchvision"))
QUERY = "the otter swims in the sea"


@pytest.fixture
def index(make):
    opened = make()
    opened.add(TEXTS, ids=[f"t{number:02d}" for number in range(len(TEXTS))])
    return opened


@pytest.fixture(scope="session")
def cross_encoder(tmp_path_factory):
    return save_cross_encoder(tmp_path_factory.mktemp("rerankers") / "tiny-reranker")


@pytest.fixture(autouse=True)
def forget():
    reranking.load_reranker.cache_clear()


@pytest.mark.parametrize("depth", [1, 3, 8, 100])
@pytest.mark.parametrize("k", [2, 5, 17])
def test_the_first_hits_are_ordered_by_it_and_the_others_follow(index, depth, k):
    before = index.search(QUERY, 17)
    reranker = SharedWords()
    hits = index.search(QUERY, k, rerank=reranker, rerank_depth=depth)
    assert [text for _, text in reranker.seen] == [hit.text for hit in before[:depth]]
    assert {query for query, _ in reranker.seen} == {QUERY}
    words = {hit.id: len({*QUERY.split()} & {*hit.text.split()}) for hit in before}
    first = sorted(before[:depth], key=lambda hit: -words[hit.id])  # stable: ties keep the hybrid's order
    assert [hit.id for hit in hits] == [hit.id for hit in [*first, *before[depth:]]][:k]
    scores = {hit.id: hit.score for hit in before}
    for place, hit in enumerate(hits):
        assert hit.score == scores[hit.id]
        assert hit.rerank == (words[hit.id] if place < depth else None)


def test_it_comes_after_everything_else(index):
    options = {"feedback": 0.5, "neighbours": 0.2}
    before = index.search(QUERY, 4, **options)
    hits = index.search(QUERY, 4, rerank=SharedWords(), rerank_depth=4, **options)
    assert {(hit.id, hit.score, hit.feedback) for hit in hits} == {(hit.id, hit.score, hit.feedback) for hit in before}
    assert hits.best == before.best
    why = index.explain(QUERY, hits[0].id, rerank=SharedWords(), **options)
    assert why.score == pytest.approx(hits[0].score, abs=1e-5)
    assert why.rerank == hits[0].rerank
    assert why.likeness()[-1] == f"reranked with {why.rerank:.4f}, which orders the first hits"


def test_a_batch_gives_what_its_queries_give_alone(index):
    queries = [QUERY, "tax is due", "bread and butter"]
    found = index.search(queries, 5, rerank=SharedWords())
    alone = [index.search(query, 5, rerank=SharedWords()) for query in queries]
    assert [[(hit.id, hit.rerank) for hit in hits] for hits in found] == [
        [(hit.id, hit.rerank) for hit in hits] for hits in alone
    ]


def test_a_cross_encoder_by_folder_and_as_an_object(index, cross_encoder):
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(cross_encoder))
    by_folder = index.search(QUERY, 5, rerank=cross_encoder)
    expected = model.predict([(QUERY, hit.text) for hit in by_folder])
    np.testing.assert_allclose([hit.rerank for hit in by_folder], expected, atol=1e-5)
    assert list(expected) == sorted(expected, reverse=True)
    by_object = index.search(QUERY, 5, rerank=model)
    assert [hit.id for hit in by_object] == [hit.id for hit in by_folder]
    assert reranking.load_reranker(str(cross_encoder)) is reranking.load_reranker(str(cross_encoder))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"head": False}, "BertModel without a trained head"), ({"labels": 3}, "found 3 labels")],
)
def test_what_is_no_reranker_is_refused(index, tmp_path, options, message):
    folder = save_cross_encoder(tmp_path / "encoder", **options)
    with pytest.raises(UnsupportedModelError, match=message):
        index.search(QUERY, rerank=folder)


def test_what_cannot_be_loaded_has_a_named_error(index, tmp_path):
    with pytest.raises(ModelNotFoundError, match="no such folder"):
        index.search(QUERY, rerank=str(tmp_path / "missing"))
    with pytest.raises(ModelNotFoundError, match="CrossEncoder loads, found"):
        index.search(QUERY, rerank=tmp_path)
    with pytest.raises(ScoringError, match=r"found int, expected a CrossEncoder"):
        index.search(QUERY, rerank=3)


def test_the_code_of_a_checkpoint_never_runs(index, tmp_path):
    folder = save_cross_encoder(tmp_path / "trap")
    ran = tmp_path / "ran"
    (folder / "modeling.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "modeling.Trap"}
    (folder / "config.json").write_text(json.dumps(config))
    index.search(QUERY, rerank=folder)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("scores", "error", "message"),
    [
        (lambda count: [[0.1, 0.9]] * count, ScoringError, r"shape \[5, 2\]"),
        (lambda count: [1.0] * (count - 1), ScoringError, r"shape \[4\]"),
        (lambda count: [float("nan")] * count, NonFiniteError, "NaN"),
    ],
)
def test_scores_that_are_none_are_refused(index, scores, error, message):
    class Broken:
        def predict(self, pairs):
            return scores(len(pairs))

    with pytest.raises(error, match=message):
        index.search(QUERY, 5, rerank=Broken(), rerank_depth=5)


def test_it_needs_the_query_itself_and_a_depth(index):
    with pytest.raises(SmartError, match="rerank: found encoded queries"):
        index.search(documents([3]), 5, rerank=SharedWords())
    with pytest.raises(ScoringError, match="rerank_depth: found 0"):
        index.search(QUERY, 5, rerank=SharedWords(), rerank_depth=0)


def test_nothing_found_and_nothing_wanted(make, index):
    assert len(make().search(QUERY, rerank=SharedWords())) == 0
    assert len(index.search(QUERY, 0, rerank=SharedWords())) == 0


def test_a_deadline_leaves_no_time_for_it(index):
    reranker = SharedWords()
    hits = index.search(QUERY, 3, rerank=reranker, deadline_ms=0)
    if hits.partial:
        assert not reranker.seen
    assert len(hits) == 3


# -- pictures ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def gallery(visual, tmp_path):
    """Two pictures and a page indexed from a folder, and a picture that never was a file."""
    files = tmp_path / "files"
    files.mkdir()
    picture(1).save(files / "1.png")
    picture(2).save(files / "2.png")
    write_pdf(files / "a.pdf", 1)
    with SmartIndex.create(tmp_path / "a.smart", visual, files_as="pages", codec="float32") as index:
        index.index_folder(files, show_progress=False)
        index.add([picture(3)], ids=["memory"])
        yield index, files


def test_pictures_are_read_from_their_files_again(gallery):
    index, _ = gallery
    with pytest.warns(SmartWarning, match=r"1 of the first 4 hits were not reranked.*'memory': found no file"):
        hits = index.search("the otter", 4, rerank=Brightness("text", "image"))
    assert [hit.kind for hit in hits[:3]].count("page") == 1
    assert [hit.rerank for hit in hits[:3]] == sorted((hit.rerank for hit in hits[:3]), reverse=True)
    assert (hits[3].id, hits[3].rerank) == ("memory", None)
    by_picture = index.search(picture(1), 1, where="source = '1.png'", rerank=Brightness("text", "image"))
    assert by_picture[0].rerank == next(hit.rerank for hit in hits if hit.source == "1.png")


def test_a_file_that_is_gone_is_counted(gallery):
    index, files = gallery
    (files / "1.png").unlink()
    with pytest.warns(SmartWarning, match="2 of the first 4 hits were not reranked"):
        hits = index.search("the otter", 4, rerank=Brightness("text", "image"))
    assert [hit.rerank is None for hit in hits] == [False, False, True, True]


def test_a_reranker_for_texts_alone_is_refused_for_pictures(gallery, cross_encoder):
    index, _ = gallery
    with pytest.raises(UnsupportedModelError, match="found image and a reranker that does not take that"):
        index.search("the otter", 2, where="source = '1.png'", rerank=cross_encoder)


def test_a_captioned_picture_is_given_with_its_words(visual, tmp_path):
    picture(1).save(tmp_path / "1.png")
    seen = []

    class Kept(SharedWords):
        def predict(self, pairs):
            seen.extend(pairs)
            return [0.0] * len(pairs)

    with SmartIndex.create(tmp_path / "a.smart", visual, codec="float32") as index:
        index.add([{"text": "a red square", "image": tmp_path / "1.png"}], ids=["captioned"])
        index.search({"text": "otter", "image": tmp_path / "1.png"}, rerank=Kept())
    query, document = seen[0]
    assert (query["text"], document["text"]) == ("otter", "a red square")
    assert query["image"].size == document["image"].size == (160, 128)


def test_a_vision_language_model_asked_for_yes_or_no(tmp_path):
    if not (TORCHVISION / "torchvision").is_dir():
        pytest.skip(f"no torchvision: pip install --no-deps --target {TORCHVISION} torchvision")
    here = Path(__file__).parent
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TORCHVISION), str(here.parent), *sys.path])}
    done = subprocess.run(
        [sys.executable, str(here / "picture_reranker.py"), str(tmp_path)],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    hits, asked = found["hits"], found["asked"]
    assert {source for source, _, _ in hits} == {*asked, "clip.mp4"}
    assert [rerank for *_, rerank in hits] == sorted((rerank for *_, rerank in hits), reverse=True)
    for source, _, rerank in hits:
        if source in asked:
            assert rerank == pytest.approx(asked[source], abs=1e-4)
