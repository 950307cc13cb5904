"""What is served, and how it is."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ... import __version__
from .answers import Answer
from .metrics import TYPE, exposition, look
from .search import Asking, Serving

router = APIRouter(tags=["operations"])


@router.get("/v1/indexes", summary="List indexes")
async def indexes(caller: Asking, service: Serving) -> Response:
    """The indexes with their counts, metadata fields and models, as this caller sees them."""
    found = await service.indexes(caller)
    return Answer({"indexes": [info.to_dict() for info in found], "version": __version__})


@router.get("/v1/indexes/{index}", summary="Describe an index")
async def info(index: str, caller: Asking, service: Serving) -> Response:
    """Counts, metadata fields and model of an index, as this caller sees it."""
    return Answer((await service.info(caller, index)).to_dict())


@router.get("/healthz", summary="Whether the server runs")
async def healthz() -> Response:
    """Always `ok`, without a token."""
    return Answer({"status": "ok", "version": __version__})


@router.get("/readyz", summary="Whether queries are answered")
async def readyz(service: Serving) -> Response:
    """`ready` once models are loaded and every index is there; 503 until then. Without a token.

    `writes` is `loading` while the model that encodes documents is: an addition waits until it is `ready`.
    """
    gone = service.catalog.missing()
    reason = service.warmup.unready or (f"index {gone[0]!r}: its database is gone" if gone else None)
    if reason is not None:
        return Answer({"status": "not ready", "reason": reason}, 503, {"Retry-After": "1"})
    return Answer({"status": "ready", "writes": service.warmup.writes})


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
async def metrics(caller: Asking, service: Serving) -> Response:
    """Requests, durations and queues, of all workers together; for callers without a tenant."""
    if caller.fixed is not None:
        raise HTTPException(403, "found the token of a tenant, expected one without")
    look(service)
    return Response(exposition(), media_type=TYPE)
