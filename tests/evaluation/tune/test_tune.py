"""What tune chooses, and what it claims, against loops over the public functions."""

import json
from dataclasses import replace

import numpy as np
import pytest
from fixtures.commands import loaded, run
from fixtures.tiny_models import HIDDEN, WORDS
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval import Readout, SmartIndex, SmartModel
from smart_retrieval.core.adapter import Adapter, AdapterConfig
from smart_retrieval.core.calibration import Calibration
from smart_retrieval.core.hybrid import hybrid_scores
from smart_retrieval.core.presets import Preset, get_preset
from smart_retrieval.core.scoring import Scoring
from smart_retrieval.core.weights import IdfWeights
from smart_retrieval.errors import DatasetError, ScoringError, SmartError
from smart_retrieval.evaluation.beir import load_beir
from smart_retrieval.evaluation.metrics import rank
from smart_retrieval.evaluation.significance import paired_comparison
from smart_retrieval.evaluation.tune import run as tune_run
from smart_retrieval.evaluation.tune import settings as tune_settings
from smart_retrieval.evaluation.tune import tune
from smart_retrieval.evaluation.tune.run import CollectionScores, compared, cross_validate, split_folds
from smart_retrieval.evaluation.tune.settings import grid, setting_dict, setting_name

DEFAULT = get_preset("default")
SMALL = [
    DEFAULT,
    replace(DEFAULT, scoring=DEFAULT.scoring.override(weights="uniform", lambda_late=0.0, floor=None)),
    Preset("default", Readout()),
    Preset("default", Readout((0,), token_filter="content"), Scoring("idf", 1.0, 4.0)),
    Preset("default", Readout((1, -1), "concat"), Scoring("uniform", 1.0, 2.0, 0.4)),
    Preset("default", Readout((-2,)), Scoring("idf", 1.0, 0.25)),
]


def collection(folder, queries=24, documents=20, seed=0, relevant=None):
    """Random words; judged at random unless `relevant` says which document belongs to each query."""
    (folder / "qrels").mkdir(parents=True)
    rng = np.random.default_rng(seed)
    texts = {
        "corpus": [" ".join(rng.choice(WORDS, int(size))) for size in rng.integers(5, 16, documents)],
        "queries": [" ".join(rng.choice(WORDS, int(size))) for size in rng.integers(2, 6, queries)],
    }
    for name, values in texts.items():
        lines = [json.dumps({"_id": f"{name[0]}{n:02}", "text": text}) for n, text in enumerate(values)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    chosen = rng.integers(0, documents, queries) if relevant is None else relevant
    lines = [f"q{query:02}\tc{document:02}\t1" for query, document in enumerate(chosen)]
    (folder / "qrels" / "test.tsv").write_text("\n".join(lines))
    return folder


def scores(model, data, setting):
    own = model.with_readout(setting.readout)
    documents, queries = own.encode_document(data.texts), own.encode_query(data.queries)
    found = Calibration.fit(documents)
    weights = IdfWeights.fit(documents) if setting.scoring.weights == "idf" else None
    late, floor = setting.scoring.lambda_late, setting.scoring.floor
    late, floor = found.lambda_late if late == "calibrated" else late, found.floor if floor == "calibrated" else floor
    return hybrid_scores(queries, documents, lambda_late=late, weights=weights, floor=floor)


def naive_ndcg(model, data, setting):
    """One relevant document a query: 1 / log2(1 + its place), 0 beyond ten."""
    listed = rank(scores(model, data, setting), data.document_ids, 10)
    values = []
    for query, names in zip(data.query_ids, listed, strict=True):
        (wanted,) = data.qrels[query]
        values.append(1 / np.log2(names.index(wanted) + 2) if wanted in names else 0.0)
    return values


@pytest.fixture
def coarse(monkeypatch):
    """Every readout and weighting, with fewer floors and lambdas."""
    monkeypatch.setattr(tune_settings, "FLOORS", (None, 0.4))
    monkeypatch.setattr(tune_settings, "LAMBDAS", (1.0, 4.0))


@pytest.fixture
def small_grid(monkeypatch):
    monkeypatch.setattr(tune_run, "grid", lambda *_, **__: SMALL)


@pytest.fixture(scope="module")
def prompted(tiny):
    return SmartModel(tiny("prompts"), device="cpu")


def test_a_naive_loop_chooses_the_same_and_finds_the_same_out_of_fold(prompted, tmp_path, small_grid):
    folders = [collection(tmp_path / "a"), collection(tmp_path / "b", queries=10, seed=1)]
    result = tune(folders, model=prompted, folds=3, seed=1)
    loaded_data = [load_beir(folder) for folder in folders]
    values = [[naive_ndcg(prompted, data, setting) for setting in SMALL] for data in loaded_data]
    folds = [split_folds(data.queries, 3, 1).tolist() for data in loaded_data]

    def best(left_out):
        gains = []
        for setting in range(len(SMALL)):
            relative = []
            for own, fold in zip(values, folds, strict=True):
                kept = [place for place, number in enumerate(fold) if number != left_out]
                anchor = sum(own[1][place] for place in kept) / len(kept)
                relative.append((sum(own[setting][place] for place in kept) / len(kept) - anchor) / anchor)
            gains.append(sum(relative) / 2)
        return max(range(len(SMALL)), key=lambda setting: (round(gains[setting], 10), -setting))

    chosen = [best(fold) for fold in range(3)]
    assert len({*chosen, best(None)}) > 1, "one that is always chosen would test little"
    assert [row["chosen"]["name"] for row in result["folds"]] == [setting_name(SMALL[place]) for place in chosen]
    assert result["chosen"] == {"name": setting_name(SMALL[best(None)]), **setting_dict(SMALL[best(None)])}
    for row, own, fold in zip(result["rows"], values, folds, strict=True):
        outside = [own[chosen[number]][place] for place, number in enumerate(fold)]
        assert row["out_of_fold"] == pytest.approx(np.mean(outside))
        assert row["in_sample"] == pytest.approx(np.mean(own[best(None)]))
        assert [row[name] for name in ("default", "anchor", "paper")] == pytest.approx(
            [np.mean(own[place]) for place in range(3)]
        )
        assert row["gain"] == pytest.approx(paired_comparison(own[0], outside).to_dict())
        assert row["over_anchor"] == pytest.approx(paired_comparison(own[1], outside).to_dict())
    relative = [(row["out_of_fold"] - row["default"]) / row["anchor"] for row in result["rows"]]
    assert result["gain"]["difference"] == pytest.approx(np.mean(relative))
    assert result["agreement"]["whole"] == chosen.count(best(None))
    assert [fact["dataset"]["name"] for fact in result["collections"]] == ["a", "b"]
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def planted_collection(model, folder, setting, queries=24):
    """Relevant is what the setting ranks first, so no other can be better."""
    data = load_beir(collection(folder / "draft", queries=queries))
    first = scores(model, data, setting).argmax(axis=1).tolist()
    return collection(folder / "planted", queries=queries, relevant=first)


def test_a_planted_setting_is_found_and_written(prompted, tmp_path, coarse):
    planted = Preset("default", Readout((0,), token_filter="content"), Scoring("idf", 1.0, 4.0))
    folder = planted_collection(prompted, tmp_path, planted)
    target = tmp_path / "tuned"
    result = tune([folder], model=prompted, write=target)
    assert result["rows"][0]["in_sample"] == pytest.approx(1.0)
    assert result["rows"][0]["out_of_fold"] > result["rows"][0]["default"]
    assert result["chosen"]["layers"] == [-4]
    assert result["verdict"]["better"]
    assert result["written"] == str(target)
    tuned = SmartModel(target, device="cpu")
    assert {**tuned.preset.readout.to_dict(), **tuned.preset.scoring.to_dict()} == {
        name: value for name, value in result["chosen"].items() if name != "name"
    }
    # The same model, judged afresh from what was written.
    assert np.mean(naive_ndcg(tuned, load_beir(folder), tuned.preset)) == pytest.approx(1.0)
    # Tuned again, its own setting is the one to beat: nothing is.
    again = tune([folder], model=tuned, write=target)
    assert again["rows"][0]["default"] == pytest.approx(1.0)
    assert again["written"] is None
    assert "is the model's own" in again["verdict"]["sentences"][-1]


def test_noise_is_not_taken_for_a_gain(prompted, tmp_path, coarse):
    folder = collection(tmp_path / "noise", queries=40, seed=3)
    result = tune([folder], model=prompted, write=tmp_path / "tuned")
    assert result["in_sample"]["difference"] > 0.02, "among so many settings one looks good"
    assert result["gain"]["difference"] < result["in_sample"]["difference"]
    assert not result["verdict"]["better"]
    assert result["written"] is None
    assert not (tmp_path / "tuned").exists()
    assert "Nothing was written" in result["verdict"]["sentences"][-1]


def test_anchor_alone_is_chosen_where_it_is_best(prompted, tmp_path, coarse):
    alone = replace(DEFAULT, scoring=DEFAULT.scoring.override(lambda_late=0.0))
    folder = planted_collection(prompted, tmp_path, alone)
    result = tune([folder], model=prompted)
    assert result["chosen"]["lambda_late"] == 0
    assert result["chosen"]["name"] == "the anchor alone (λ_late 0)"
    assert any("SMART does not help here" in sentence for sentence in result["verdict"]["sentences"])


# -- the parts ---------------------------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from("abcdefghijklmnopqrstuvw"), min_size=2, max_size=40).filter(lambda x: len(set(x)) > 1),
    st.integers(0, 5),
    st.data(),
)
def test_folds_depend_on_the_texts_alone(queries, seed, data):
    count = data.draw(st.integers(2, len(set(queries))))
    folds = split_folds(queries, count, seed)
    assert sorted(set(folds.tolist())) == list(range(count))
    assert all(len({int(folds[n]) for n, other in enumerate(queries) if other == text}) == 1 for text in queries)
    order = data.draw(st.permutations(range(len(queries))))
    shuffled = split_folds([queries[place].upper() + " " for place in order], count, seed)
    assert shuffled.tolist() == folds[order].tolist()
    if len(set(queries)) == len(queries):
        assert np.ptp(np.bincount(folds)) <= 1


def test_the_seed_changes_the_folds():
    queries = [f"query {number}" for number in range(30)]
    assert split_folds(queries, 5, 0).tolist() != split_folds(queries, 5, 1).tolist()
    with pytest.raises(DatasetError, match="found 2 different queries for 3 folds"):
        split_folds(["a", "A ", "b"], 3, 0)


def test_of_equally_good_settings_the_first_is_kept():
    values = np.array([[0.2, 0.4], [0.4, 0.2], [0.1, 0.1]])
    found = cross_validate([CollectionScores(values, values[2], np.array([0, 1]))], 2)
    assert found.chosen == 0
    assert found.by_fold == (0, 1)
    assert found.out_of_fold[0].tolist() == [0.2, 0.2]


def test_gains_are_absolute_where_the_anchor_finds_nothing():
    own = CollectionScores(np.array([[0.0, 0.0], [0.5, 0.1]]), np.zeros(2), np.array([0, 1]))
    assert own.gains(np.ones(2, bool)).tolist() == pytest.approx([0.0, 0.3])
    both = compared([own, own], [own.values[0]] * 2, [own.values[1]] * 2)
    assert both.difference == pytest.approx(0.3)


def test_the_grid_holds_each_setting_once():
    paper = get_preset("paper")
    settings = grid(range(7), 7, ("paper", "content"), DEFAULT, paper, settled=False)
    assert settings[0] == DEFAULT
    assert sum(setting.scoring.lambda_late == 0 for setting in settings) == 1
    keys = {
        (
            setting.readout.resolve_layers(7),
            setting.readout.mix,
            setting.readout.token_filter,
            *setting.scoring.to_dict().values(),
        )
        for setting in settings
    }
    assert len(keys) == len(settings)
    assert setting_dict(paper) in [setting_dict(setting) for setting in settings]
    readouts = {(setting.readout.layers, setting.readout.mix) for setting in settings}
    assert {((-1,), "mean"), ((-7,), "mean"), ((-2, -1), "mean"), ((-2, -1), "concat"), ((-7, -2), "mean")} <= readouts
    assert {setting.name for setting in settings} == {"default"}
    own = Preset("default", Readout((1, 2)))
    settled = grid((1, 2), 7, ("paper",), own, paper, settled=True)
    assert {setting.readout.layers for setting in settled if setting.scoring.lambda_late} == {(1, 2), (-1,)}


# -- files and the command -----------------------------------------------------------------------------------------


def test_a_models_own_folder_is_written_in_place(tiny, tmp_path, coarse):
    model = SmartModel(tiny("prompts"), device="cpu")
    model.save_pretrained(tmp_path / "m")
    before = {p: p.read_bytes() for p in (tmp_path / "m").rglob("*") if p.is_file() and p.parent.name != "smart"}
    planted = Preset("default", Readout((0,), token_filter="content"), Scoring("idf", 1.0, 4.0))
    folder = planted_collection(model, tmp_path, planted)
    result = loaded(
        run("tune", "--data", folder, "--model", tmp_path / "m", "--write", tmp_path / "m", "--no-cache", "--json")
    )
    assert result["written"] == str(tmp_path / "m")
    assert before == {
        p: p.read_bytes() for p in (tmp_path / "m").rglob("*") if p.is_file() and p.parent.name != "smart"
    }
    saved = SmartModel(tmp_path / "m", device="cpu").preset
    assert saved.readout.layers == (-4,)
    # Search and evaluation use it without being given it.
    SmartIndex.create(tmp_path / "index", str(tmp_path / "m")).close()
    with SmartIndex.open(tmp_path / "index") as index:
        assert index.preset == saved
    output = loaded(run("eval", "beir", folder, "--model", tmp_path / "m", "--no-cache", "--json"))
    assert output["scoring"] == saved.scoring.to_dict()
    assert output["rows"][2]["ndcg@10"] == pytest.approx(1.0)


def test_an_adapter_keeps_its_layers(tiny, tmp_path, coarse):
    model = SmartModel(tiny("prompts"), device="cpu", readout=Readout((-1, -2)))
    scoring = model.preset.scoring.override(floor=0.2)
    model.with_adapter(Adapter(AdapterConfig(HIDDEN, 6, 2)), scoring=scoring).save_adapter(tmp_path / "a")
    own = SmartModel(tmp_path / "a", device="cpu")
    scoring = own.preset.scoring.override(lambda_late=4.0, floor=0.4)
    planted = replace(own.preset, readout=replace(own.readout, token_filter="content"), scoring=scoring)
    folder = planted_collection(own, tmp_path, planted)
    result = tune([folder], model=own, write=tmp_path / "b")
    assert result["rows"][0]["in_sample"] == pytest.approx(1.0)
    assert result["chosen"]["layers"] == [-1, -2]
    assert "the model has an adapter" in result["notes"][-1]
    if result["written"]:
        assert SmartModel(tmp_path / "b", device="cpu").preset.scoring.lambda_late == result["chosen"]["lambda_late"]


def test_invalid_input_is_refused_before_a_model_is_loaded(prompted, tmp_path):
    folder = collection(tmp_path / "a", queries=4)
    with pytest.raises(DatasetError, match="4 different queries for 5 folds"):
        tune([folder], model="no-such-model")
    with pytest.raises(ScoringError, match="at least 2"):
        tune([folder], folds=1, model="no-such-model")
    with pytest.raises(ScoringError, match="twice"):
        tune([folder, folder / "."], model="no-such-model")
    with pytest.raises(DatasetError, match="no folder"):
        tune([], model="no-such-model")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(SmartError, match="found files in it"):
        tune([folder], folds=2, model=prompted, write=tmp_path / "full")
    (folder / "qrels" / "test.tsv").unlink()
    (folder / "qrels").rmdir()
    with pytest.raises(DatasetError, match="--known-item"):
        tune([folder], model="no-such-model")


def test_the_command_prints_a_table(tiny, tmp_path, small_grid):
    folder = collection(tmp_path / "a", queries=6, documents=30)
    arguments = ("tune", "--data", folder, "--model", tiny("mean"), "--folds", 2, "--no-cache")
    result = run(*arguments, "--out", tmp_path / "out.json")
    assert result.exit_code == 0
    output = json.loads((tmp_path / "out.json").read_text())
    assert output["verdict"]["headline"] in result.stdout
    assert f"{output['rows'][0]['out_of_fold']:.4f}" in result.stdout
    assert "fold 2:" in result.stdout
    assert run(*arguments, "--cache", tmp_path).exit_code == 2


def test_known_item_queries_are_noted_as_no_measurement(tiny, tmp_path, small_grid):
    rng = np.random.default_rng(0)
    lines = [
        {"_id": str(n), "title": " ".join(words[:4]), "text": " ".join(words[4:24])}
        for n, words in enumerate(rng.permutation(WORDS) for _ in range(12))
    ]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, lines)))
    output = loaded(
        run("tune", "--data", tmp_path, "--model", tiny("mean"), "--known-item", "--folds", 2, "--no-cache", "--json")
    )
    assert output["known_item"]
    assert "an indication, not a measurement" in output["notes"][0]
    assert output["collections"][0]["dataset"]["split"] == "known-item"
