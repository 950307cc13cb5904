"""What a model does by itself: encode, rerank, embeddings."""

from __future__ import annotations

import secrets
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from ...errors import EmptyInputError, SmartError, UnknownIndexError
from ..access import Caller
from ..requests import Query
from ..service import Service
from .answers import Answer, vectors
from .schemas import EmbeddingsRequest, EncodeRequest, RerankRequest, query_of
from .search import Asking, Serving

router = APIRouter(tags=["models"])


@router.post("/v1/indexes/{index}/encode", summary="Encode texts or pictures")
async def encode(index: str, asked: EncodeRequest, caller: Asking, service: Serving) -> Response:
    """Anchor and token vectors by the index's model, of unit length; nothing is stored.

    The first row of `tokens` belongs to the first kept token of the input; `token_ids` are the model's, -1 for patches.
    """
    found = await service.encode(caller, index, [query_of(item) for item in asked.inputs], asked.side)
    data: list[dict[str, Any]] = []
    for number, one in enumerate(found):
        item: dict[str, Any] = {"index": number, "anchor": vectors(one.anchors[0], asked.encoding_format)}
        if asked.tokens:
            item |= {
                "tokens": vectors(one.token_vectors, asked.encoding_format),
                "shape": list(one.token_vectors.shape),
                "token_ids": one.token_ids.tolist(),
            }
        data.append(item)
    return Answer({"data": data, "anchor_dim": found.anchor_dim, "token_dim": found.token_dim})


@router.post("/v1/rerank", summary="Rerank texts or documents")
@router.post("/v2/rerank", include_in_schema=False)
async def rerank(asked: RerankRequest, caller: Asking, service: Serving) -> Response:
    """Hybrid scores of texts, or of stored documents, for a query, the most relevant first.

    Clients of Cohere's and Jina's rerank take the answer as it is. Scores are those of a search: not between 0 and 1.
    """
    index = await _index(service, caller, asked.model)
    texts = None if asked.documents is None else [_text(one) for one in asked.documents]
    scores = await service.rerank(caller, index, query_of(asked.query), texts=texts, ids=asked.ids)
    if asked.return_documents and texts is None:
        texts = [document.text for document in await service.get(caller, index, asked.ids or [])]
    order = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    results = []
    for place in order[: asked.top_n]:
        result: dict[str, Any] = {"index": place, "relevance_score": scores[place]}
        if asked.ids is not None:
            result["id"] = asked.ids[place]
        if asked.return_documents and texts is not None:
            result["document"] = {"text": texts[place]}
        results.append(result)
    return Answer({"id": secrets.token_hex(8), "model": index, "results": results, "meta": {}, "usage": {}})


@router.post("/v1/embeddings", summary="Anchors, as OpenAI's embeddings")
async def embeddings(asked: EmbeddingsRequest, caller: Asking, service: Serving) -> Response:
    """The anchors of texts: what the wrapped model gives as its embedding. OpenAI's clients take them as they are."""
    index = await _index(service, caller, asked.model)
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    found = await service.encode(caller, index, [Query(text) for text in texts], asked.input_type)
    if asked.dimensions not in (None, found.anchor_dim):
        raise SmartError(f"dimensions: found {asked.dimensions}, expected {found.anchor_dim}, or nothing")
    data = [
        {"object": "embedding", "index": number, "embedding": vectors(anchor, asked.encoding_format)}
        for number, anchor in enumerate(found.anchors)
    ]
    tokens = int(found.lengths.sum())
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Answer({"object": "list", "data": data, "model": asked.model or index, "usage": usage})


async def _index(service: Service, caller: Caller, name: str | None) -> str:
    """The index that a request names, by its name or its model's; the only one where none is named."""
    names = list(service.catalog.paths)
    if name in names:
        return str(name)
    if len(names) == 1:
        return names[0]
    if name is not None:
        of_model = [info.name for info in await service.indexes(caller) if info.model == name]
        if of_model:
            return of_model[0]
    raise UnknownIndexError(f"model: found {name!r}, expected the name of an index: {', '.join(names)}")


def _text(document: str | dict[str, Any]) -> str:
    text = document if isinstance(document, str) else document.get("text")
    if not isinstance(text, str) or not text.strip():
        raise EmptyInputError("documents: expected texts, or objects with some text")
    return text
