"""The objectives of the example that trains the glyph model, against the library's scores and naive loops."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from smart_retrieval.core.hybrid import anchor_scores
from smart_retrieval.core.late import late_scores
from smart_retrieval.demo.glyph_pages import STYLES, glyph_page, held

EXAMPLE = Path(__file__).parents[2] / "examples" / "glyph_pages"
MODULES = ("checkpoint", "fast_forward", "measure", "objectives", "train")
PAGES = 5


@pytest.fixture(scope="module")
def example() -> Iterator[Any]:
    """The example's modules, whose names are its own business and are forgotten afterwards."""
    sys.path.insert(0, str(EXAMPLE))
    loaded = SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    yield loaded
    sys.path.remove(str(EXAMPLE))
    for name in MODULES:
        del sys.modules[name]


@pytest.fixture(scope="module")
def glyph(example: Any) -> Any:
    """A model as training starts it, and a batch of test pages with two queries each."""
    torch.manual_seed(0)
    tokenizer = example.checkpoint.build_tokenizer()
    model = importlib.import_module("transformers").Qwen3VLModel(example.checkpoint.build_config(tokenizer))
    example.checkpoint.initialise(model)
    style = STYLES["shapes"]
    fast = example.fast_forward.PageModel(model, tokenizer, (style.size[0] // 16, style.size[1] // 16))
    texts = example.objectives.Texts(tokenizer, "shapes", fast.closing, fast.pad_id)
    pages = [glyph_page("test", number) for number in range(PAGES)]
    marks = torch.from_numpy(held([page.objects for page in pages], "shapes"))
    chosen, spurious = example.train.draw_queries(marks, 2, np.random.default_rng(0))
    spurious[0][0, 3] = spurious[1][2, 4] = True
    patches = torch.cat([example.fast_forward.to_patches(torch.from_numpy(page.pixels())[None]) for page in pages])
    objects = [np.array([style.kinds.index(kind) for kind in page.objects]) for page in pages]
    batch = example.objectives.Batch(patches, chosen, spurious, objects)
    return SimpleNamespace(fast=fast, texts=texts, batch=batch, marks=marks, tokenizer=tokenizer)


def test_fast_forward_equals_transformers(example: Any, glyph: Any) -> None:
    ids, _ = glyph.texts.rows([np.array([3, 77]), np.array([140, 0])])
    assert example.fast_forward.check(glyph.fast, glyph.batch.patches[:2], ids) < 1e-4


@pytest.mark.parametrize("token_filter", ["paper", "content"])
@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.5, 2.0)])
def test_scores_in_training_are_those_of_the_evaluation(
    example: Any, glyph: Any, token_filter: str, weights: tuple[float, float]
) -> None:
    ids, last = glyph.texts.rows(glyph.batch.chosen)
    judged = SimpleNamespace(patches=glyph.batch.patches, ids=ids, last=last)
    queries, pages = example.measure.encode(glyph.fast, judged)[token_filter]
    wanted = weights[0] * anchor_scores(queries, pages) + weights[1] * late_scores(queries, pages)
    found = example.objectives.hybrid_matrix(glyph.fast, glyph.texts, glyph.batch, *weights, token_filter)
    np.testing.assert_allclose(found.detach().numpy(), wanted, atol=2e-6)


@pytest.mark.parametrize("objective", ["anchor", "late", "hybrid"])
def test_gradients_are_those_of_a_naive_loop(example: Any, glyph: Any, objective: str) -> None:
    parameters = list(glyph.fast.parameters())
    found = example.objectives.batch_loss(objective, glyph.fast, glyph.texts, glyph.batch, 0.05)
    wanted = naive_loss(glyph, objective)
    assert found.item() == pytest.approx(wanted.item(), abs=1e-5)
    gradients = [torch.autograd.grad(loss, parameters, allow_unused=True) for loss in (found, wanted)]
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert (ours - theirs).norm() <= 1e-4 * theirs.norm() + 1e-7


def naive_loss(glyph: Any, objective: str) -> torch.Tensor:
    """The symmetric loss by loops over queries, pages and tokens, without the shared opening and without padding."""
    fast, batch = glyph.fast, glyph.batch
    image = fast.model.config.image_token_id
    special = set(glyph.tokenizer.all_special_ids) - {image}

    def split(ids: list[int], states: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        states = torch.cat([fast.opening_states(), states])
        rows = [row / row.norm() for row in states]
        return rows[-1], [row for row, token in zip(rows, [*fast.opening, *ids], strict=True) if token not in special]

    pages = [split(fast.page_ids, states) for states in fast.pages(batch.patches)]
    rows = []
    for kinds in batch.chosen:
        ids = glyph.texts.rows([kinds])[0]
        anchor, tokens = split(ids[0].tolist(), fast.queries(ids)[0])
        scores = []
        for page_anchor, page_tokens in pages:
            late = sum(torch.stack([a @ b for b in page_tokens]).max() for a in tokens) / len(tokens)
            cosine = anchor @ page_anchor
            scores.append({"anchor": cosine, "late": late, "hybrid": cosine + late}[objective])
        rows.append(torch.stack(scores) / 0.05)
    terms = []
    for draw, mask in enumerate(batch.spurious):
        for own in range(PAGES):
            line = rows[draw * PAGES + own]
            terms.append(torch.logsumexp(torch.stack([line[j] for j in range(PAGES) if not mask[own, j]]), 0))
            column = [rows[draw * PAGES + i][own] for i in range(PAGES) if not mask[i, own]]
            terms.append(torch.logsumexp(torch.stack(column), 0))
            terms += [-line[own], -line[own]]
    return torch.stack(terms).sum() / (2 * len(batch.chosen))


def test_language_loss_is_next_token_prediction_of_the_page(example: Any, glyph: Any) -> None:
    fast, batch = glyph.fast, glyph.batch
    kinds = STYLES["shapes"].kinds
    embedding = fast.model.language_model.embed_tokens.weight
    terms = []
    for patches, objects in zip(batch.patches[:2], batch.objects[:2], strict=True):
        target = glyph.tokenizer(", ".join(kinds[n] for n in objects) + "<|im_end|>").input_ids
        ids = torch.tensor([[*fast.opening, *fast.page_ids, *target]])
        frames = (patches.float() / 127.5 - 1).view(-1, 3, 1, 256).expand(-1, -1, 2, -1).reshape(-1, 1536)
        states = fast.model(
            input_ids=ids,
            mm_token_type_ids=(ids == fast.model.config.image_token_id).int(),
            pixel_values=frames,
            image_grid_thw=torch.tensor([[1, *fast.grid]]),
        ).last_hidden_state[0]
        fast.model.rope_deltas = None
        chances = (states @ embedding.T).log_softmax(-1)
        terms += [-chances[ids.shape[1] - len(target) + i - 1, token] for i, token in enumerate(target)]
    two = example.objectives.Batch(batch.patches[:2], [], [], batch.objects[:2])
    found = example.objectives.batch_loss("language", fast, glyph.texts, two, 0.05)
    assert found.item() == pytest.approx(torch.stack(terms).mean().item(), abs=1e-4)


def test_query_language_loss_is_next_token_prediction_of_the_queries(example: Any, glyph: Any) -> None:
    fast, kinds = glyph.fast, STYLES["shapes"].kinds
    embedding = fast.model.language_model.embed_tokens.weight
    terms = []
    for chosen in glyph.batch.chosen:
        ids = glyph.tokenizer(", ".join(kinds[n] for n in chosen) + "<|im_end|>").input_ids
        states = fast.model(input_ids=torch.tensor([[*fast.opening, *ids]])).last_hidden_state[0, len(fast.opening) :]
        chances = (states @ embedding.T).log_softmax(-1)
        terms += [-chances[i, token] for i, token in enumerate(ids[1:])]
    found = example.objectives.query_language_loss(fast, glyph.texts, glyph.batch)
    assert found.item() == pytest.approx(torch.stack(terms).mean().item(), abs=1e-4)


def test_a_page_that_answers_a_query_is_no_negative(example: Any) -> None:
    scores = torch.eye(3) * 0.5
    spurious = torch.zeros(3, 3, dtype=torch.bool)
    spurious[0, 2] = True
    raised = scores.clone()
    raised[0, 2] = 0.9
    loss = example.objectives.symmetric_loss
    assert loss(raised, spurious, 0.05) == loss(scores, spurious, 0.05)
    assert loss(raised, ~torch.ones(3, 3, dtype=torch.bool), 0.05) > loss(scores, spurious, 0.05)


def test_drawn_queries_name_objects_of_their_page(example: Any) -> None:
    marks = torch.zeros(3, 144, dtype=torch.bool)
    marks[0, :2] = marks[1, :8] = marks[2, 100:108] = True
    chosen, spurious = example.train.draw_queries(marks, 6, np.random.default_rng(1))
    assert (len(chosen), len(spurious)) == (18, 6)
    for number, kinds in enumerate(chosen):
        draw, own = divmod(number, 3)
        assert 1 <= len(set(kinds)) == len(kinds) <= 4
        assert marks[own, kinds].all()
        for page in range(3):
            assert bool(spurious[draw][own, page]) == (page != own and bool(marks[page, kinds].all()))
    assert sum(int(mask[0, 1]) for mask in spurious) == 6, "page 1 holds all that page 0 holds"
