"""Batches: each document once, what is relevant masked, every example once an epoch."""

import numpy as np
from fixtures.training import linked, training_set
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.training.data.batches import batch_of_step, steps_in_epoch


@given(step=st.integers(0, 30), negatives=st.integers(0, 3), seed=st.integers(0, 9))
def test_a_batch_holds_each_document_once_and_masks_what_is_relevant(step, negatives, seed):
    data = linked([(i % 9, (i * 5) % 15) for i in range(30)])
    batch = batch_of_step(data, step, batch_size=4, negatives=negatives, seed=seed)
    assert len(set(batch.documents)) == len(batch.documents)
    relevant = data.relevant()
    for row, query in enumerate(batch.queries):
        target = batch.documents[batch.targets[row]]
        assert target in relevant[query]
        for column, document in enumerate(batch.documents):
            assert batch.ignored[row, column] == (document in relevant[query] and document != target)
    again = batch_of_step(data, step, batch_size=4, negatives=negatives, seed=seed)
    assert (again.queries, again.documents) == (batch.queries, batch.documents)


def test_an_epoch_is_every_example_once_but_for_a_lone_last_one():
    data = training_set(13)
    assert [steps_in_epoch(13, size) for size in (4, 6, 13, 20)] == [3, 2, 1, 1]
    for epoch in range(2):
        seen = [
            q for s in range(3) for q in batch_of_step(data, epoch * 3 + s, batch_size=4, negatives=0, seed=0).queries
        ]
        assert len(seen) == len(set(seen)) == 12


def test_teacher_scores_are_in_their_documents_columns():
    data = training_set(6, negatives=2, scores=True)
    batch = batch_of_step(data, 0, batch_size=6, negatives=2, seed=0)
    for row, query in enumerate(batch.queries):
        example = next(e for e in data.examples if e.query == query)
        wanted = dict(zip((*example.positives, *example.negatives), example.scores, strict=True))
        for column, document in enumerate(batch.documents):
            assert batch.teacher[row, column] == np.float32(wanted.get(document, -np.inf))
