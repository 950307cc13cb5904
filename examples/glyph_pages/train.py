"""Train a small Qwen3-VL embedding model on glyph pages, with the plain contrastive loss on the pooled vector alone.

Late interaction plays no part in it; it is only measured on the way. `--objective` takes other losses for comparison.
Run with `--out FOLDER`; the same command goes on where it was stopped.
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
from checkpoint import build_config, build_tokenizer, initialise, save_checkpoint
from fast_forward import PageModel, check, to_patches
from measure import Held, judge
from objectives import OBJECTIVES, Batch, Texts, batch_loss
from torch import Tensor
from transformers import Qwen3VLModel

from smart_retrieval.demo.glyph_pages import STYLES, glyph_page, held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--objective", default="anchor", choices=OBJECTIVES)
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
    parser.add_argument("--snapshots", action="store_true", help="keep the weights of every measurement")
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
    place = {kind: number for number, kind in enumerate(look.kinds)}
    objects = [np.array([place[kind] for kind in page.objects]) for page in pages]
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
            if arguments.snapshots:
                (out / "snapshots").mkdir(exist_ok=True)
                torch.save(model.state_dict(), out / "snapshots" / f"{step:05d}.pt")
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
        chosen, order = order[: arguments.batch], order[arguments.batch :]
        queries, spurious = draw_queries(marks[chosen], arguments.draws, rng)
        batch = Batch(patches[chosen], queries, spurious, [objects[n] for n in chosen])
        loss = batch_loss(arguments.objective, fast, texts, batch, arguments.temperature)
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


def draw_queries(marks: Tensor, draws: int, rng: np.random.Generator) -> tuple[list[np.ndarray], list[Tensor]]:
    """Draw queries of one to four objects for pages, several for each: seeing a page costs far more than reading one.

    Args:
        marks: ``[B, kinds]`` bool, what each page holds.
        draws: How many for each page.
        rng: Where they come from.

    Returns:
        The kinds named, one query for each page and then the next for each, and for each draw ``[B, B]`` bool, which
        pages answer another one's query, too.
    """
    absent = (~marks).float().T
    chosen, spurious = [], []
    for _ in range(draws):
        drawn = [rng.permutation(np.flatnonzero(row))[: int(rng.integers(1, 5))] for row in marks.numpy()]
        named = torch.zeros(marks.shape)
        for row, kinds in enumerate(drawn):
            named[row, kinds] = 1
        spurious.append((named @ absent == 0).fill_diagonal_(False))
        chosen += drawn
    return chosen, spurious


if __name__ == "__main__":
    main()
