"""Every kind of result is recognised, and nothing else."""

import json

import pytest

from smart_retrieval.core.presets import get_preset
from smart_retrieval.errors import ReportError, SmartWarning
from smart_retrieval.evaluation.report.files import read_files
from smart_retrieval.evaluation.report.measurements import arrange
from smart_retrieval.evaluation.report.readers import kind_of

MMEB = {"anchor": {"MSVD": {"hit@1": 0.5, "num_pred": 2}}, "hybrid-2": {"MSVD": {"hit@1": 1.0, "num_pred": 2}}}


def by_system(found):
    return {(one.system, one.settings.get("codec")): one for one in found.measurements}


def test_beir(results):
    found = by_system(read_files([results.write("a.json", results.beir())]))
    assert {system for system, _ in found} == {"anchor", "late", "hybrid"}
    hybrid = found["hybrid", None]
    assert hybrid.values["ndcg@10"] == 0.5
    assert (hybrid.bytes_per_document, hybrid.milliseconds) == (210, 211)
    assert hybrid.settings["prompts"] == "none"
    assert hybrid.settings["max_length"] == "256"
    assert hybrid.settings["weights"] == "feed"
    assert hybrid.data.judgments == "tiny-grades"
    assert len(hybrid.per_query["ndcg@10"]) == 24
    assert found["anchor", None].gain is None
    assert found["late", None].gain["mean_treatment"] == pytest.approx(0.45)


def test_older_results_without_provenance(results):
    old = results.beir(per_query=False)
    for key in ("limits", "run", "versions", "prompts"):
        del old[key]
    del old["dataset"]["judgments_fingerprint"], old["gain"]["late"]
    found = by_system(read_files([results.write("a.json", old)]))
    assert found["hybrid", None].settings["max_length"] == "256"
    assert found["late", None].gain is None


def test_compare(results):
    systems = {"anchor": 0.4, "BM25": 0.3, "SMART": 0.5, "SMART + BM25": 0.6}
    found = by_system(read_files([results.write("a.json", results.compare(systems=systems))]))
    assert {system for system, _ in found} == {"anchor", "BM25", "hybrid", "hybrid + BM25"}
    assert found["hybrid + BM25", None].settings["lexical_weight"] == "0.2"
    assert found["hybrid", None].settings == found["anchor", None].settings


def test_codecs(results):
    found = by_system(read_files([results.write("a.json", results.codecs(codecs={"int8": 0.49}))]))
    assert {codec for _, codec in found} == {None, "int8"}
    assert found["hybrid", "int8"].bytes_per_document == 21


def test_probe(results):
    gain = {"difference": 0.1, "relative": 0.2, "p_value": 0.01, "ci_low": 0, "ci_high": 0.2, "mean_baseline": 0.4,
            "mean_treatment": 0.5}  # fmt: skip
    systems = [{"name": "anchor", "value": 0.4, "gain": None}, {"name": "hybrid, paper", "value": 0.5, "gain": gain}]
    result = {"verdict": {}, "metric": "ndcg@10", "systems": systems, "query_length": [], **results.shared()}
    found = by_system(read_files([results.write("a.json", result)]))
    assert found["hybrid", None].settings["preset"] == "paper"
    assert found["hybrid", None].gain["metric"] == "ndcg@10"
    # It joins what smart eval measured with the same preset.
    paper = get_preset("paper")
    same = results.beir(preset="paper", scoring=paper.scoring.to_dict(), readout=paper.readout.to_dict())
    both = arrange(read_files([results.folder, results.write("b.json", same)]).measurements)
    assert list(both.rows) == ["anchor", "late (paper)", "hybrid (paper)"]


def test_tune(results):
    over = {"difference": 0.2, "relative": 0.5, "p_value": 0.01, "ci_low": 0, "ci_high": 0.2, "mean_baseline": 0.4,
            "mean_treatment": 0.6}  # fmt: skip
    row = {"name": "tiny", "anchor": 0.4, "paper": 0.45, "default": 0.5, "out_of_fold": 0.6, "in_sample": 0.7}
    row |= {"over_anchor": over, "gain": over}
    result = {"verdict": {}, "metric": "ndcg@10", "rows": [row], "chosen": {"name": "x"}, "gain": over}
    found = read_files([results.write("a.json", {**result, "collections": [results.shared()]})])
    assert [file.kind for file in found.files] == ["tune"]
    rows = {label: one.values["ndcg@10"] for (label, _), one in arrange(found.measurements).cells.items()}
    # What was chosen on the very queries is no measurement.
    assert rows == {
        "anchor": 0.4,
        "hybrid (default)": 0.5,
        "hybrid (paper)": 0.45,
        "hybrid (tuned, out of fold)": 0.6,
    }


def test_mteb(results):
    english = {"hf_subset": "en", "main_score": 0.2, "ndcg_at_10": 0.2, "map_at_1000": 0.1, "nauc_at_1": None}
    german = {"hf_subset": "de", "main_score": 0.4, "ndcg_at_10": 0.4, "map_at_1000": 0.3, "nauc_at_1": 0.1}
    scores = {"test": [english, german]}
    ours = {"benchmark": "mteb", "out": "x", "settings": {"candidates": 100},
            "tasks": {"NFCorpus": {"main_score": 0.3, "metric": "ndcg_at_10", "revision": "r", "scores": scores}},
            **results.shared()}  # fmt: skip
    del ours["dataset"], ours["encode"]
    results.write("out/smart/minilm-1.json", ours)
    native = {"task_name": "NFCorpus", "dataset_revision": "r", "mteb_version": "2", "scores": scores}
    results.write("out/results/sentence-transformers__minilm/r1/NFCorpus.json", native)
    results.write("out/results/sentence-transformers__minilm/r1/model_meta.json", {"name": "x"})
    found = read_files([results.folder])
    (one,) = found.measurements
    assert one.values == pytest.approx({"main_score": 0.3, "ndcg@10": 0.3, "map": 0.2})
    assert (one.system, one.settings["candidates"], one.data.name, one.data.fingerprint) == (
        *("hybrid", "100", "NFCorpus", "r"),
    )
    assert found.notes == ()
    # What mteb wrote for another model counts.
    lower = json.loads(json.dumps(native).replace("0.4", "0.3"))
    results.write("out/results/other__model/r2/experiments/depth_5/NFCorpus.json", lower)
    other = next(one for one in read_files([results.folder]).measurements if one.system == "")
    assert other.settings == {"model": "other/model", "revision": "r2", "preset": "depth_5"}
    assert list(arrange([one, other]).rows) == ["minilm: hybrid (default)", "other/model: depth_5"]


def test_mmeb_results_in_several_files_count_once(results):
    whole = results.mmeb(MMEB)
    board = {"metadata": {"model_name": "vlm (anchor)", "prompts": "qwen", "mode": "correct", "ties": "official"},
             "metrics": {"image": {}, "video": {"MSVD": MMEB["anchor"]["MSVD"]}, "visdoc": {}}}  # fmt: skip
    config = {"setting": "anchor", "prompts": "qwen", "mode": "correct", "ties": "official"}
    score = {**MMEB["anchor"]["MSVD"], "num_data": 2, "scoring_config": config}
    results.write("run/anchor/MSVD_score.json", score)
    results.write("run/anchor/leaderboard.json", board)
    results.write("run/result.json", whole)
    found = read_files([results.folder])
    assert [file.kind for file in found.files] == ["mmeb"]
    assert {(one.system, one.values["hit@1"], one.group) for one in found.measurements} == {
        ("anchor", 0.5, "video/RET"),
        ("hybrid-2", 1.0, "video/RET"),
    }
    assert found.measurements[0].settings["max_visual_tokens"] == "768"
    (results.folder / "run/result.json").unlink()
    found = read_files([results.folder])
    assert [(file.kind, len(found.measurements)) for file in found.files] == [("leaderboard", 1)]
    assert (found.measurements[0].system, found.measurements[0].settings["model"]) == ("anchor", "vlm")
    (results.folder / "run/anchor/leaderboard.json").unlink()
    assert read_files([results.folder]).measurements[0].settings["model"] == "unknown"


def test_another_models_leaderboard(results):
    board = {
        "metadata": {"model_name": "Other (7B)"},
        "metrics": {"visdoc": {"MMLongBench-page-fixed": {"ndcg_linear@5": 0.5}}},
    }
    (one,) = read_files([results.write("board.json", board)]).measurements
    assert (one.settings["model"], one.system) == ("Other (7B)", "")
    assert one.data.name == "MMLongBench-page"


def test_lists_of_results_as_the_benchmarks_write_them(results):
    bare = results.beir("other")
    del bare["run"]
    file = results.write("all.json", {"date": "x", "commit": "y", "results": [results.beir(), bare, {"no": 1}]})
    found = read_files([file])
    assert {one.data.name for one in found.measurements} == {"tiny", "other"}
    assert [one.about["run"]["commit"] for one in found.files] == ["abc1234", "y"]


def test_a_file_given_twice_counts_once(results):
    file = results.write("a.json", results.beir())
    assert len(read_files([file, results.folder, file]).measurements) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "found no result, expected what smart eval"),
        ("[1, 2]", "found no result"),
        ('{"benchmark": "other", "settings": {}, "tasks": {}, "mode": "x"}', "found no result"),
        ("not json", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ('{"rows": [], "gain": {}, "dataset": {}}', "found a beir result that cannot be read"),
        ('{"rows": 3, "gain": {"metric": "map"}, "dataset": {"name": "a", "split": "b", "n_queries": 1}, "model": "m"}',
         "cannot be read"),
        ('{"metadata": {}, "metrics": {"image": {"NoTask": {"hit@1": 1}}}}', "no task 'NoTask'"),
    ],
)  # fmt: skip
def test_refusals(results, content, message):
    results.folder.mkdir()
    file = results.folder / "a.json"
    file.write_text(content)
    with pytest.raises(ReportError, match=message) as caught:
        read_files([file])
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("value", ["0.5", None, float("nan"), float("inf"), True])
def test_values_must_be_numbers(results, value):
    broken = results.beir()
    broken["rows"][0]["ndcg@10"] = value
    with pytest.raises(ReportError, match="expected"):
        read_files([results.write("a.json", broken)])


def test_per_query_values_must_fit_their_ids(results):
    broken = results.beir()
    broken["per_query"]["ids"].pop()
    with pytest.raises(ReportError, match="another number of values"):
        read_files([results.write("a.json", broken)])


def test_other_json_files_in_a_folder_are_counted(results):
    results.write("deep/er/a.json", results.beir())
    results.write("tokenizer.json", {"x": 1})
    results.write(".hidden/b.json", results.beir("hidden"))
    (results.folder / "note.txt").write_text("no JSON")
    with pytest.warns(SmartWarning, match=r"1 JSON file is no result and left out: .*tokenizer\.json"):
        found = read_files([results.folder])
    assert len(found.notes) == 1
    assert {one.data.name for one in found.measurements} == {"tiny"}


def test_no_results_are_an_error(results):
    with pytest.raises(ReportError, match="found no result files"):
        read_files([])
    with pytest.raises(ReportError, match="found no file or folder"):
        read_files([results.folder])
    results.folder.mkdir()
    with pytest.raises(ReportError, match="found no results in"):
        read_files([results.folder])


def test_kinds(results):
    assert kind_of(results.beir()) == "beir"
    assert kind_of(None) is None
    assert kind_of([results.beir()]) is None
