"""The model card that a training writes."""

from fixtures.training import training_set

from smart_retrieval import Readout
from smart_retrieval.training.recipes import AdapterRecipe
from smart_retrieval.training.record import TrainingResult, write_record


def test_names_cannot_break_the_cards_lines_and_tables(tmp_path):
    figures = {"anchor": 0.25, "late": 0.5, "hybrid": 0.75, "lambda_late": 2.0}
    result = TrainingResult(tmp_path, figures, figures, 0, 1000, [{"step": 5, "loss": 0.125, **figures}])
    data = training_set()
    data.warnings.append("a | b\n# c")
    backbone = {"name": "org/a|b\nc: <d>", "fingerprint": "0f"}
    write_record(result, AdapterRecipe(), Readout(), backbone, data, data)
    lines = (tmp_path / "README.md").read_text().splitlines()
    assert "base_model: org/a\\|b c: <d>" in lines
    assert "* a \\| b # c" in lines
    assert "| trained | 0.2500 | 0.5000 | 0.7500 | 2 |" in lines
    assert "| 5 | 0.1250 | 0.2500 | 0.5000 | 0.7500 | 2 |" in lines
    assert "Kept: step 0 of 1000 (training did not improve on the start)." in lines
