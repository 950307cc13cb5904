"""The packed losses: equal to the plain formula, cached or not, one process or two."""

import pytest
import torch
from fixtures.tiny_models import TEXTS

from smart_retrieval import SmartModel
from smart_retrieval.core.packing import pack
from smart_retrieval.errors import SmartError
from smart_retrieval.training.backbone.losses import CachedHybridLoss, HybridLoss, HybridScores, HybridTeacherScores
from smart_retrieval.training.objectives import contrastive_loss

WEIGHTS = {"anchor": (1.0, 0.0), "late": (0.0, 1.0), "hybrid": (1.0, 1.0)}


def packed(items, lengths, width, anchor_dim, seed):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.nn.functional.normalize(torch.randn(items, max(lengths), width, generator=generator), dim=-1)
    anchors = torch.nn.functional.normalize(torch.randn(items, anchor_dim, generator=generator), dim=-1)
    kept = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return anchors, tokens, kept, *pack(anchors, tokens, kept)


@pytest.mark.parametrize("anchor_dim", [3, 6, 15])
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_packed_scores_equal_the_hybrid_formula(weights, anchor_dim):
    qa, qt, qk, queries, q_mask = packed(3, [2, 4, 1], 6, anchor_dim, 0)
    da, dt, dk, documents, d_mask = packed(6, [3, 1, 2, 5, 4, 2], 6, anchor_dim, 1)
    scorer = HybridScores(anchor_dim, *weights)
    found = scorer(queries, documents.unflatten(0, (3, 2)), q_mask, d_mask.unflatten(0, (3, 2)))
    for i in range(3):
        for j in range(6):
            late = (qt[i][qk[i]] @ dt[j][dk[j]].T).max(dim=1).values.mean()
            expected = weights[0] * (qa[i] @ da[j]) + weights[1] * late
            assert found[i, j].item() == pytest.approx(expected.item(), abs=1e-6)
    own = HybridTeacherScores(anchor_dim, *weights)(
        queries, documents.unflatten(0, (3, 2)), q_mask, d_mask.unflatten(0, (3, 2))
    )
    torch.testing.assert_close(own, torch.stack([found[i, 2 * i : 2 * i + 2] for i in range(3)]))


LABELS = torch.tensor([[0, 0, 4], [1, 1, 5], [2, 2, 6], [3, 3, 7]])
RELEVANT = {0: frozenset({0, 1}), 1: frozenset({1}), 2: frozenset({2, 7}), 3: frozenset({3})}


def loss_of(model, kind, weights, relevant=RELEVANT, **kwargs):
    kwargs = {"scale": 20.0, **kwargs}
    loss = kind(model.encoder, similarity_fct=HybridScores(model.anchor_dim, *weights), **kwargs)
    loss.relevant = relevant
    return loss


def columns(model):
    texts = [TEXTS[:4], TEXTS[4:8], TEXTS[8:12]]
    tasks = ("query", "document", "document")
    return [
        model.encoder.preprocess(t, task=task, prompt=model.prompts.get(task))
        for t, task in zip(texts, tasks, strict=True)
    ]


def gradients(model, loss, labels):
    model.encoder.eval()  # dropout would be drawn anew in each pass
    model.encoder.zero_grad()
    value = loss(columns(model), labels)
    value.backward()
    return value.item(), {name: p.grad.clone() for name, p in model.encoder.named_parameters() if p.grad is not None}


def naive(model, weights):
    """Encoded item by item, scored pair by pair."""
    model.encoder.eval()
    model.encoder.zero_grad()
    vectors = []
    for features in columns(model):
        out = model.encoder(dict(features), task=None)
        vectors.append(
            [(a, t[k]) for a, t, k in zip(out["sentence_embedding"], out["token_vectors"], out["kept"], strict=True)]
        )
    queries, firsts, seconds = vectors
    documents = [d for pair in zip(firsts, seconds, strict=True) for d in pair]
    numbers = LABELS[:, 1:].flatten().tolist()
    scores, ignored = torch.zeros(4, 8), torch.zeros(4, 8, dtype=torch.bool)
    for i, (qa, qt) in enumerate(queries):
        for j, (da, dt) in enumerate(documents):
            late = (qt @ dt.T).max(dim=1).values.mean()
            scores[i, j] = weights[0] * torch.cosine_similarity(qa, da, dim=0) + weights[1] * late
            ignored[i, j] = numbers[j] in RELEVANT[i] and j != 2 * i
    assert ignored.sum() == 2
    loss = contrastive_loss(scores, torch.arange(4) * 2, ignored, 1 / 20)
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.encoder.named_parameters() if p.grad is not None}
    # Rounding is of the size of the largest gradient that small ones are sums of.
    return loss.item(), found, max(g.abs().max() for g in found.values())


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_plain_cached_and_naive_agree(weights, tiny):
    model = SmartModel(tiny("prompts"), device="cpu", preset="paper")
    expected = naive(model, weights)
    for loss in (
        loss_of(model, HybridLoss, weights),
        loss_of(model, CachedHybridLoss, weights, mini_batch_size=3, score_mini_batch_size=2),
    ):
        value, found = gradients(model, loss, LABELS)
        assert value == pytest.approx(expected[0], abs=1e-5)
        for name, gradient in expected[1].items():
            atol = 1e-5 * max(1.0, float(gradient.abs().max()), float(expected[2]))
            torch.testing.assert_close(found.get(name, torch.zeros_like(gradient)), gradient, atol=atol, rtol=1e-3)


def test_equally_relevant_documents_are_no_negatives(tiny):
    model = SmartModel(tiny("mean"), device="cpu", preset="paper")
    masked = loss_of(model, HybridLoss, (1.0, 1.0), scale=1.0)
    unmasked = loss_of(model, HybridLoss, (1.0, 1.0), relevant={}, scale=1.0)
    with torch.no_grad():
        model.encoder.eval()
        assert masked(columns(model), LABELS) < unmasked(columns(model), LABELS) - 1e-4
        assert unmasked(columns(model), LABELS) == unmasked(columns(model), None)
    # The same document as a negative of another row is masked without anyone knowing of a relevance.
    labels = LABELS.clone()
    labels[1, 2] = 0
    mask = unmasked._ignored(labels)
    assert mask.nonzero().tolist() == [[0, 3]]


def test_the_mask_is_removed_after_an_error(tiny):
    model = SmartModel(tiny("mean"), device="cpu", preset="paper")
    loss = loss_of(model, HybridLoss, (1.0, 1.0))
    with pytest.raises((SmartError, KeyError, IndexError, ValueError, TypeError)):
        loss([{"nothing": torch.zeros(1)}], LABELS)
    assert loss.similarity_fct.ignored is None


def one_of_two(rank, path, folder, kind):
    """A process with half of the batch; the first writes the gradients, averaged as distributed training does."""
    import torch.distributed as dist
    from safetensors.torch import save_file

    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    model = SmartModel(path, device="cpu", preset="paper")
    kwargs = {} if kind is HybridLoss else {"mini_batch_size": 1}
    loss = loss_of(model, kind, (1.0, 1.0), gather_across_devices=True, **kwargs)
    own = slice(2 * rank, 2 * rank + 2)
    halves = [
        {k: v[own] if isinstance(v, torch.Tensor) and v.ndim > 1 else v for k, v in c.items()} for c in columns(model)
    ]
    model.encoder.eval()
    loss(halves, LABELS[own]).backward()
    gradients = {}
    for name, parameter in model.encoder.named_parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            gradients[name] = parameter.grad / 2
    if rank == 0:
        save_file(gradients, f"{folder}/gradients.safetensors")
    dist.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
@pytest.mark.parametrize("kind", [HybridLoss, CachedHybridLoss])
def test_two_processes_equal_one_with_the_whole_batch(kind, tiny, tmp_path):
    from safetensors.torch import load_file

    # Forked, so that nothing is imported again; there is no GPU whose state could not be shared.
    context = torch.multiprocessing.get_context("fork")
    path = tiny("prompts")
    workers = [context.Process(target=one_of_two, args=(rank, path, str(tmp_path), kind)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=300)
        assert worker.exitcode == 0
    _, expected, largest = naive(SmartModel(path, device="cpu", preset="paper"), (1.0, 1.0))
    found = load_file(tmp_path / "gradients.safetensors")
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5 * float(largest), rtol=1e-3)
