"""The table of 78 tasks: its numbers, its choice, and what is refused."""

from collections import Counter

import pytest

from smart_retrieval.errors import DatasetError
from smart_retrieval.evaluation.mmeb.parsers import PARSERS, class_names
from smart_retrieval.evaluation.mmeb.tasks import GROUPS, PARSER_NAMES, all_tasks, choose, read_tasks


def test_seventy_eight_tasks_in_the_published_groups():
    tasks = all_tasks()
    assert Counter(task.modality for task in tasks) == {"image": 36, "video": 18, "visdoc": 24}
    assert len({task.name for task in tasks}) == 78
    assert {(m, g): n for m, groups in GROUPS.items() for g, n in groups.items()} == Counter(
        (task.modality, task.meta_task) for task in tasks
    )


def test_scopes_and_metrics():
    for task in all_tasks():
        assert task.metric == ("ndcg_linear@5" if task.modality == "visdoc" else "hit@1")
    assert {task.name for task in choose(modalities=["video"]) if task.scope == "global"} == {
        "K700", "HMDB51", "UCF101", "Breakfast", "MSR-VTT", "MSVD", "DiDeMo", "YouCook2", "VATEX",
    }  # fmt: skip
    assert {task.scope for task in choose(modalities=["image"])} == {"local"}
    assert {task.scope for task in choose(modalities=["visdoc"])} == {"global"}


def test_every_parser_is_used():
    assert {task.parser for task in all_tasks()} == set(PARSERS) == set(PARSER_NAMES)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("K700", ("VLM2Vec/Kinetics-700", "", "test", 1000)),
        ("MSR-VTT", ("VLM2Vec/MSR-VTT", "test_1k", "test", 1000)),
        ("YouCook2", ("lmms-lab/YouCook2", "", "val", 3179)),
        ("NExTQA", ("VLM2Vec/NExTQA", "MC", "test", 8564)),
        ("MVBench", ("VLM2Vec/MVBench", "", "train", 4000)),
        ("WebQA", ("ziyjiang/MMEB_Test_Instruct", "WebQA", "test", 1000)),
        ("ViDoRe_tatdqa", ("vidore/tatdqa_test_beir", "", "test", 1646)),
        ("ViDoRe_esg_reports_v2_multilingual", ("vidore/esg_reports_v2", "", "test", 228)),
        ("VisRAG_MP-DocVQA", ("openbmb/VisRAG-Ret-Test-MP-DocVQA", "", "train", 591)),
        ("MMLongBench-page", ("VLM2Vec/MMLongBench-page-fixed", "", "test", 838)),
    ],
)
def test_data_sets(name, expected):
    (task,) = choose([name])
    assert (task.data_set, task.config, task.split, task.queries) == expected


def test_only_the_repaired_page_tasks_are_reported_under_another_name():
    assert {task.name: task.reported_as for task in all_tasks() if task.reported_as != task.name} == {
        "ViDoSeek-page": "ViDoSeek-page-fixed",
        "MMLongBench-page": "MMLongBench-page-fixed",
    }


def test_choosing():
    assert len(choose()) == len(choose(["all"])) == 78
    assert [task.name for task in choose(["msvd", "ViDoSeek-page-fixed", "MSVD"])] == ["MSVD", "ViDoSeek-page"]
    assert len(choose(["MSVD"], ["visdoc"])) == 25
    with pytest.raises(DatasetError, match="did you mean 'MSVD'"):
        choose(["MSVDD"])
    with pytest.raises(DatasetError, match="modality: found 'audio'"):
        choose(modalities=["audio"])


@pytest.mark.parametrize(("task", "classes"), [("K700", 700), ("UCF101", 101), ("HMDB51", 51), ("Breakfast", 10)])
def test_class_names_are_complete_and_differ(task, classes):
    assert len(class_names(task)) == len(set(class_names(task))) == classes


HEAD = 'format = "smart-mmeb-tasks/1"\n[[groups]]\nmodality="image"\nmeta_task="CLS"\n'
BODY = 'scope="local"\nmetric="hit@1"\ndata_set="d"\nconfig=""\nsplit="test"\nfolders=["f"]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('format = "other"', "found format 'other'"),
        (HEAD + BODY + 'parser="image_cls"\ncolour="red"\ntasks=[{name="A"}]', r"A: found unknown keys \['colour'\]"),
        (HEAD + BODY + 'tasks=[{name="A"}]', "A: a key is missing"),
        (HEAD + BODY + 'parser="image_cls"\ntasks=[{name="A"},{name="A"}]', r"found \['A'\] more than once"),
        (HEAD + BODY + 'parser="audio"\ntasks=[{name="A"}]', "A, parser: found 'audio'"),
        (HEAD + BODY + 'parser="image_cls"\ntasks=[{name="A"}]', "found groups"),
    ],
)
def test_a_wrong_table_is_refused(text, message):
    with pytest.raises(DatasetError, match=message):
        read_tasks(text)
