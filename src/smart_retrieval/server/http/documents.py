"""Documents: get, add, replace, delete; and the jobs of large additions."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from ...index.store.records import Document
from ..work.jobs import Job
from .answers import Answer
from .metrics import WRITTEN
from .schemas import AddRequest, DeleteRequest, IdsRequest
from .search import Asking, Serving

router = APIRouter(prefix="/v1/indexes/{index}/documents", tags=["documents"])
jobs_router = APIRouter(prefix="/v1/jobs", tags=["documents"])

_ADDED: dict[int | str, dict[str, Any]] = {
    200: {"description": "They are on the disk.", "content": {"application/json": {"example": {"ids": ["logs"]}}}},
    202: {
        "description": "More than a request waits for: a job that adds them, in commits of 64. Until it is done, a "
        "crash of the server loses those that are not stored yet.",
        "content": {"application/json": {"example": {"job": {"id": "…", "state": "queued", "total": 5000}}}},
    },
}


def _shown(document: Document) -> dict[str, Any]:
    media = document.media.to_dict() if document.media is not None else None
    return {
        "id": document.id, "text": document.text, "source": document.source, "page": document.page,
        "heading": document.heading, "metadata": document.metadata, "media": media,
        "kind": document.media.kind if document.media is not None else "text",
    }  # fmt: skip


@router.get("", summary="List documents")
async def list_documents(
    index: str,
    caller: Asking,
    service: Serving,
    where: Annotated[str | None, Query(max_length=20_000, description="Filter, as of a search.")] = None,
    after: Annotated[str, Query(max_length=2000, description="Where to go on: `next` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 100,
) -> Response:
    """Documents that pass a filter, page by page in the order of their ids."""
    found, following = await service.select(caller, index, where, after=after, k=min(limit, service.settings.max_k))
    return Answer({"documents": [_shown(document) for document in found], "next": following})


@router.post("", summary="Add documents", responses=_ADDED)
async def add(index: str, asked: AddRequest, caller: Asking, service: Serving) -> Response:
    """Add documents; an id that is there already is an error, and nothing is added then."""
    return _added(
        index, await service.add(caller, index, [document.document() for document in asked.documents]), "added"
    )


@router.put("", summary="Add or replace documents", responses=_ADDED)
async def upsert(index: str, asked: AddRequest, caller: Asking, service: Serving) -> Response:
    """Add documents, replacing those whose ids are there."""
    return _added(
        index, await service.upsert(caller, index, [document.document() for document in asked.documents]), "added"
    )


@router.post("/get", summary="Get documents")
async def get_documents(index: str, asked: IdsRequest, caller: Asking, service: Serving) -> Response:
    """Documents by id, in the order asked for."""
    found = await service.get(caller, index, asked.ids)
    return Answer({"documents": [_shown(document) for document in found]})


@router.post("/delete", summary="Delete documents by id or filter")
async def delete(index: str, asked: DeleteRequest, caller: Asking, service: Serving) -> Response:
    """Delete documents as one commit; if one of the ids is not there, none."""
    return _deleted(index, await service.delete(caller, index, asked.ids, where=asked.where))


@router.get("/{id:path}", summary="Get one document")
async def get_document(index: str, id: str, caller: Asking, service: Serving) -> Response:
    """A document by its id, percent-encoded."""
    (found,) = await service.get(caller, index, [id])
    return Answer(_shown(found))


@router.delete("/{id:path}", summary="Delete one document")
async def delete_document(index: str, id: str, caller: Asking, service: Serving) -> Response:
    """Delete a document by its id, percent-encoded."""
    return _deleted(index, await service.delete(caller, index, [id]))


@jobs_router.get("/{id}", summary="Ask after a job")
async def job(id: str, caller: Asking, service: Serving) -> Response:
    """The state of a large addition: queued, running, done or failed."""
    return Answer(service.job(caller, id).to_dict())


def _added(index: str, found: list[str] | Job, change: str) -> Response:
    if isinstance(found, Job):
        return Answer({"job": found.to_dict()}, 202, {"Location": f"/v1/jobs/{found.id}"})
    WRITTEN.labels(index, change).inc(len(found))
    return Answer({"ids": found})


def _deleted(index: str, count: int) -> Response:
    WRITTEN.labels(index, "deleted").inc(count)
    return Answer({"deleted": count})
