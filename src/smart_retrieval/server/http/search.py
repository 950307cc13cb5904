"""Search and explain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ...errors import SmartError
from ...index.search.hits import Hits
from ..access import Caller
from ..requests import Query
from ..service import Service
from .answers import Answer, asking, line_of, serving
from .metrics import PARTIAL, QUERIES
from .schemas import ExplainRequest, SearchRequest, query_of
from .security import CSP_OF_DOCUMENTS, error_body

router = APIRouter(prefix="/v1/indexes/{index}", tags=["search"])
NDJSON = "application/x-ndjson"
_PASSAGES_A_FILE = 5  # hits searched for each file wanted

Asking = Annotated[Caller, Depends(asking)]
Serving = Annotated[Service, Depends(serving)]

_HIT = {
    "id": "guide/logs.md#3", "score": 1.42, "anchor": 0.61, "late": 0.81, "text": "Log files rotate nightly.",
    "source": "guide/logs.md", "page": None, "heading": "Logs > Rotation", "metadata": {"year": 2026}, "media": None,
    "kind": "text", "lexical": None, "feedback": None, "neighbours": None, "rerank": None,
}  # fmt: skip
_FOUND: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The hits, best first; of several queries a list of such objects as `results`.",
        "content": {
            "application/json": {"example": {"hits": [_HIT], "candidates": 12, "searched": 340, "partial": False}},
            NDJSON: {"example": "one hit a line, then a line without id that says how many were searched"},
        },
    }
}


@router.post("/search", summary="Find documents", responses=_FOUND)
async def search(
    index: str, asked: SearchRequest, caller: Asking, service: Serving, accept: Annotated[str, Header()] = ""
) -> Response:
    """Find documents for one query or several, best first.

    With `Accept: application/x-ndjson` one hit a line, or the hits of one query a line, as they are found.
    """
    if asked.queries is None:
        body = await _one(service, caller, index, query_of(asked.query or ""), asked)
        if NDJSON not in accept:
            return Answer(body)
        items = body.pop("groups" if asked.group_by else "hits")
        return StreamingResponse(iter([line_of(item) + b"\n" for item in (*items, body)]), media_type=NDJSON)
    QUERIES.labels(_known(service, index)).inc(len(asked.queries))
    queries, options = [query_of(query) for query in asked.queries], asked.options()
    found = service.search_stream(caller, index, queries, _wanted(service, asked), options, thumbnails=asked.thumbnails)
    if NDJSON not in accept:
        return Answer({"results": [_found(index, hits, asked) async for hits in found]})
    # The first before the answer begins, so that what is wrong with the request has its status.
    first = await anext(found)
    return StreamingResponse(_lines(service, index, asked, first, found), media_type=NDJSON)


@router.post("/search/picture", summary="Find documents by a picture file", responses=_FOUND)
async def search_by_picture(index: str, request: Request, caller: Asking, service: Serving) -> Response:
    """The same, as a form: `image` is a picture file, `request` the JSON object of a search without its picture."""
    async with request.form(max_files=1, max_fields=2) as form:
        image, given = form.get("image"), form.get("request", "{}")
        if image is None or isinstance(image, str) or not isinstance(given, str):
            raise SmartError("form: expected a file named image, and possibly a JSON object named request")
        data = await image.read()
    try:
        options = TypeAdapter(dict[str, Any]).validate_json(given)
        text = options.pop("query", "") or ""
        asked = SearchRequest.model_validate({**options, "query": text, "queries": None})
    except (ValidationError, TypeError) as error:
        raise SmartError("form: expected the JSON object of a search, with words alone as its query") from error
    if not isinstance(asked.query, str):
        raise SmartError("form: found a picture in request, expected it as the file image")
    return Answer(await _one(service, caller, index, Query(asked.query, data), asked))


@router.post("/explain", summary="Explain a score")
async def explain(index: str, asked: ExplainRequest, caller: Asking, service: Serving) -> Response:
    """Which word matched which, and what each adds to the score: as numbers, as a web page, or as a picture.

    A page shows passages shaded and, of PDFs and pictures that the index read, the page with what matched marked.
    """
    query, options = query_of(asked.query), asked.options()
    if asked.format == "json":
        found = await service.explain(caller, index, query, asked.id, options)
        return Answer(found.to_dict())
    drawn = await service.explain_as(caller, index, query, asked.id, asked.format, options)
    if asked.format == "png":
        return Response(drawn, media_type="image/png")
    return Response(drawn, media_type="text/html", headers={"Content-Security-Policy": CSP_OF_DOCUMENTS})


def _wanted(service: Service, asked: SearchRequest) -> int:
    return min(asked.k * _PASSAGES_A_FILE, service.settings.max_k) if asked.group_by else asked.k


async def _one(service: Service, caller: Caller, index: str, query: Query, asked: SearchRequest) -> dict[str, Any]:
    QUERIES.labels(_known(service, index)).inc()
    wanted, options = _wanted(service, asked), asked.options()
    return _found(
        index, await service.search(caller, index, query, wanted, options, thumbnails=asked.thumbnails), asked
    )


def _found(index: str, hits: Hits, asked: SearchRequest) -> dict[str, Any]:
    if hits.partial:
        PARTIAL.labels(index).inc()
    found = hits.to_dict(thumbnails=asked.thumbnails)
    if asked.group_by:
        shown = {hit["id"]: hit for hit in found.pop("hits")}
        groups = islice(hits.group_by_source().items(), asked.k)
        found["groups"] = [{"source": name, "hits": [shown[hit.id] for hit in group]} for name, group in groups]
    return found


async def _lines(
    service: Service, index: str, asked: SearchRequest, first: Hits, others: AsyncIterator[Hits]
) -> AsyncIterator[bytes]:
    yield line_of(_found(index, first, asked)) + b"\n"
    try:
        async for hits in others:
            yield line_of(_found(index, hits, asked)) + b"\n"
    except SmartError as error:  # the status is sent already
        yield line_of(error_body(type(error).__name__, service.public_message(error))) + b"\n"


def _known(service: Service, index: str) -> str:
    service.catalog.require(index)
    return index
