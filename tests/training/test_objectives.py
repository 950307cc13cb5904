"""Scores, losses and gradients against naive loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval import SmartEmbeddings, late_scores
from smart_retrieval.errors import TrainingError
from smart_retrieval.training.objectives import (
    contrastive_loss,
    distillation_loss,
    hybrid_matrix,
    late_matrix,
    max_similarities,
    padded,
)
from smart_retrieval.training.recipes import objective_weights


def unit(x):
    return torch.nn.functional.normalize(x, dim=-1)


def ragged(lengths, width=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return unit(torch.randn(sum(lengths), width, generator=generator)).requires_grad_()


def naive_late(queries, query_lengths, documents, document_lengths, weights=None):
    rows = []
    for i, q in enumerate(queries.split(query_lengths)):
        w = torch.ones(len(q)) if weights is None else weights.split(query_lengths)[i]
        row = []
        for d in documents.split(document_lengths):
            row.append(
                sum(w[t] * max((q[t] @ d[j] for j in range(len(d))), key=float) for t in range(len(q))) / w.sum()
            )
        rows.append(torch.stack(row))
    return torch.stack(rows)


def fast_late(queries, query_lengths, documents, document_lengths, weights=None):
    block, mask = padded(documents, torch.tensor(document_lengths))
    return late_matrix(max_similarities(queries, block, mask), torch.tensor(query_lengths), weights)


LENGTHS = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@given(q=LENGTHS, d=LENGTHS, seed=st.integers(0, 99), weighted=st.booleans())
def test_late_scores_and_gradients_equal_a_loop(q, d, seed, weighted):
    weights = torch.rand(sum(q), generator=torch.Generator().manual_seed(seed)) + 0.1 if weighted else None
    found, expected = [], []
    for late, out in ((fast_late, found), (naive_late, expected)):
        queries, documents = ragged(q, seed=seed), ragged(d, seed=seed + 1)
        scores = late(queries, q, documents, d, weights)
        (scores * torch.linspace(-1, 2, scores.numel()).view_as(scores)).sum().backward()
        out += [scores.detach(), queries.grad, documents.grad]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("q", "d"), [([2, 0, 1], [3, 0, 2, 0]), ([0, 0], [1, 2]), ([1], [0, 0])])
def test_what_has_no_tokens_scores_0_and_learns_nothing(q, d):
    queries, documents = ragged(q), ragged(d, seed=1)
    scores = fast_late(queries, q, documents, d)
    batches = (
        SmartEmbeddings(torch.ones(len(n), 1), rows.detach().numpy(), torch.tensor([0, *n]).cumsum(0))
        for rows, n in ((queries, q), (documents, d))
    )
    torch.testing.assert_close(scores.detach(), torch.from_numpy(late_scores(*batches)))
    contrastive_loss(scores[:, :2], torch.zeros(len(q), dtype=torch.long)).backward()
    assert torch.isfinite(queries.grad).all()
    assert torch.isfinite(documents.grad).all()


def test_blocks_of_queries_change_nothing(monkeypatch):
    from smart_retrieval.training import objectives

    q, d = [3, 4, 2], [2, 5]
    whole = fast_late(ragged(q), q, ragged(d, seed=1), d)
    monkeypatch.setattr(objectives, "_BLOCK", 1)
    torch.testing.assert_close(fast_late(ragged(q), q, ragged(d, seed=1), d), whole)


def test_training_scores_equal_inference_scores():
    import numpy as np

    from smart_retrieval import SmartEmbeddings, late_scores

    q, d = [3, 1, 4], [2, 5, 1]
    queries, documents = ragged(q).detach(), ragged(d, seed=1).detach()
    both = [SmartEmbeddings(np.ones((3, 1)), x.numpy(), np.cumsum([0, *n])) for x, n in ((queries, q), (documents, d))]
    torch.testing.assert_close(fast_late(queries, q, documents, d), torch.from_numpy(late_scores(*both)))


@pytest.mark.parametrize("objective", ["anchor", "late", "hybrid"])
def test_the_loss_of_each_objective_has_the_gradient_of_the_formula(objective):
    a, b = objective_weights(objective, 0.7, 1.3)
    q, d, targets = [3, 2, 4], [2, 5, 3, 1], torch.tensor([1, 0, 3])
    ignored = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.bool)
    results = []
    for late in (fast_late, naive_late):
        queries, documents = ragged(q), ragged(d, seed=1)
        anchors_q, anchors_d = ragged([1] * 3, seed=2), ragged([1] * 4, seed=3)
        scores = a * (anchors_q @ anchors_d.T) + b * late(queries, q, documents, d)
        if late is fast_late:
            loss = contrastive_loss(scores, targets, ignored, temperature=0.1)
        else:
            loss = torch.zeros(())
            for i in range(3):
                others = [j for j in range(4) if not ignored[i, j]]
                logits = torch.stack([scores[i, j] / 0.1 for j in others])
                loss = loss - (scores[i, targets[i]] / 0.1 - logits.exp().sum().log()) / 3
        loss.backward()
        results.append([loss.detach(), *(x.grad for x in (queries, documents, anchors_q, anchors_d))])
    for x, y in zip(*results, strict=True):
        torch.testing.assert_close(x, y, atol=1e-6, rtol=1e-5)


def test_ignored_documents_do_not_change_the_loss():
    scores = torch.tensor([[1.0, 5.0, 0.5]])
    masked = contrastive_loss(scores, torch.tensor([0]), torch.tensor([[False, True, False]]), 1.0)
    torch.testing.assert_close(masked, contrastive_loss(scores[:, [0, 2]], torch.tensor([0]), None, 1.0))


def test_distillation_is_the_divergence_over_scored_candidates():
    scores = torch.tensor([[0.1, 0.4, 0.9], [0.3, 0.2, 0.6]], requires_grad=True)
    teacher = torch.tensor([[2.0, -math.inf, 1.0], [0.5, 0.0, 3.0]])
    loss = distillation_loss(scores, teacher, temperature=0.5, teacher_temperature=2.0)
    expected = torch.zeros(())
    for row in range(2):
        known = [c for c in range(3) if teacher[row, c] > -math.inf]
        p = (teacher[row, known] / 2.0).softmax(-1)
        q = (scores[row, known] / 0.5).softmax(-1)
        expected = expected + (p * (p / q).log()).sum() / 2
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, scores)
    (wanted,) = torch.autograd.grad(expected, scores)
    torch.testing.assert_close(gradient, wanted)
    assert gradient[0, 1] == 0


def test_distillation_from_equal_scores_is_zero():
    scores = torch.tensor([[0.1, 0.4, 0.9]], requires_grad=True)
    loss = distillation_loss(scores, scores.detach() / 0.03, temperature=0.03)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert scores.grad.abs().max() <= 1e-5


def test_objectives_are_weights():
    assert [objective_weights(name, 2, 3) for name in ("anchor", "late", "hybrid")] == [(1, 0), (0, 1), (2, 3)]
    with pytest.raises(TrainingError, match="expected one of 'anchor', 'hybrid', 'late'"):
        objective_weights("both")


def test_the_similarities_of_all_tokens_are_never_held(monkeypatch):
    from torch.utils._python_dispatch import TorchDispatchMode

    from smart_retrieval.training import objectives

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            found = function(*args, **(kwargs or {}))
            for one in found if isinstance(found, tuple) else (found,):
                if isinstance(one, torch.Tensor) and one.layout == torch.strided:
                    self.elements = max(self.elements, one.numel())
            return found

    monkeypatch.setattr(objectives, "_BLOCK", 2048)
    q, d = [16] * 8, [32] * 16  # 128 by 512 similarities
    queries, documents = ragged(q), ragged(d, seed=1)
    with Largest() as largest:
        fast_late(queries, q, documents, d).sum().backward()
    assert len(documents) * 5 <= largest.elements <= 128 * 512 // 8
    assert queries.grad is not None


@pytest.mark.parametrize("lambda_anchor", [0.0, 1.0])
def test_scores_and_gradients_are_float32_under_autocast(lambda_anchor):
    q, d = [3, 2], [4, 1, 5]

    def run(scored_in, gradients_in):
        queries, documents = ragged(q, 16, 1), ragged(d, 16, 2)
        anchors = ragged([2], 16, 3), ragged([3], 16, 4)
        block, mask = padded(documents, torch.tensor(d))
        with torch.autocast("cpu", torch.bfloat16, enabled=scored_in):
            scores = hybrid_matrix((lambda_anchor, 1.0), *anchors, queries, torch.tensor(q), block, mask)
        # PyTorch advises against gradients under autocast, and computes those of the anchors in bfloat16 there.
        with torch.autocast("cpu", torch.bfloat16, enabled=gradients_in):
            scores.square().sum().backward()
        return [scores.detach(), queries.grad, documents.grad, *(one.grad for one in anchors if lambda_anchor)]

    expected = run(False, False)
    found = run(True, not lambda_anchor)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)
