"""Train a small Qwen3-VL embedding model on glyph pages, with the plain contrastive loss on the pooled vector alone.

Late interaction is not trained, only measured along the way. `--objective` takes other losses for comparison.
Run with `--out FOLDER`; the same command resumes a training that was stopped.
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
from transformers import Qwen2Tokenizer, Qwen3VLModel

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
    parser.add_argument("--patience", type=int, default=4, help="measurements without a better anchor before the decay")
    parser.add_argument("--plain-init", action="store_true", help="keep transformers' random initialisation")
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
    optimizer = build_optimizer(model, arguments.lr)
    state, rng = resume(out, model, optimizer, arguments)

    started = time.perf_counter() - state["seconds"]
    order: list[int] = []
    losses: list[float] = []
    while True:
        step, start_of_decay = state["step"], state["decay_from"]
        done = start_of_decay is not None and step >= start_of_decay + arguments.decay
        measured = bool(state["curve"]) and state["curve"][-1]["step"] == step
        if (step % arguments.every == 0 or done) and not measured:
            point = {"step": step, "loss": float(np.mean(losses)) if losses else None}
            point["validation"] = judge(fast, validation, anchor_only=True)
            point["test"] = judge(fast, test)
            losses.clear()
            state["seconds"] = time.perf_counter() - started
            state["curve"].append(point)
            if start_of_decay is None and (reason := reason_to_decay(state["curve"], arguments)):
                state["decay_from"], state["reason"] = step, reason
            shown = {**point, "seconds": round(state["seconds"]), "decay_from": state["decay_from"]}
            print(json.dumps(shown), flush=True)
            save(out, model, tokenizer, optimizer, state, arguments)
        if done:
            return
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, state["decay_from"], arguments)
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


def build_optimizer(model: Qwen3VLModel, lr: float) -> torch.optim.Optimizer:
    """AdamW, with weight decay on matrices alone."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)


def reason_to_decay(curve: list[dict[str, Any]], arguments: argparse.Namespace) -> str | None:
    """Why the learning rate's decay begins after these measurements, or None."""
    anchors = [point["validation"]["anchor"] for point in curve]
    recent, earlier = anchors[-arguments.patience :], anchors[: -arguments.patience]
    if earlier and max(recent) < 1.01 * max(earlier):
        return "settled"
    return "budget" if curve[-1]["step"] >= arguments.max_steps else None


def learning_rate(step: int, start_of_decay: int | None, arguments: argparse.Namespace) -> float:
    """Linear warm-up, then constant, then linear decay to 0."""
    rate = min(1.0, (step + 1) / arguments.warmup)
    if start_of_decay is not None:
        rate *= max(0.0, 1 - (step - start_of_decay) / arguments.decay)
    return arguments.lr * rate


def resume(
    out: Path, model: Qwen3VLModel, optimizer: torch.optim.Optimizer, arguments: argparse.Namespace
) -> tuple[dict[str, Any], np.random.Generator]:
    """The state to go on from, and the generator of its batches; model and optimizer are loaded."""
    if not (out / "resume.pt").exists():
        state = {"step": 0, "curve": [], "decay_from": None, "seconds": 0.0}
        return state, np.random.default_rng(arguments.seed)
    kept = torch.load(out / "resume.pt", weights_only=True)
    model.load_state_dict(kept["model"])
    optimizer.load_state_dict(kept["optimizer"])
    state = json.loads((out / "state.json").read_text())
    if state["decay_from"] == state["step"] < arguments.max_steps and state["reason"] == "budget":
        state["decay_from"] = None  # stopped before the decay began, and given more steps now
    return state, np.random.default_rng((arguments.seed, state["step"]))


def save(
    out: Path,
    model: Qwen3VLModel,
    tokenizer: Qwen2Tokenizer,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    arguments: argparse.Namespace,
) -> None:
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, out / "resume.pt")
    shown = {key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()}
    (out / "state.json").write_text(json.dumps({**state, "arguments": shown}, indent=1))
    save_checkpoint(out / "model", model, tokenizer)
    if arguments.snapshots:
        (out / "snapshots").mkdir(exist_ok=True)
        torch.save(model.state_dict(), out / "snapshots" / f"{state['step']:05d}.pt")


def draw_queries(marks: Tensor, draws: int, rng: np.random.Generator) -> tuple[list[np.ndarray], list[Tensor]]:
    """Draw queries of one to four objects for pages that hold ``marks`` (``[B, kinds]`` bool), several for each.

    Several, because encoding a page costs far more than encoding a query. Returns the kinds named, one query for each
    page and then the next for each, and for each draw ``[B, B]`` bool: which pages also answer another page's query.
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
