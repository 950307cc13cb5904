"""Train a small Qwen3-VL embedding model on glyph pages, with the plain contrastive loss on the pooled vector alone.

Late interaction plays no part in training; it is only measured on the way. Run with `--out FOLDER`; the same command
goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from checkpoint import build_config, build_tokenizer, initialise, save_checkpoint
from fast_forward import PageModel, check, to_patches
from measure import Held, judge
from torch import Tensor
from transformers import Qwen2Tokenizer, Qwen3VLModel

from smart_retrieval.demo.glyph_pages import STYLES, glyph_page, held


class Texts:
    """Queries as token ids, put together from those of their objects."""

    def __init__(self, tokenizer: Qwen2Tokenizer, style: str, closing: list[int], pad: int) -> None:
        kinds = STYLES[style].kinds
        self.first = [tokenizer(kind).input_ids for kind in kinds]
        self.later = [tokenizer(", " + kind).input_ids for kind in kinds]
        self.closing, self.pad = closing, pad

    def rows(self, chosen: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Padded ids, and the place of each last token."""
        rows = []
        for kinds in chosen:
            row = list(self.first[kinds[0]])
            for kind in kinds[1:]:
                row += self.later[kind]
            rows.append(row + self.closing)
        width = max(map(len, rows))
        ids = torch.tensor([row + [self.pad] * (width - len(row)) for row in rows])
        return ids, torch.tensor([len(row) - 1 for row in rows])


def pool_queries(fast: PageModel, texts: Texts, chosen: list[np.ndarray]) -> Tensor:
    """Last states of queries, those of one length together, so that nothing is padded."""
    lengths = np.array([len(kinds) for kinds in chosen])
    groups = [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
    vectors = torch.cat([fast.queries(texts.rows([chosen[i] for i in group])[0], pooled=True) for group in groups])
    return vectors[torch.from_numpy(np.argsort(np.concatenate(groups)))]


def pooled_loss(queries: Tensor, pages: Tensor, spurious: Tensor, temperature: float) -> Tensor:
    """InfoNCE in both directions; pages that hold what another query names are no negatives of it."""
    logits = (queries @ pages.T / temperature).masked_fill(spurious, -torch.inf)
    own = torch.arange(len(queries))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--style", default="shapes", choices=sorted(STYLES))
    parser.add_argument("--pages", type=int, default=8000, help="training pages")
    parser.add_argument("--held-out", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--draws", type=int, default=4, help="queries drawn for each page of a batch")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--temperature", type=float, default=0.05)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--max-steps", type=int, default=3000, help="the decay begins here at the latest")
    parser.add_argument("--decay", type=int, default=600, help="steps of linear decay to 0 at the end")
    parser.add_argument("--every", type=int, default=250, help="steps between measurements")
    parser.add_argument("--patience", type=int, default=4, help="measurements without a better anchor that end it")
    parser.add_argument("--plain-init", action="store_true", help="transformers' random initialisation, as it is")
    parser.add_argument("--config", type=json.loads, default={}, help="changes to the model's shape, as JSON")
    arguments = parser.parse_args()
    train(arguments)


def train(arguments: argparse.Namespace) -> None:
    torch.manual_seed(arguments.seed)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    look = STYLES[arguments.style]
    tokenizer = build_tokenizer()
    model = Qwen3VLModel(build_config(tokenizer, **arguments.config))
    if not arguments.plain_init:
        initialise(model)
    fast = PageModel(model, tokenizer, (look.size[0] // 16, look.size[1] // 16))
    texts = Texts(tokenizer, arguments.style, fast.closing, fast.pad_id)
    pages = [
        glyph_page("train", number, seed=arguments.seed, style=arguments.style) for number in range(arguments.pages)
    ]
    marks = torch.from_numpy(held([page.objects for page in pages], arguments.style))
    patches = torch.cat([to_patches(torch.from_numpy(page.pixels())[None]) for page in pages])
    ids, _ = texts.rows([np.arange(2)])
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters; differs from transformers by "
        f"{check(fast, patches[:4], ids):.1e}",
        flush=True,
    )
    validation, test = (Held(split, arguments.held_out, arguments.style, texts) for split in ("validation", "test"))

    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}],
        lr=arguments.lr,
        betas=(0.9, 0.98),
        fused=True,
    )
    rng = np.random.default_rng(arguments.seed)
    state: dict[str, Any] = {"step": 0, "curve": [], "decay_from": None, "seconds": 0.0}
    resume = out / "resume.pt"
    if resume.exists():
        kept = torch.load(resume, weights_only=True)
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        state = json.loads((out / "state.json").read_text())
        if state["decay_from"] == state["step"] < arguments.max_steps and state["reason"] == "budget":
            state["decay_from"] = None  # stopped before the decay began, and given more steps now
        rng = np.random.default_rng((arguments.seed, state["step"]))

    started = time.perf_counter() - state["seconds"]
    order: list[int] = []
    losses: list[float] = []
    while True:
        step, start_of_decay = state["step"], state["decay_from"]
        done = start_of_decay is not None and step >= start_of_decay + arguments.decay
        measured = bool(state["curve"]) and state["curve"][-1]["step"] == step
        if done and measured:
            return
        if (step % arguments.every == 0 or done) and not measured:
            point = {"step": step, "loss": float(np.mean(losses)) if losses else None}
            point["validation"] = judge(fast, validation, anchor_only=True)
            point["test"] = judge(fast, test)
            losses.clear()
            state["seconds"] = time.perf_counter() - started
            state["curve"].append(point)
            best = [entry["validation"]["anchor"] for entry in state["curve"]]
            recent, earlier = best[-arguments.patience :], best[: -arguments.patience]
            settled = bool(earlier) and max(recent) < 1.01 * max(earlier)
            if start_of_decay is None and (settled or step >= arguments.max_steps):
                state["decay_from"] = step
                state["reason"] = "settled" if settled else "budget"
            print(
                json.dumps({**point, "seconds": round(state["seconds"]), "decay_from": state["decay_from"]}), flush=True
            )
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, resume)
            shown = {key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()}
            (out / "state.json").write_text(json.dumps({**state, "arguments": shown}, indent=1))
            save_checkpoint(out / "model", model, tokenizer)
            if done:
                return
        start_of_decay = state["decay_from"]
        rate = min(1.0, (step + 1) / arguments.warmup)
        if start_of_decay is not None:
            rate *= max(0.0, 1 - (step - start_of_decay) / arguments.decay)
        for group in optimizer.param_groups:
            group["lr"] = arguments.lr * rate
        if len(order) < arguments.batch:
            order = rng.permutation(len(pages)).tolist()
        batch, order = order[: arguments.batch], order[arguments.batch :]
        page_vectors = F.normalize(fast.pages(patches[batch], pooled=True), dim=-1)
        absent = (~marks[batch]).float().T
        # Seeing a page costs far more than reading a query, so each page is seen once for several queries.
        chosen, spurious = [], []
        for _ in range(arguments.draws):
            drawn = [rng.permutation(np.flatnonzero(marks[n].numpy()))[: int(rng.integers(1, 5))] for n in batch]
            named = torch.zeros(len(batch), marks.shape[1])
            for row, kinds in enumerate(drawn):
                named[row, kinds] = 1
            spurious.append((named @ absent == 0).fill_diagonal_(False))
            chosen += drawn
        query_vectors = F.normalize(pool_queries(fast, texts, chosen), dim=-1)
        loss = torch.stack(
            [
                pooled_loss(part, page_vectors, mask, arguments.temperature)
                for part, mask in zip(query_vectors.split(len(batch)), spurious, strict=True)
            ]
        ).mean()
        if not math.isfinite(loss.item()):
            raise RuntimeError(f"the loss is {loss.item()} at step {step}")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if step % 50 == 0:
            print(f"step {step} loss {loss.item():.3f} {time.perf_counter() - started:.0f}s", flush=True)
        state["step"] += 1


if __name__ == "__main__":
    main()
