"""The whole of ``smart eval mmeb`` over all 78 tasks, with a small vision-language model."""

import json
import shutil
import warnings

import pytest
from fixtures.mmeb_layouts import Layout
from fixtures.tiny_towers import save_towers
from typer.testing import CliRunner

from smart_retrieval import SmartModel
from smart_retrieval.cli.main import eval_app as app
from smart_retrieval.errors import DatasetError, ScoringError
from smart_retrieval.evaluation.mmeb.metrics import NAMES
from smart_retrieval.evaluation.mmeb.report import NOT_METRICS
from smart_retrieval.evaluation.mmeb.run import MmebOptions, evaluate_mmeb
from smart_retrieval.evaluation.mmeb.store import EncodingStore
from smart_retrieval.evaluation.mmeb.tasks import all_tasks, choose
from smart_retrieval.evaluation.report.report import build_report

LIMITS = {"max_visual_tokens": 16, "max_frames": 2}
FEW = ["MSCOCO_t2i", "NExTQA", "MSVD", "MomentSeeker", "ViDoRe_esg_reports_human_labeled_v2"]


@pytest.fixture(scope="module")
def model(tiny_vlm):
    return SmartModel(tiny_vlm("qwen3-vl-embedding"), device="cpu", **LIMITS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, mmeb_root, tiny_vlm):
    """All 78 through the command; the folder of the results, the cache, and what was printed."""
    folder = tmp_path_factory.mktemp("whole")
    arguments = ["mmeb", "--data-root", str(mmeb_root), "--out", str(folder / "out"), "--cache", str(folder / "cache")]
    arguments += ["--model", str(tiny_vlm("qwen3-vl-embedding")), "--lambda-late", "0,0.5,2", "--device", "cpu"]
    arguments += ["--max-visual-tokens", "16", "--max-frames", "2"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = CliRunner().invoke(app, arguments, env={"COLUMNS": "100"})
    assert found.exit_code == 0, (found.output, found.exception)
    return folder, arguments, found.stdout


def run(root, folder, model, *, tasks=FEW, **options):
    chosen = {key: options.pop(key) for key in list(options) if key in MmebOptions.__dataclass_fields__}
    return evaluate_mmeb(
        root, folder / "out", tasks=tasks, model=model, cache=folder / "cache", options=MmebOptions(**chosen), **options
    )


def scores(result):
    return {name: setting["scores"] for name, setting in result["settings"].items()}


def test_all_78_are_scored_by_every_setting(whole):
    folder, _, table = whole
    result = json.loads((folder / "out/result.json").read_text())
    assert result["missing"] == {}
    assert list(result["settings"]) == ["anchor", "late", "hybrid-0.5", "hybrid-2"]
    for name, setting in result["settings"].items():
        assert len(setting["scores"]) == 78
        assert all(mean["value"] is not None for mean in setting["means"])
        for task in all_tasks():
            kept = json.loads((folder / f"out/{name}/{task.name}_score.json").read_text())
            metrics = {key: value for key, value in kept.items() if key not in NOT_METRICS}
            assert metrics == setting["scores"][task.name]
            assert set(NAMES) <= set(kept)
            assert kept["num_data"] - kept["num_pred"] == (1 if task.modality == "visdoc" else 0)
            lines = (folder / f"out/{name}/{task.name}_pred.jsonl").read_text().splitlines()
            assert len(lines) == kept["num_pred"]
            first = json.loads(lines[0])
            assert set(first) == {"prediction", "label", "rel_scores", "scores"}
            assert first["scores"] == sorted(first["scores"], reverse=True)
        board = json.loads((folder / f"out/{name}/leaderboard.json").read_text())
        assert {modality: len(own) for modality, own in board["metrics"].items()} == {
            "image": 36,
            "video": 18,
            "visdoc": 24,
        }
        assert "MMLongBench-page-fixed" in board["metrics"]["visdoc"]
        for about in (kept["provenance"], board["metadata"]["provenance"]):
            assert about["limits"]["max_visual_tokens"] == 16
            assert {"model", "revision", "weights_fingerprint", "readout", "prompts", "versions", "run"} <= set(about)
    assert result["run"]["commit"] == kept["provenance"]["run"]["commit"]
    assert "Qwen3-VL-Embedding-8B" in table
    assert "All" in table


def test_a_report_of_all_78(whole):
    folder, _, _ = whole
    report = build_report([folder / "out"], against="published")
    means, tasks, gains = report.tables
    assert (means.name, tasks.name, gains.name) == ("mmeb", "mmeb tasks", "mmeb gains")
    stored = json.loads((folder / "out/result.json").read_text())["settings"]["hybrid-2"]["means"]
    shown = [cell.value for cell in dict(means.rows)["hybrid-2 (default)"][:-1]]
    assert shown == [mean["value"] for mean in stored]
    assert len(tasks.rows) == 79
    assert len(gains.rows) == 78
    # Every gain is tested, from the ranked lists.
    assert all(cell.more["basis"] == "per query" for _, cells in gains.rows for cell in cells)


def test_another_lambda_encodes_nothing(whole, mmeb_root, tiny_vlm, monkeypatch, tmp_path):
    folder, arguments, _ = whole

    def refuse(*args, **kwargs):
        raise AssertionError("encoded again")

    monkeypatch.setattr(SmartModel, "encode_query", refuse)
    monkeypatch.setattr(SmartModel, "encode_document", refuse)
    changed = [*arguments, "--tasks", ",".join(FEW), "--json", "--token-filter", "content", "--weights", "uniform"]
    changed += ["--floor", "none"]  # a calibrated one encodes queries of the vocabulary
    changed[changed.index("0,0.5,2")] = "3"
    changed[changed.index(str(folder / "out"))] = str(tmp_path / "out")
    found = CliRunner().invoke(app, changed)
    assert found.exit_code == 0, found.exception
    result = json.loads(found.stdout)
    assert list(result["settings"]) == ["anchor", "late", "hybrid-3"]
    assert len(result["missing"]) == 78 - len(FEW)
    assert {task["encoded"] for task in result["tasks"].values()} == {0}


def test_the_41_of_the_paper_by_themselves(whole, tmp_path):
    folder, arguments, _ = whole
    changed = [*arguments, "--tasks", "paper", "--json"]
    changed[changed.index(str(folder / "out"))] = str(tmp_path / "out")
    found = CliRunner().invoke(app, changed)
    assert found.exit_code == 0, found.exception
    result = json.loads(found.stdout)
    chosen = [task.name for task in choose(["paper"])]
    assert [len(chosen), *result["tasks"]] == [41, *chosen]
    assert sorted(result["missing"]) == sorted({task.name for task in all_tasks()} - set(chosen))
    everything = json.loads((folder / "out/result.json").read_text())["settings"]
    for name, setting in result["settings"].items():
        assert setting["scores"] == {task: everything[name]["scores"][task] for task in chosen}
        means = {mean["name"]: mean["value"] for mean in setting["means"]}
        assert means["paper"] == {mean["name"]: mean["value"] for mean in everything[name]["means"]}["paper"]
        # A whole that is measured in part has no mean.
        assert (means["all"], means["image/CLS"], means["video/RET"] is None) == (None, None, False)


def test_batches_of_one_and_of_eight_give_the_same(mmeb_root, model, tmp_path):
    one = run(mmeb_root, tmp_path / "1", model, batch_size=1)
    eight = run(mmeb_root, tmp_path / "8", model, batch_size=8)
    assert scores(one) == scores(eight)


def test_a_run_killed_at_any_shard_ends_the_same(mmeb_root, model, tmp_path, monkeypatch):
    whole = run(mmeb_root, tmp_path / "whole", model)
    real = EncodingStore._encode
    for after in (0, 3, 4):
        calls = []

        def dying(self, *args, calls=calls, after=after):
            if len(calls) == after:
                raise KeyboardInterrupt
            calls.append(1)
            real(self, *args)

        monkeypatch.setattr(EncodingStore, "_encode", dying)
        with pytest.raises(KeyboardInterrupt):
            run(mmeb_root, tmp_path / "killed", model)
        monkeypatch.setattr(EncodingStore, "_encode", real)
    again = run(mmeb_root, tmp_path / "killed", model)
    assert scores(again) == scores(whole)
    assert sum(task["encoded"] for task in again["tasks"].values()) < sum(
        task["encoded"] for task in whole["tasks"].values()
    )


def test_scores_are_reused_only_where_everything_is_the_same(mmeb_root, model, tmp_path):
    def reused(**options):
        result = run(mmeb_root, tmp_path, model, tasks=["MSVD"], **options)
        return result["tasks"]["MSVD"]["reused"]

    assert not reused()
    assert reused()
    assert not reused(lambdas_late=(1, 2))
    assert reused(lambdas_late=(2,))
    for changed in ({"mode": "official-compatible"}, {"ties": "name"}, {"prompts": "v2v"}, {"weights": "uniform"}):
        assert not reused(**changed)
        assert not reused()  # what the one before left is another's


def test_a_changed_picture_is_noticed(model, tmp_path):
    layout = Layout(tmp_path / "root")
    (task,) = choose(["WebQA"])
    layout.write([task])
    run(tmp_path / "root", tmp_path, model, tasks=["WebQA"])
    layout.picture(layout.media(task, 1) / "WebQA/img_0.png", 3)
    again = run(tmp_path / "root", tmp_path, model, tasks=["WebQA"])
    assert (again["tasks"]["WebQA"]["reused"], again["tasks"]["WebQA"]["encoded"]) == (False, 1)


def test_discarding_leaves_no_encodings(mmeb_root, model, tmp_path):
    kept = run(mmeb_root, tmp_path / "kept", model)
    discarded = run(mmeb_root, tmp_path / "discarded", model, discard=True)
    assert scores(kept) == scores(discarded)
    assert list((tmp_path / "kept/cache").rglob("token_vectors.npy"))
    assert not list((tmp_path / "discarded/cache").rglob("token_vectors.npy"))


def test_missing_files_are_listed_before_a_model_is_loaded(tmp_path):
    layout = Layout(tmp_path / "root")
    layout.write(choose(["MSVD", "WebQA", "ViDoRe_docvqa"]))
    (layout.media(choose(["WebQA"])[0], 1) / "WebQA/img_2.png").unlink()
    shutil.rmtree(layout.root / "visdoc-tasks")
    names = ["MSVD", "WebQA", "ViDoRe_docvqa", "VATEX"]
    with pytest.raises(DatasetError, match=r"3 of 4 tasks lack \d files or folders.*missing\.txt.*--skip-incomplete"):
        evaluate_mmeb(layout.root, tmp_path / "out", tasks=names, model="/no/such/model")
    listed = [line.split("\t") for line in (tmp_path / "out/missing.txt").read_text().splitlines()]
    assert {name for name, _ in listed} == {"WebQA", "ViDoRe_docvqa", "VATEX"}
    assert any(path.endswith("WebQA/img_2.png") for _, path in listed)
    found = CliRunner().invoke(app, ["mmeb", "--data-root", str(layout.root), "--tasks", ",".join(names), "--check"])
    assert found.exit_code == 1
    assert found.stdout.splitlines()[-1] == "1 of 4 tasks are complete"


def test_incomplete_tasks_are_named(model, tmp_path):
    layout = Layout(tmp_path / "root")
    layout.write(choose(["MSVD"]))
    result = run(layout.root, tmp_path, model, tasks=["MSVD", "VATEX"], skip_incomplete=True)
    assert list(result["settings"]["anchor"]["scores"]) == ["MSVD"]
    assert "files missing" in result["missing"]["VATEX"]
    assert result["missing"]["K700"] == "not asked for"
    with pytest.raises(DatasetError, match="1 of 1 tasks lack"):
        run(layout.root, tmp_path, model, tasks=["VATEX"], skip_incomplete=True)


def test_gme_measures_the_video_tasks_by_their_middle_frames(mmeb_root, tiny_vlm, tmp_path):
    model = SmartModel(tiny_vlm("gme"), device="cpu", max_visual_tokens=16, max_frames=3)
    names = [task.name for task in choose(modalities=["video"])]
    result = run(mmeb_root, tmp_path, model, tasks=names)
    assert set(result["settings"]["anchor"]["scores"]) == set(names)
    assert set(result["missing"].values()) == {"not asked for"}


def test_two_towers_measure_the_tasks_without_mixed_inputs(mmeb_root, tmp_path):
    model = SmartModel(save_towers(tmp_path / "clip", "clip"), device="cpu")
    result = run(mmeb_root, tmp_path / "out", model, tasks=["ImageNet-1K", "CIRR", "MSCOCO_t2i", "ViDoRe_docvqa"])
    assert set(result["settings"]["anchor"]["scores"]) == {"ImageNet-1K", "MSCOCO_t2i", "ViDoRe_docvqa"}
    assert result["missing"]["CIRR"] == "the model takes no text beside a picture"


def test_a_text_model_measures_nothing_and_the_result_says_why(mmeb_root, smart, tmp_path):
    result = run(mmeb_root, tmp_path, smart("prompts"), tasks=["MSVD", "WebQA"])
    assert result["missing"]["MSVD"] == "the model takes no video"
    assert result["missing"]["WebQA"] == "the model takes no image"
    assert all(mean["value"] is None for mean in result["settings"]["anchor"]["means"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "exact"}, "mode: found 'exact'"),
        ({"ties": "luck"}, "ties: found 'luck'"),
        ({"lambdas_late": (float("nan"),)}, "finite numbers"),
        ({"depth": 3}, "depth: found 3"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ScoringError, match=message):
        MmebOptions(**options)


def test_a_preset_beside_a_loaded_model(mmeb_root, model, tmp_path):
    with pytest.raises(ScoringError, match="beside a loaded model"):
        run(mmeb_root, tmp_path, model, preset="paper")


def test_listing():
    found = CliRunner().invoke(app, ["mmeb", "--list"])
    assert len(found.stdout.splitlines()) == 79
    chosen = CliRunner().invoke(app, ["mmeb", "--list", "--json", "--modality", "visdoc", "--tasks", "MSVD"])
    tasks = json.loads(chosen.stdout)
    assert (len(tasks), tasks[0]["name"], tasks[0]["scope"]) == (25, "MSVD", "global")


@pytest.mark.parametrize(
    "wrong", [[], ["--data-root", ".", "--lambda-late", "much"], ["--data-root", ".", "--floor", "low"]]
)
def test_wrong_usage(wrong):
    assert CliRunner().invoke(app, ["mmeb", *wrong]).exit_code == 2
