"""Bytes of small indexes, file by file, and nDCG@10 kept by the shipped codec and by one fitted to the collection.

    python benchmarks/small_index.py [FOLDER...] [--data DIR] [--no-stdlib] [--cache DIR] [--shipped] [--sizes]

Writes results/small_index.json. Sizes are of the first passages of each collection that hold so many tokens, after a
search and `optimize`; quality is of whole collections, searched exhaustively, beside an index of float32.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from lib.collections import add_collections, named_collections
from lib.record import record

from smart_retrieval import SmartIndex, SmartModel
from smart_retrieval.evaluation.cache import EncodingCache
from smart_retrieval.evaluation.evaluate import Collection, load_collection
from smart_retrieval.evaluation.metrics import per_query_metrics

#: Most bytes that an index of so many tokens may take (issue 15).
TARGETS = {10_000: 1_000_000, 275_000: 10_000_000}
LEAST_SHARE = 0.98


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_collections(parser)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--cache", type=Path, help="where encodings are kept")
    parser.add_argument("--shipped", action="store_true", help="leave out codecs fitted to the collection")
    parser.add_argument("--sizes", action="store_true", help="leave the quality out")
    arguments = parser.parse_args()
    model, cache = SmartModel(arguments.model), EncodingCache(arguments.cache)
    sizes: list[dict[str, Any]] = []
    quality: list[dict[str, Any]] = []
    with named_collections(arguments) as folders, tempfile.TemporaryDirectory() as temporary:
        for folder in folders:
            collection = load_collection(folder, model=model, cache=cache)
            ends = collection.documents.embeddings.offsets
            for tokens in TARGETS:
                count = min(int(np.searchsorted(ends, tokens)), len(ends) - 1)
                for refit in (False,) if arguments.shipped else (False, True):
                    path = Path(temporary) / f"{folder.name}-{tokens}-{refit}.smart"
                    with filled(path, collection, count) as index:
                        index.optimize(refit=refit)
                        index.search("a query", 10)
                        about = {"passages": count, "tokens": int(ends[count]), "codec": codec_of(index)}
                    sizes.append({"collection": folder.name, "wanted": tokens, **about, **bytes_of(path)})
                    print(sizes[-1])
            if not arguments.sizes:
                found = kept(Path(temporary), collection, fitted=not arguments.shipped)
                quality.append({"collection": folder.name, **found})
                print(quality[-1])
    figures = {"targets": TARGETS, "least_share": LEAST_SHARE, "sizes": sizes, "quality": quality}
    record("small_index", figures)


def codec_of(index: SmartIndex) -> str:
    info = index.info()
    return "shipped" if info["codec_packaged"] else str(info["codec"])


def filled(path: Path, collection: Collection, count: int, codec: str | None = None) -> SmartIndex:
    """An index of the first passages of a collection."""
    data = collection.data
    index = SmartIndex.open_or_create(path, collection.smart, codec=codec)
    embeddings = collection.documents.embeddings[:count]
    index.add(list(data.texts[:count]), ids=list(data.document_ids[:count]), embeddings=embeddings)
    return index


def bytes_of(path: Path) -> dict[str, Any]:
    """Sizes of an index's files, and of its database's tables where SQLite can tell."""
    files = {str(file.relative_to(path)): file.stat().st_size for file in sorted(path.rglob("*")) if file.is_file()}
    tables: dict[str, int] = {}
    connection = sqlite3.connect(path / "index.sqlite")
    try:
        rows = connection.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC LIMIT 12")
        tables = dict(rows.fetchall())
    except sqlite3.OperationalError:
        pass  # built without dbstat
    finally:
        connection.close()
    return {"bytes": sum(files.values()), "files": files, "tables": tables}


def kept(folder: Path, collection: Collection, *, fitted: bool) -> dict[str, float]:
    """nDCG@10 of float32, and the share of it that the other codecs keep."""
    found: dict[str, float] = {}
    others = [("fitted", None, True)] if fitted else []
    for name, codec, refit in [("float32", "float32", False), ("shipped", None, False), *others]:
        with filled(
            folder / f"{collection.data.name}-{name}.smart", collection, len(collection.data.texts), codec
        ) as index:
            if refit:
                index.optimize(refit=True)
            hits = index.search_many(collection.queries.embeddings, 10, exact=True)
        ranking = {id: [hit.id for hit in own] for id, own in zip(collection.data.query_ids, hits, strict=True)}
        found[name] = float(np.mean(per_query_metrics(collection.data.qrels, ranking)["ndcg@10"]))
    shares = {f"{name}_share": found[name] / found["float32"] for name in found if name != "float32"}
    return found | shares


if __name__ == "__main__":
    main()
