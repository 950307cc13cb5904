"""Training examples: splits that leak nothing."""

import pytest
from fixtures.training import linked, training_set
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.errors import DatasetError
from smart_retrieval.training.data.examples import split

LINKS = st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), min_size=4, max_size=40)


@given(links=LINKS, seed=st.integers(0, 50))
def test_no_document_and_no_page_of_a_file_is_on_both_sides(links, seed):
    data = linked(links, pages_of_one_file=(0, 1, 2))
    try:
        training, held = split(data, 0.3, seed)
    except DatasetError:
        return
    assert len(training) + len(held) == len(data)

    def seen(part, positives):
        return {
            part.documents[d].text for e in part.examples for d in (*e.positives, *(() if positives else e.negatives))
        }

    trained, judged = seen(training, positives=False), seen(held, positives=True)
    assert not trained & judged
    pages = {f"document {i}" for i in (0, 1, 2)}
    assert not (seen(training, True) & pages and judged & pages)
    assert {item.text for item in training.queries} | {item.text for item in held.queries} == {
        item.text for item in data.queries
    }


def test_the_split_is_of_the_size_asked_for_and_decided_by_the_seed():
    data = training_set(100)
    training, held = split(data, 0.2, seed=1)
    assert (len(training), len(held)) == (80, 20)
    assert split(data, 0.2, seed=1)[1].queries == held.queries
    assert split(data, 0.2, seed=2)[1].queries != held.queries
    assert len(split(data, 0.5, most=10)[1]) == 10
    for share in (0, 1, -1, 2):
        with pytest.raises(DatasetError, match="between 0 and 1"):
            split(data, share)


def test_one_connected_group_cannot_be_split():
    with pytest.raises(DatasetError, match="1 groups"):
        split(linked([(i, 0) for i in range(8)]), 0.2)


def test_teachers_scores_follow_their_documents_through_a_split():
    data = training_set(30, negatives=3, scores=True)
    training, _ = split(data, 0.4, seed=3)
    assert any(len(e.negatives) < 3 for e in training.examples)
    by_text = {
        (data.queries[e.query].text, data.documents[d].text): s
        for e in data.examples
        for d, s in zip((*e.positives, *e.negatives), e.scores, strict=True)
    }
    for e in training.examples:
        for d, s in zip((*e.positives, *e.negatives), e.scores, strict=True):
            assert by_text[training.queries[e.query].text, training.documents[d].text] == s
