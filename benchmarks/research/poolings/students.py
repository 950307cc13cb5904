"""Two small models that pool as none does that PyPI has: taught MiniLM's anchors, from scratch, on a GPU.

    python benchmarks/research/poolings/students.py CORPUS OUT [--seconds 240]
    python benchmarks/quality.py --data DIR --model OUT/student-cls --model OUT/student-lasttoken

``student-cls`` is a BERT of six layers, which first learns to fill in masked words, and whose first position then
learns the passages' anchors; ``student-lasttoken`` a causal decoder of six layers, whose last position does.
Nothing ever pulls the states of the other positions towards their pooled mean, as in MiniLM and its kin: what the
default makes of such models is measured on the development collections, of which CORPUS (``corpus.py``) holds nothing.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import Tensor
from torch.nn.functional import cross_entropy, gelu, normalize
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, LlamaConfig, LlamaModel

from smart_retrieval.backbones.checkpoints import resolve_model

DIM, LAYERS, HEADS, LONGEST = 384, 6, 12, 96
MASK, FIRST_WORD = 103, 1000
#: Tokens of a batch, with padding.
TOKENS, MASKED_TOKENS = 131_072, 65_536
TEMPERATURE = 0.03
#: Shares of ``--seconds`` for filling in words and for the anchors (CLS), and for the anchors (last token).
MASKED, CLS, LAST = 0.43, 0.57, 0.65


class Passages:
    """The corpus on the device, and MiniLM's anchors of its passages."""

    def __init__(self, folder: Path, device: str) -> None:
        stored = np.load(folder / "corpus.npz")
        self.device, self.lengths = device, stored["lengths"].astype(np.int64)
        self._ids = torch.from_numpy(stored["ids"].astype(np.int64)).to(device)
        self._starts = torch.from_numpy(np.cumsum(self.lengths) - self.lengths).to(device)
        self._sizes = torch.from_numpy(self.lengths).to(device)
        self._rng = np.random.default_rng(0)
        self.anchors = torch.empty(len(self.lengths), DIM, dtype=torch.float16, device=device)
        teacher: Any = AutoModel.from_pretrained(resolve_model("minilm")).to(device).eval()
        order = np.argsort(self.lengths, kind="stable")
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
            for start in range(0, len(order), 8192):
                rows = torch.from_numpy(order[start : start + 8192]).to(device)
                ids, mask = self.batch(rows)
                states = teacher(input_ids=ids, attention_mask=mask).last_hidden_state.float()
                mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
                self.anchors[rows] = normalize(mean).half()

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Padded ids and mask of passages."""
        sizes = self._sizes[rows]
        places = torch.arange(int(sizes.max()), device=self.device)
        mask = places < sizes[:, None]
        at = (self._starts[rows][:, None] + places).clamp(max=len(self._ids) - 1)
        return torch.where(mask, self._ids[at], 0), mask.long()

    def epoch(self, tokens: int) -> list[Tensor]:
        """Rows of like lengths in a random order."""
        order = self._rng.permutation(len(self.lengths))
        order = order[np.argsort(self.lengths[order] + 4 * self._rng.random(len(order)), kind="stable")]
        batches, start = list[Tensor](), 0
        while start < len(order):
            longest = int(self.lengths[order[min(len(order) - 1, start + 1000)]])
            size = max(256, min(8192, tokens // longest))
            batches.append(torch.from_numpy(order[start : start + size]).to(self.device))
            start += size
        self._rng.shuffle(batches)
        return batches


def train(
    passages: Passages, parameters: list[Tensor], loss_of: Callable[[Tensor], Tensor], seconds: float, rate: float,
    tokens: int, name: str,
) -> None:  # fmt: skip
    """Steps on batches until the time is over; the rate falls as a cosine."""
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    began, steps = time.perf_counter(), 0
    while True:
        for rows in passages.epoch(tokens):
            done = (time.perf_counter() - began) / seconds
            if done >= 1:
                print(f"{name}: {steps} steps", flush=True)
                return
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1, (steps + 1) / 500) * 0.5 * (1 + math.cos(math.pi * done))
            with torch.autocast(passages.device, torch.bfloat16):
                loss = loss_of(rows)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            steps += 1


def fill_in(passages: Passages, model: Any, seconds: float) -> None:
    """Masked words, as BERT learns them."""
    device, vocabulary = passages.device, model.config.vocab_size
    dense, norm = torch.nn.Linear(DIM, DIM).to(device), torch.nn.LayerNorm(DIM).to(device)
    bias = torch.nn.Parameter(torch.zeros(vocabulary, device=device))
    words = model.embeddings.word_embeddings.weight

    def loss_of(rows: Tensor) -> Tensor:
        ids, mask = passages.batch(rows)
        chosen = (torch.rand(ids.shape, device=device) < 0.2) & (mask > 0) & (ids > MASK)
        chance = torch.rand(ids.shape, device=device)
        seen = torch.where(chosen & (chance < 0.8), MASK, ids)
        other = torch.randint(FIRST_WORD, vocabulary, ids.shape, device=device)
        seen = torch.where(chosen & (chance > 0.9), other, seen)
        states = model(input_ids=seen, attention_mask=mask).last_hidden_state[chosen]
        return cross_entropy(norm(gelu(dense(states))) @ words.T + bias, ids[chosen])

    own = [*model.parameters(), *dense.parameters(), *norm.parameters(), bias]
    train(passages, own, loss_of, seconds, 1e-3, MASKED_TOKENS, "masked words")


def learn_anchors(passages: Passages, model: Any, pooling: str, seconds: float, rate: float) -> None:
    """The teacher's anchors: their cosine, and which passage of a batch is whose."""

    def pooled(rows: Tensor) -> Tensor:
        ids, mask = passages.batch(rows)
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state
        last = mask.sum(1) - 1
        return normalize((states[:, 0] if pooling == "cls" else states[torch.arange(len(ids)), last]).float())

    def loss_of(rows: Tensor) -> Tensor:
        own, wanted = pooled(rows), passages.anchors[rows].float()
        which = cross_entropy(own @ wanted.T / TEMPERATURE, torch.arange(len(rows), device=passages.device))
        return 10 * (1 - (own * wanted).sum(1)).mean() + which

    train(passages, list(model.parameters()), loss_of, seconds, rate, TOKENS, pooling)
    with torch.inference_mode():
        rows = torch.arange(min(4096, len(passages.lengths)), device=passages.device)
        cosine = float((pooled(rows) * passages.anchors[rows].float()).sum(1).mean())
        print(f"{pooling}: cosine with the teacher {cosine:.3f}", flush=True)


def save(model: Any, pooling: str, out: Path) -> None:
    """As a Sentence Transformers folder."""
    plain = out / f"plain-{pooling}"
    model.float().save_pretrained(plain)
    AutoTokenizer.from_pretrained(resolve_model("minilm")).save_pretrained(plain)
    modules = [Transformer(str(plain), max_seq_length=LONGEST), Pooling(DIM, pooling_mode=pooling), Normalize()]
    SentenceTransformer(modules=modules).save(str(out / f"student-{pooling}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    device, seconds = arguments.device, arguments.seconds
    passages = Passages(arguments.corpus, device)
    bert = BertConfig.from_pretrained(
        resolve_model("minilm"), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    torch.manual_seed(1)
    student: Any = BertModel(bert, add_pooling_layer=False).to(device)
    fill_in(passages, student, MASKED * seconds)
    learn_anchors(passages, student, "cls", CLS * seconds, 4e-4)
    save(student, "cls", arguments.out)
    torch.manual_seed(1)
    llama = LlamaConfig(
        vocab_size=bert.vocab_size, hidden_size=DIM, intermediate_size=1024, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, max_position_embeddings=512, pad_token_id=0,
        bos_token_id=101, eos_token_id=102,
    )  # fmt: skip
    student = LlamaModel(llama).to(device)
    learn_anchors(passages, student, "lasttoken", LAST * seconds, 1e-3)
    save(student, "lasttoken", arguments.out)


if __name__ == "__main__":
    main()
