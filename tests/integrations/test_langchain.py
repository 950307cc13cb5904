"""The LangChain retriever and vector store: LangChain's own standard tests, filters, async, a chain."""

from pathlib import Path

import pytest

pytest.importorskip("langchain_core")
from fixtures.pages_of_docs import blocks
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

from smart_retrieval.errors import FilterError, SmartError
from smart_retrieval.integrations.langchain import SmartRetriever, SmartVectorStore


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


@pytest.mark.filterwarnings("ignore:.*is marked with '@pytest.mark.asyncio'")
@pytest.mark.asyncio
class TestStandardStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path, minilm):
        store = SmartVectorStore.from_texts([], minilm, index=tmp_path / "store.smart")
        yield store
        store.index.close()


def test_a_store_is_filled_searched_and_emptied(tmp_path, minilm):
    documents = [
        Document("Otters sleep afloat.", metadata={"year": 2024}, id="otter"),
        Document("Oak logs burn slowly.", metadata={"year": 2019}),
    ]
    store = SmartVectorStore.from_documents(documents, minilm, index=tmp_path / "store.smart")
    with store.index as index:
        (best, score), _ = store.similarity_search_with_score("sea animals at rest", k=2)
        assert (best.id, best.metadata) == ("otter", {"year": 2024})
        assert score == index.search("sea animals at rest", 1)[0].score
        retriever = store.as_retriever(search_kwargs={"filter": {"year": {"$lt": 2020}}, "lambda_late": 0.0})
        assert [one.page_content for one in retriever.invoke("sea animals")] == ["Oak logs burn slowly."]
        with pytest.raises(NotImplementedError, match="mmr"):
            store.as_retriever(search_type="mmr").invoke("sea")
        with pytest.raises(NotImplementedError, match="between 0 and 1"):
            store.similarity_search_with_relevance_scores("sea")
        with pytest.raises(SmartError, match="at most one"):
            store.delete(["otter"], filter="year = 2024")
        assert store.delete(filter={"year": 2024})
        assert (len(index), store.get_by_ids(["otter"])) == (1, [])
        assert store.delete()
        assert len(index) == 0
    with pytest.raises(SmartError, match="embedding: found a DeterministicFakeEmbedding"):
        SmartVectorStore.from_texts(["a"], DeterministicFakeEmbedding(size=4), index=tmp_path / "other.smart")


def test_a_store_over_indexed_files_says_where_passages_are_from(library):
    (found,) = SmartVectorStore(library).similarity_search("tax", k=1, filter="source = 'tax.pdf'")
    assert (found.metadata["source"], found.metadata["page"], found.metadata["year"]) == ("tax.pdf", 3, 2021)


def test_the_example_of_the_store_runs(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "guides" / "rag.md").read_text(encoding="utf-8")
    (code,) = [one for one in blocks(page, "python") if "SmartVectorStore" in one]
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "guide"}
    exec(compile(code, "rag.md: store", "exec"), names)
    assert names["document"].id == "otter"
    assert [one.page_content for one in names["retriever"].invoke("tax")] == ["Tax is due in May."]
    names["store"].index.close()
