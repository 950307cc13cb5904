"""A smaller collection out of a large one, with everything in it that is relevant."""

from __future__ import annotations

import random
from dataclasses import replace

from ..errors import DatasetError
from .beir import BeirDataset, content_fingerprint

#: A collection's size unless told otherwise: every layer of so many abstracts takes some 7 GB with MiniLM.
DOCUMENTS, QUERIES = 4_000, 400


def sample(data: BeirDataset, documents: int = DOCUMENTS, queries: int = QUERIES, seed: int = 0) -> BeirDataset:
    """A smaller collection of the same queries and documents, or the same one where it is small enough.

    Queries are drawn first; then every document that is relevant to one of them is kept, and others at random until
    there are enough. Such a collection is easier than the whole: its figures compare settings, not collections.

    Args:
        data: The collection.
        documents: Most documents; more only where more are relevant.
        queries: Most queries.
        seed: Of both choices.

    Returns:
        The collection, in the order of the files; its `warnings` say what was drawn.

    Raises:
        DatasetError: A number is below 1.
    """
    if documents < 1 or queries < 1:
        raise DatasetError(f"sample: found {documents} documents and {queries} queries to take, expected 1 or more")
    if len(data.texts) <= documents and len(data.queries) <= queries:
        return data
    rng = random.Random(seed)
    chosen = sorted(rng.sample(range(len(data.queries)), min(queries, len(data.queries))))
    query_ids = [data.query_ids[place] for place in chosen]
    relevant = {name for query in query_ids for name, grade in data.qrels[query].items() if grade > 0}
    others = [place for place, name in enumerate(data.document_ids) if name not in relevant]
    drawn = set(rng.sample(others, min(len(others), max(0, documents - len(relevant)))))
    places = [place for place, name in enumerate(data.document_ids) if name in relevant or place in drawn]
    document_ids, texts = [data.document_ids[place] for place in places], [data.texts[place] for place in places]
    known, asked = set(document_ids), [data.queries[place] for place in chosen]
    told = [
        f"{len(places):,} of {len(data.texts):,} documents and {len(chosen):,} of {len(data.queries):,} queries drawn "
        f"(seed {seed}), every relevant document among them: easier than the whole collection"
    ]
    return replace(
        data,
        document_ids=document_ids,
        texts=texts,
        query_ids=query_ids,
        queries=asked,
        qrels={
            query: {name: grade for name, grade in data.qrels[query].items() if name in known} for query in query_ids
        },
        warnings=[*data.warnings, *told],
        fingerprint=content_fingerprint([*document_ids, *query_ids], [*texts, *asked]),
    )
