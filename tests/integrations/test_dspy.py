"""The DSPy retriever: a prediction, a program that an optimizer copies, async."""

import pytest

pytest.importorskip("dspy")
import dspy

from smart_retrieval.errors import FilterError
from smart_retrieval.integrations.dspy import SmartRetriever


def test_a_prediction_holds_passages_ids_scores_and_metadata(library):
    found = SmartRetriever(library, k=2)("the otter swims in the river")
    hits = library.search("the otter swims in the river", 2)
    assert isinstance(found, dspy.Prediction)
    assert found.passages == [hit.text for hit in hits]
    assert found.ids == [hit.id for hit in hits]
    assert found.scores == [hit.score for hit in hits]
    assert found.metadata[0]["source"] == "river.md"


def test_filters_of_a_call_only_narrow(library):
    retriever = SmartRetriever(library, filter={"lang": "en"})
    assert set(retriever("the moon").ids) == {"otter", "tax"}
    assert retriever("the moon", filter="year = 2021").ids == ["tax"]
    assert retriever("the moon", filter="lang = 'de'").ids == []
    assert retriever("the moon", k=1).passages == retriever("the moon").passages[:1]
    with pytest.raises(FilterError):
        retriever("the moon", filter="lang = 'de') or (id exists")


def test_async_gives_the_same_and_lets_the_loop_go_on(library, loop_goes_on):
    retriever = SmartRetriever(library)
    expected = retriever("the moon", k=2, filter={"lang": "de"})
    assert loop_goes_on(lambda: retriever.acall("the moon", k=2, filter={"lang": "de"})).toDict() == expected.toDict()


def test_a_program_that_uses_it_is_copied_saved_and_run(folder, tmp_path):
    class Rag(dspy.Module):
        def __init__(self):
            super().__init__()
            self.search = SmartRetriever(folder, k=1, options={"lexical_weight": 50.0})
            self.respond = dspy.Predict("context, question -> answer")

        def forward(self, question):
            return self.respond(context=self.search(question).passages, question=question)

    program = Rag()
    model = dspy.utils.DummyLM([{"answer": "in the morning"}] * 2)
    with dspy.context(lm=model):
        assert program(question="when is tax due").answer == "in the morning"
        copied = program.deepcopy()
        assert copied(question="when is tax due").answer == "in the morning"
    assert "tax is due in the morning" in str(model.history[0])
    assert copied.search._search is program.search._search
    program.save(tmp_path / "program.json")
    program.search.k = 3
    program.load(tmp_path / "program.json")
    assert program.search.k == 1


def test_the_example_of_the_guide_runs(guide):
    model = dspy.utils.DummyLM([{"answer": "in the river"}])
    try:
        assert guide("dspy", model)["answer"] == "in the river"
    finally:
        dspy.configure(lm=None)
    assert "where does the otter swim?" in str(model.history[0])
