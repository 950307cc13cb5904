"""The Haystack component: a pipeline, saved and loaded; filters compared with Haystack's own; async."""

import os

import pytest

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
pytest.importorskip("haystack")
from fixtures.library import TEXTS as STORED
from fixtures.library import selected
from haystack import Document, Pipeline, component
from haystack.components.builders import PromptBuilder
from haystack.core.errors import DeserializationError
from haystack.dataclasses import ChatMessage
from haystack.utils.filters import document_matches_filter
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.errors import FilterError, SmartError
from smart_retrieval.integrations.haystack import SmartRetriever, where_of_filters


def one(field, operator, value):
    return {"field": field, "operator": operator, "value": value}


def ids(found):
    return [document.id for document in found["documents"]]


def test_documents_carry_ids_scores_and_metadata(library):
    found = SmartRetriever(library, top_k=2).run("the otter swims in the river")["documents"]
    (hit,) = library.search("the otter swims in the river", 1)
    assert isinstance(found[0], Document)
    assert (found[0].id, found[0].content, found[0].score) == ("otter", hit.text, hit.score)
    assert found[0].meta["source"] == "river.md"
    assert found[0].meta["late"] == hit.late
    assert found[0].score >= found[1].score


def test_a_pipeline_is_saved_and_loaded(folder):
    pipeline = Pipeline()
    retriever = SmartRetriever(
        folder, one("meta.lang", "==", "en"), 1, "merge", "id != 'tax'", {"lexical_weight": 50.0}
    )
    pipeline.add_component("retriever", retriever)
    template = "{% for d in documents %}{{ d.meta.source }}: {{ d.content }}{% endfor %} {{ question }}"
    pipeline.add_component("prompt", PromptBuilder(template, required_variables="*"))
    pipeline.connect("retriever.documents", "prompt.documents")
    inputs = {"retriever": {"query": "tax and otter"}, "prompt": {"question": "when?"}}
    pipeline.warm_up()
    expected = pipeline.run(inputs)
    assert expected["prompt"]["prompt"] == "river.md: the otter swims in the cold river when?"
    with pytest.raises(DeserializationError):  # Haystack loads classes of its own only, unless told
        Pipeline.loads(pipeline.dumps())
    loaded = Pipeline.loads(pipeline.dumps(), allowed_modules=["smart_retrieval.integrations.haystack"])
    assert loaded.to_dict() == pipeline.to_dict()
    assert loaded.run(inputs) == expected


def test_what_has_no_text_is_not_saved(library):
    class Rerank:
        def predict(self, pairs):
            return [0.0 for _ in pairs]

    with pytest.raises(SmartError, match=r"to_dict: .*by name"):
        SmartRetriever(library, options={"rerank": Rerank()}).to_dict()
    assert SmartRetriever(library).to_dict()["init_parameters"]["index"] == str(library.path)


def test_filters_replace_or_merge_and_where_always_holds(library):
    english = one("meta.lang", "==", "en")
    late = one("meta.year", ">=", 2021)
    replacing = SmartRetriever(library, filters=english, where="id != 'tax'")
    assert set(ids(replacing.run("the moon"))) == {"otter"}
    assert set(ids(replacing.run("the moon", filters=late))) == {"moon"}
    merging = SmartRetriever(library, filters=english, filter_policy="merge")
    assert set(ids(merging.run("the moon", filters=late))) == {"tax"}
    assert ids(merging.run("the moon", top_k=0)) == []
    assert ids(SmartRetriever(library).run("the moon", filters=one("meta.page", "==", 3))) == ["tax"]
    assert ids(SmartRetriever(library).run("the moon", filters=one("meta.author.name", "==", "O'Hara"))) == ["tax"]


def test_async_gives_the_same_and_lets_the_loop_go_on(library, loop_goes_on):
    retriever = SmartRetriever(library, top_k=3)
    expected = retriever.run("the moon", filters=one("meta.lang", "==", "de"))
    assert loop_goes_on(lambda: retriever.run_async("the moon", one("meta.lang", "==", "de"))) == expected
    assert len(ids(expected)) == 2


TEXTS = ["en", "' or '1'='1", "`", "\\", ") or (id exists"]
FIELDS = st.sampled_from(["meta.lang", "meta.two words", "lang", "meta.author.name"])
LEAVES = (
    st.builds(one, FIELDS, st.sampled_from(["==", "!="]), st.sampled_from([*TEXTS, 2, None]))
    | st.builds(one, FIELDS, st.sampled_from(["in", "not in"]), st.lists(st.sampled_from([*TEXTS, 2]), max_size=3))
    | st.builds(one, st.just("meta.year"), st.sampled_from([">", ">=", "<", "<="]), st.integers(1, 3))
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        lambda operator, conditions: {"operator": operator, "conditions": conditions},
        st.sampled_from(["AND", "OR", "NOT"]), st.lists(inner, max_size=3),
    ),
    max_leaves=6,
)  # fmt: skip
DOCUMENTS = {
    "none": {},
    "one": {"lang": "en", "two words": "`", "year": 1, "author": {"name": "' or '1'='1"}},
    "two": {"lang": "' or '1'='1", "two words": ") or (id exists", "year": 2},
    "three": {"lang": "\\", "year": 3, "author": "en"},
}


@given(FILTERS)
def test_a_filter_lets_through_what_haystack_does(filters):
    expected = {
        name for name, meta in DOCUMENTS.items() if document_matches_filter(filters, Document(content="", meta=meta))
    }
    assert selected(where_of_filters(filters), DOCUMENTS) == expected


@pytest.mark.parametrize(
    "bad",
    [
        one("content", "==", "x"),
        one("meta.year", "~", 3),
        {"field": "meta.year", "operator": "=="},
        {"operator": "XOR", "conditions": []},
        {"operator": "AND"},
        {"operator": "AND", "conditions": ["year = 3"]},
        one("meta.tags", "==", ["a"]),
        one(3, "==", 3),
        [],
    ],
)
def test_what_cannot_be_said_is_refused(bad):
    with pytest.raises(FilterError):
        where_of_filters(bad)


def test_the_example_of_the_guide_runs(guide):
    @component
    class Repeats:
        @component.output_types(replies=list[ChatMessage])
        def run(self, messages: list[ChatMessage]):
            return {"replies": messages}

    (reply,) = guide("haystack", Repeats())["answer"]["llm"]["replies"]
    assert "where does the otter swim?" in reply.text
    assert sum(text in reply.text for text in STORED.values()) == 3
    assert STORED["bread"] not in reply.text  # it has no year
