"""The LlamaIndex retriever: its base class, filters compared with LlamaIndex's own, async, a query engine."""

import pytest

pytest.importorskip("llama_index.core")
from fixtures.library import selected
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import MetadataMode, QueryBundle
from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from smart_retrieval.errors import FilterError
from smart_retrieval.integrations.llamaindex import SmartRetriever, where_of_filters


def one(key, value, operator="=="):
    return MetadataFilter(key=key, value=value, operator=FilterOperator(operator))


def test_nodes_carry_ids_scores_and_metadata(library):
    retriever = SmartRetriever(library, similarity_top_k=2)
    assert isinstance(retriever, BaseRetriever)
    best, second = retriever.retrieve("the otter swims in the river")
    (hit,) = library.search("the otter swims in the river", 1)
    assert (best.node.node_id, best.node.get_content(), best.score) == ("otter", hit.text, hit.score)
    assert best.score >= second.score
    assert best.node.ref_doc_id == "river.md"
    assert best.node.metadata["late"] == hit.late
    shown = best.node.get_content(metadata_mode=MetadataMode.LLM)
    assert "source: river.md" in shown
    assert "late" not in shown
    assert best.node.get_content(metadata_mode=MetadataMode.EMBED).count("score") == 0


def test_async_gives_the_same_and_lets_the_loop_go_on(library, loop_goes_on):
    retriever = SmartRetriever(library, filters="lang = 'de'")
    expected = retriever.retrieve(QueryBundle("the moon"))
    found = loop_goes_on(lambda: retriever.aretrieve("the moon"))
    assert [node.node_id for node in found] == [node.node_id for node in expected]
    assert len(expected) == 2


def test_a_query_engine_answers_from_it(folder):
    retriever = SmartRetriever(folder, similarity_top_k=1, options={"lexical_weight": 50.0})
    answer = RetrieverQueryEngine.from_args(retriever, llm=MockLLM()).query("when is tax due?")
    assert "tax is due in the morning" in answer.response
    assert answer.source_nodes[0].node.metadata["page"] == 3


def test_nested_filters(library):
    year = MetadataFilters(filters=[one("year", 2021, ">="), one("year", 2020, "<")], condition=FilterCondition.OR)
    both = MetadataFilters(filters=[year, one("lang", "en")])
    found = SmartRetriever(library, filters=both).retrieve("the moon")
    assert [node.node_id for node in found] == ["tax"]
    assert len(SmartRetriever(library, filters=MetadataFilters(filters=[])).retrieve("the moon")) == 5


TEXTS = ["en", "' or '1'='1", "%", "a_b", "`", "\\", "EN"]
SINGLE = st.builds(
    one,
    st.sampled_from(["lang", "two words"]),
    st.sampled_from(TEXTS),
    st.sampled_from(["==", "!=", "contains", "text_match", "text_match_insensitive"]),
)
SEVERAL = st.builds(
    one, st.sampled_from(["lang", "two words"]), st.lists(st.sampled_from(TEXTS), max_size=3),
    st.sampled_from(["in", "nin"]),
)  # fmt: skip
ORDERED = st.builds(one, st.just("year"), st.integers(1, 3), st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
OF_LISTS = st.builds(
    one, st.just("tags"), st.lists(st.sampled_from(TEXTS), max_size=3), st.sampled_from(["any", "all"])
)
DOCUMENTS = {
    "none": {},
    "one": {"lang": "en", "two words": "%", "year": 1, "tags": ["en", "`"]},
    "two": {"lang": "' or '1'='1", "two words": "xa_by", "year": 2, "tags": []},
    "three": {"lang": "\\", "two words": "axb", "year": 3, "tags": ["%", "a_b", "en"]},
    "four": {"lang": "`En", "two words": "' or '1'='1"},
}


@given(st.lists(SINGLE | SEVERAL | ORDERED | OF_LISTS, min_size=1, max_size=4), st.sampled_from(FilterCondition))
def test_a_filter_lets_through_what_llamaindex_does(filters, condition):
    asked = MetadataFilters(filters=filters, condition=condition)
    keep = build_metadata_filter_fn(DOCUMENTS.get, asked)
    expected = {name for name in DOCUMENTS if keep(name)}
    # "all of nothing" holds here also where there is no such key
    if any(one.operator == FilterOperator.ALL and not one.value for one in filters):
        return
    assert selected(where_of_filters(asked), DOCUMENTS) == expected


@pytest.mark.parametrize(
    "bad", [one("year", None, "is_empty"), one("lang", 3, "text_match_insensitive"), one("a", "x", "in")]
)
def test_what_cannot_be_said_is_refused(bad):
    with pytest.raises(FilterError):
        where_of_filters(MetadataFilters(filters=[bad]))


def test_the_example_of_the_guide_runs(guide):
    names = guide("llamaindex", MockLLM())
    assert "where does the otter swim?" in names["answer"].response
    assert len(names["found"]) == 3
    assert all(node.node.metadata["year"] >= 2020 for node in names["found"])
