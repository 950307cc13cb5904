"""How far could an adapter get? Train it on half of a collection's own judgments and judge it on the other half.

python ceiling.py OUT.jsonl [--data FOLDER] [--name cranfield] [--steps 150] [--lr 3e-4]

No recipe without judgments can be expected to beat this: same documents, same kind of queries, real relevance. Not a
recipe; both halves of the queries share the documents. The 100 best of the frozen hybrid are ranked anew.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from explore import Model, Trial, above, pooled

from smart_retrieval import SmartEmbeddings, SmartModel, anchor_scores, late_scores
from smart_retrieval.core.weights import IdfWeights
from smart_retrieval.evaluation.beir import load_beir
from smart_retrieval.evaluation.cache import EncodingCache, encode_dataset
from smart_retrieval.evaluation.metrics import per_query_metrics
from smart_retrieval.evaluation.significance import paired_comparison
from smart_retrieval.training.objectives import max_similarities, padded

FLOOR = 0.55


def tensor(side: SmartEmbeddings, items: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    part = side[items]
    return torch.from_numpy(np.array(part.token_vectors, np.float32)), torch.from_numpy(part.lengths.astype(np.int64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="the folder with cranfield and cacm")
    parser.add_argument("--name", default="cranfield")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--depth", type=int, default=100)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data, smart = load_beir(args.data / args.name), SmartModel("minilm")
    documents, queries = (each.embeddings for each in encode_dataset(smart, data, EncodingCache()))
    idf = IdfWeights.fit(documents)
    anchor = anchor_scores(queries, documents)
    base = anchor + late_scores(queries, documents, weights=idf, floor=FLOOR)
    top = np.argsort(-base, axis=1, kind="stable")[:, : args.depth]
    place = {name: i for i, name in enumerate(data.document_ids)}
    answers = [{place[d] for d, g in judged.items() if g > 0 and d in place} for judged in data.qrels.values()]
    names = list(data.qrels)

    def late(model: Model, asked: list[int], chosen: list[int]) -> torch.Tensor:
        q, q_lengths = tensor(queries, asked)
        d, d_lengths = tensor(documents, chosen)
        best = above(max_similarities(model.vectors(q), *padded(model.vectors(d), d_lengths)), FLOOR)
        return pooled(best, torch.from_numpy(idf.weights(queries[asked])), q_lengths)

    order = np.random.default_rng(0).permutation(len(names))
    values = np.zeros((2, len(names)))
    for fold in (0, 1):
        learn, test = order[fold::2], order[1 - fold :: 2]
        rng = np.random.default_rng(fold)
        model = Model(Trial("ceiling", ()))
        optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.0)
        for step in range(args.steps):
            for group in optimizer.param_groups:
                group["lr"] = args.lr * 0.5 * (1 + np.cos(np.pi * step / args.steps))
            asked = rng.choice(learn, 12, replace=False).tolist()
            positives = [int(rng.choice(sorted(answers[i]))) for i in asked]
            hard = [int(d) for i in asked for d in rng.permutation([d for d in top[i, :30] if d not in answers[i]])[:2]]
            chosen = list(dict.fromkeys([*positives, *hard]))
            scores = late(model, asked, chosen) + torch.from_numpy(anchor[np.ix_(asked, chosen)])
            wrong = [[d in answers[i] and d != p for d in chosen] for i, p in zip(asked, positives, strict=True)]
            scores = (scores / 0.03).masked_fill(torch.tensor(wrong), -torch.inf)
            loss = torch.nn.functional.cross_entropy(scores, torch.tensor([chosen.index(p) for p in positives]))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        with torch.no_grad():
            for i in test.tolist():
                candidates = top[i].tolist()
                scored = late(model, [i], candidates)[0].numpy() + anchor[i, candidates]
                for row, total in ((0, base[i, candidates]), (1, scored)):
                    listed = [data.document_ids[candidates[j]] for j in np.argsort(-total, kind="stable")]
                    one = per_query_metrics({names[i]: data.qrels[names[i]]}, {names[i]: listed})
                    values[row, i] = one["ndcg@10"][0]
    compared = paired_comparison(values[0], values[1]).to_dict()
    line = {"name": args.name, "steps": args.steps, "lr": args.lr, **compared}
    with args.out.open("a") as handle:
        handle.write(json.dumps(line) + "\n")
    print(line)


if __name__ == "__main__":
    main()
