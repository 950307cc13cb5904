"""The LangChain retriever: LangChain's own standard tests, filters, async, a chain."""

import pytest

pytest.importorskip("langchain_core")
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda
from langchain_tests.integration_tests import RetrieversIntegrationTests

from smart_retrieval.errors import FilterError, SmartError
from smart_retrieval.integrations.langchain import SmartRetriever


@pytest.mark.filterwarnings("ignore:.*is marked with '@pytest.mark.asyncio'")
@pytest.mark.asyncio
class TestStandard(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _of_the_index(self, library):
        self.index = library

    @property
    def retriever_constructor(self):
        return SmartRetriever

    @property
    def retriever_constructor_params(self):
        return {"index": self.index}

    @property
    def retriever_query_example(self):
        return "the otter swims"


def test_documents_carry_ids_scores_and_metadata(library):
    best = SmartRetriever(index=library, k=2, options={"lambda_late": 0.5}).invoke("the otter swims in the river")[0]
    (hit,) = library.search("the otter swims in the river", 1, lambda_late=0.5)
    assert (best.id, best.page_content) == ("otter", hit.text)
    assert best.metadata["score"] == hit.score
    assert best.metadata["anchor"] + 0.5 * best.metadata["late"] == pytest.approx(hit.score)
    assert best.metadata["source"] == "river.md"
    assert best.metadata["tags"] == ["river", "animal"]


def test_filters_of_a_call_only_narrow(library):
    retriever = SmartRetriever(index=library, filter={"lang": {"$in": ["en", "x' or '1' = '1"]}})
    assert {document.id for document in retriever.invoke("the moon")} == {"otter", "tax", "mouse"}
    assert {document.id for document in retriever.invoke("the moon", filter={"year": {"$gt": 2020}})} == {"tax"}
    assert retriever.invoke("the moon", filter="lang = 'de'") == []
    assert len(retriever.invoke("the moon", k=0)) == 0
    with pytest.raises(FilterError):
        retriever.invoke("the moon", filter="year = 1) or (id exists")


def test_async_gives_the_same_and_lets_the_loop_go_on(library, loop_goes_on):
    retriever = SmartRetriever(index=library)
    expected = retriever.invoke("the moon", k=2, filter={"lang": "de"})
    assert loop_goes_on(lambda: retriever.ainvoke("the moon", k=2, filter={"lang": "de"})) == expected
    assert len(expected) == 2


def test_it_opens_a_folder_and_stands_in_a_chain(folder):
    retriever = SmartRetriever(index=folder, k=1, options={"lexical_weight": 50.0})
    chain = retriever | RunnableLambda(lambda documents: documents[0].metadata)
    assert chain.invoke("people who write about bread and butter")["id"] == "bread"
    assert [one["id"] for one in chain.batch(["the quick mouse", "tax is due in the morning"])] == ["mouse", "tax"]
    assert "lexical" in chain.invoke("bread and butter")


def test_wrong_settings_are_refused(folder, library):
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        SmartRetriever(index=folder, k=-1)
    with pytest.raises(SmartError, match="model: found one beside"):
        SmartRetriever(index=library, model="minilm")


def test_the_example_of_the_guide_runs(guide):
    names = guide("langchain", FakeListChatModel(responses=["in the river"]))
    assert names["answer"] == "in the river"
    assert [document.id for document in names["found"]] == ["otter"]
    assert names["context"](names["found"]) == "[otter] the otter swims in the cold river"
