"""Which measurements share a row and a column, and which are kept apart."""

from dataclasses import replace
from pathlib import Path

from smart_retrieval.evaluation.report.measurements import Data, Measurement, arrange

TINY = Data("tiny", "test", "a" * 64, "j" * 64, 5)
HYBRID = Measurement(
    "hybrid", TINY, {"map": 0.5}, {"model": "m", "preset": "default", "prompts": "none"}, Path("a.json")
)  # fmt: skip


def changed(one, file="b.json", **settings):
    return replace(one, settings={**one.settings, **settings}, file=Path(file))


def on(one, **data):
    return replace(one, data=replace(one.data, **data))


def test_the_same_figure_twice_is_one_row():
    again = replace(changed(HYBRID), values={"map": 0.5 + 1e-9, "ndcg@10": 0.7}, bytes_per_document=7.0)
    found = arrange([HYBRID, again])
    assert list(found.rows) == ["hybrid (default)"]
    assert found.cells["hybrid (default)", "tiny"].values == {"map": 0.5, "ndcg@10": 0.7}
    assert found.cells["hybrid (default)", "tiny"].bytes_per_document == 7
    assert found.notes == ()


def test_files_with_different_figures_have_rows_of_their_own():
    other = replace(changed(HYBRID), values={"map": 0.6})
    alike = [on(one, name="other") for one in (HYBRID, replace(other, values={"map": 0.5}))]
    found = arrange([HYBRID, other, *alike])
    assert list(found.rows) == ["hybrid (default) [file a.json]", "hybrid (default) [file b.json]"]
    assert len(found.cells) == 4
    assert any("different figures in different files" in note for note in found.notes)


def test_files_that_agree_share_a_row():
    third = replace(changed(on(HYBRID, name="other"), file="c.json"), values={"map": 0.1})
    found = arrange([HYBRID, replace(changed(HYBRID), values={"map": 0.6}), changed(HYBRID, file="d.json"), third])
    assert list(found.rows) == ["hybrid (default) [file a.json]", "hybrid (default) [file b.json]"]
    assert ("hybrid (default) [file a.json]", "other") in found.cells
    assert found.notes == (
        "hybrid (default) has different figures in different files, each in a row of its own: a.json, d.json, c.json; "
        "b.json",
    )


def test_different_figures_in_one_file():
    found = arrange([HYBRID, replace(HYBRID, values={"map": 0.6})])
    assert len(found.rows) == len(found.cells) == 2


def test_prompts_limits_and_weights_make_another_system():
    for setting, value in (("prompts", "query 'find: '"), ("max_length", "512"), ("weights", "ff"), ("mode", "x")):
        found = arrange([HYBRID, changed(HYBRID, **{setting: value})])
        assert list(found.rows) == [
            f"hybrid (default) [{setting} {HYBRID.settings.get(setting, 'unknown')}]",
            f"hybrid (default) [{setting} {value}]",
        ]
        assert "settings that differ" in found.notes[0]


def test_the_anchor_ignores_the_readout_and_bm25_the_model():
    anchor, bm25 = replace(HYBRID, system="anchor"), replace(HYBRID, system="BM25")
    found = arrange([anchor, changed(anchor, preset="paper"), bm25, changed(bm25, model="other", prompts="x")])
    assert list(found.rows) == ["BM25", "anchor"]
    assert len(arrange([anchor, changed(anchor, prompts="x")]).rows) == 2


def test_models_are_named_where_there_are_several():
    found = arrange([HYBRID, changed(HYBRID, model="n"), replace(HYBRID, system="BM25")])
    assert list(found.rows) == ["BM25", "m: hybrid (default)", "n: hybrid (default)"]


def test_data_that_differ_are_columns_of_their_own():
    for data, labels in (
        ({"split": "dev"}, ["tiny (test)", "tiny (dev)"]),
        ({"fingerprint": "b" * 64}, ["tiny (test, aaaaaaaa)", "tiny (test, bbbbbbbb)"]),
        ({"queries": 4}, ["tiny (test, 5 queries)", "tiny (test, 4 queries)"]),
        (
            {"judgments": "k" * 64},
            [f"tiny (test, aaaaaaaa, 5 queries, judgments {letter * 8})" for letter in "jk"],
        ),
    ):
        found = arrange([HYBRID, replace(on(HYBRID, **data), values={"map": 0.9})])
        assert list(found.columns) == labels
        assert list(found.rows) == ["hybrid (default)"]
        assert found.cells["hybrid (default)", labels[1]].values["map"] == 0.9
        assert "data that differ" in found.notes[0]


def test_known_item_columns_are_labelled():
    assert list(arrange([on(HYBRID, split="known-item")]).columns) == ["tiny (known-item)"]


def test_older_results_without_a_judgments_fingerprint_join_the_others():
    old = on(replace(HYBRID, system="anchor"), judgments=None)
    assert list(arrange([HYBRID, old]).columns) == ["tiny"]
    # Which of two it was on cannot be known.
    two = [HYBRID, on(HYBRID, judgments="k" * 64), old]
    assert len(arrange(two).columns) == 3


def test_the_order_of_files_does_not_change_cells():
    many = [HYBRID, replace(HYBRID, system="late"), replace(changed(HYBRID), values={"map": 0.6}),
            changed(HYBRID, prompts="x"), on(HYBRID, split="dev")]  # fmt: skip
    forward, backward = arrange(many), arrange(many[::-1])
    assert {(row, column, one.values["map"]) for (row, column), one in forward.cells.items()} == {
        (row, column, one.values["map"]) for (row, column), one in backward.cells.items()
    }


def test_has_anchor():
    anchor = replace(HYBRID, system="anchor", settings={**HYBRID.settings, "preset": "paper"})
    assert HYBRID.has_anchor(anchor)
    assert not HYBRID.has_anchor(changed(anchor, prompts="x"))
    assert not HYBRID.has_anchor(changed(anchor, model="n"))
    assert not HYBRID.has_anchor(on(anchor, split="dev"))
    assert not HYBRID.has_anchor(replace(anchor, system="late"))
    assert not replace(HYBRID, system="BM25").has_anchor(anchor)
