"""Layer by layer on a judged collection of pictures or texts: what each point is, and the command."""

import json

import pytest
from typer.testing import CliRunner

from smart_retrieval import Readout, SmartModel, anchor_scores, hybrid_scores, late_scores
from smart_retrieval.cli.main import eval_app as app
from smart_retrieval.demo.glyph_pages import glyph_collection, write_beir
from smart_retrieval.errors import UnsupportedModelError
from smart_retrieval.evaluation import load_beir
from smart_retrieval.evaluation.evaluate import evaluate_beir
from smart_retrieval.evaluation.metrics import per_query_metrics, rank
from smart_retrieval.evaluation.probe.layers import ablate_collection

PAGES = 24


@pytest.fixture(scope="module")
def collection():
    return glyph_collection("test", PAGES)


@pytest.fixture(scope="module")
def folder(collection, tmp_path_factory):
    return write_beir(collection, tmp_path_factory.mktemp("glyph") / "pages")


@pytest.fixture(scope="module")
def glyph():
    return SmartModel("glyph", preset="paper", device="cpu")


def test_every_layer_of_one_pass_is_a_model_that_reads_it_alone(glyph, collection, folder, monkeypatch):
    read, passes = load_beir(folder), []
    assert (read.texts[0], len(read.media)) == ("", len(read.document_ids))
    assert glyph.anchor_dim == 64
    forward = type(glyph.backbone).forward
    monkeypatch.setattr(type(glyph.backbone), "forward", lambda *args: passes.append(1) or forward(*args))
    found = ablate_collection(folder, model=glyph, layers=(3, 1, 0), batch_size=PAGES)
    assert len(passes) == 2
    assert [point["layer"] for point in found["points"]] == [0, 1, 3]
    texts, pages = [query.text for query in collection.queries], [page.image() for page in collection.pages]
    names, ids = [query.id for query in collection.queries], [page.id for page in collection.pages]
    for point in found["points"]:
        own = glyph.with_readout(Readout((-1 if point["layer"] == 3 else point["layer"],)))
        moved = own.with_anchor_of(point["layer"])
        late, both = ((one.encode_query(texts), one.encode_document(pages)) for one in (own, moved))
        scores = {
            "late": hybrid_scores(*late), "both": hybrid_scores(*both), "late_alone": late_scores(*late),
            "anchor_alone": anchor_scores(*both),
        }  # fmt: skip
        for kind, values in scores.items():
            ranked = dict(zip(names, rank(values, ids, 10), strict=True))
            mean = per_query_metrics(collection.qrels, ranked)["ndcg@10"].mean()
            assert point[kind]["mean"] == pytest.approx(100 * mean, abs=1e-6)
    assert found["points"][-1]["both"] == found["points"][-1]["late"]
    assert found["points"][-1]["anchor_alone"] == found["anchor"]
    rows = {row["name"]: 100 * row["ndcg@10"] for row in evaluate_beir(folder, model=glyph)["rows"]}
    last = found["points"][-1]
    assert rows == pytest.approx(
        {
            name: last[kind]["mean"]
            for name, kind in (("anchor", "anchor_alone"), ("late", "late_alone"), ("hybrid", "late"))
        }
    )


def test_the_command_on_texts_and_on_pictures(folder, tmp_path):
    pytest.importorskip("matplotlib")
    arguments = ["layers", str(folder), "--model", "glyph", "--layers", "1,-1", "--device", "cpu", "--json"]
    arguments += ["--cache", str(tmp_path / "cache"), "--plot", str(tmp_path / "curve.svg")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    found = json.loads(done.stdout)
    assert (found["collection"], found["metric"], found["documents"]) == ("pages", "ndcg@10, %", PAGES)
    assert (tmp_path / "curve.svg").read_text().count("<path") > 5
    assert list((tmp_path / "cache/encodings").iterdir())
    both = CliRunner().invoke(app, [*arguments, "--data-root", str(tmp_path)])
    assert both.exit_code == 2
    neither = CliRunner().invoke(app, ["layers"])
    assert neither.exit_code == 2
    with pytest.raises(UnsupportedModelError, match="found an input with image, expected text"):
        ablate_collection(folder, model="minilm", device="cpu")
