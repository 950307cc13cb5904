"""Routes of the web page: every one answers with HTML, errors included, and works without JavaScript."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from fastapi import APIRouter, Request
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from ...errors import SmartError
from ...index.explain.page import page_values
from ...templates import render
from ..access import Caller
from ..http.answers import COOKIE, LOG, caller_of, service_of, status_of
from ..http.metrics import QUERIES
from ..requests import IndexInfo
from ..service import Service
from .asked import Asked
from .results import STEPS, level, results_of

router = APIRouter(include_in_schema=False)
#: Style sheet and script.
ASSETS = StaticFiles(directory=Path(__file__).parent / "assets")
# Hits whose words are shaded; the others show the beginning of their passage.
_SHADED = 50
_FORM_FIELDS = 40
_SIGNATURES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp", b"GIF8": "image/gif"}


@router.get("/")
async def home(request: Request) -> Response:
    """The search field, and what was found."""
    return await _answered(request, Asked.of(request.query_params.multi_items()), _found)


@router.post("/")
async def search_by_picture(request: Request) -> Response:
    """The same for a form, which may hold a picture."""
    return await _with_form(request, _found)


@router.get("/why")
async def why(request: Request) -> Response:
    """One document's score taken apart."""
    return await _answered(request, Asked.of(request.query_params.multi_items()), _explained)


@router.post("/why")
async def why_of_picture(request: Request) -> Response:
    """The same for a form, which may hold a picture."""
    return await _with_form(request, _explained)


@router.get("/thumbnail")
async def thumbnail(request: Request, index: str, id: str) -> Response:
    """The small picture that the index keeps of a document."""
    (found,) = await service_of(request).get(caller_of(request), index, [id], thumbnails=True)
    data = found.media.preview if found.media is not None else b""
    if not data:
        raise HTTPException(404, "found no picture of this document")
    kind = next((kind for start, kind in _SIGNATURES.items() if data.startswith(start)), "application/octet-stream")
    return Response(data, media_type=kind, headers={"Cache-Control": "private, max-age=60", "Vary": "Cookie"})


@router.post("/login")
async def login(request: Request) -> Response:
    """Keep a token in a cookie that no script can read and no other site can use."""
    async with request.form(max_files=0, max_fields=3) as form:
        token, following = str(form.get("token", "")).strip(), str(form.get("next", ""))
    tokens = request.app.state.tokens
    if tokens is not None and tokens.caller(token) is None:
        return _login(request, "This token is not known here.", following)
    answer = _back(request, following)
    if tokens is not None:
        answer.set_cookie(
            COOKIE, quote(token), path=_root(request), httponly=True, samesite="strict", secure=_secure(request)
        )
    return answer


@router.post("/logout")
async def logout(request: Request) -> Response:
    """Forget the token."""
    answer = _back(request, "")
    answer.delete_cookie(COOKIE, path=_root(request), httponly=True, samesite="strict", secure=_secure(request))
    return answer


# -- what is shown ---------------------------------------------------------------------------------------------------

Show = Callable[[Service, Caller, Asked, dict[str, Any]], Awaitable[str]]


async def _found(service: Service, caller: Caller, asked: Asked, frame: dict[str, Any]) -> str:
    info: IndexInfo = frame["info"]
    results = None
    if not asked.empty:
        QUERIES.labels(info.name).inc()
        started = time.perf_counter()
        hits, explained = await service.search_explained(
            caller, info.name, asked.query, asked.k, asked.options(), explained=min(asked.k, _SHADED)
        )
        took = (time.perf_counter() - started) * 1000
        results = results_of(hits, explained, asked, info, took, service.settings.max_k)
    return await _rendered("page.html.j2", **frame, results=results)


async def _explained(service: Service, caller: Caller, asked: Asked, frame: dict[str, Any]) -> str:
    name: str = frame["info"].name
    found, shown = await service.explain_with_pictures(caller, name, asked.query, asked.id, asked.options())
    pictures = [(one, one.caption) for one in shown.pictures]
    if found.visual is None and found.page is not None:
        # Of the pages that a passage goes over, those with a word that matched.
        pictures = [(one, f"page {found.page + number}") for number, one in enumerate(shown.pictures)]
        pictures = [pair for pair in pictures if pair[0].words] or pictures[:1]
    values = {**page_values(found, shown), **frame, "title": found.id, "pictures": pictures}
    return await _rendered("why.html.j2", **values)


async def _answered(request: Request, asked: Asked, show: Show) -> Response:
    service = service_of(request)
    try:
        caller = caller_of(request)
    except HTTPException:
        return _login(request, "", request.url.query if show is _found and request.method == "GET" else "")
    names = list(service.catalog.paths)
    frame: dict[str, Any] = {
        "asked": asked, "names": names, "indexes": [], "info": None, "error": None, "steps": STEPS,
        "session": COOKIE in request.cookies and request.app.state.tokens is not None,
        "rerank": service.settings.reranker is not None,
    }  # fmt: skip
    try:
        frame["info"] = await service.info(caller, asked.index or names[0])
        if asked.empty:
            frame["indexes"] = await service.indexes(caller)
        return HTMLResponse(await show(service, caller, asked, frame))
    except SmartError as error:
        frame["error"] = service.public_message(error)
        status = status_of(error)
        if status == 500:
            LOG.error("%s: %s", type(error).__name__, error)
        body = await _rendered("page.html.j2", **{**frame, "results": None})
        return HTMLResponse(body, status, {"Retry-After": "1"} if status == 503 else None)


async def _with_form(request: Request, show: Show) -> Response:
    # The picture of a page before comes as a field, and is as large as a body may be.
    most = service_of(request).settings.max_body
    async with request.form(max_files=1, max_fields=_FORM_FIELDS, max_part_size=most) as form:
        given = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
        upload = form.get("image")
        data = b"" if upload is None or isinstance(upload, str) else await upload.read()
    try:
        asked = Asked.of(given, data)
    except SmartError as error:
        asked = Asked.of([(name, value) for name, value in given if name != "picture"])
        return await _failed(request, asked, error)
    return await _answered(request, asked, show)


async def _failed(request: Request, asked: Asked, error: SmartError) -> Response:
    async def show(service: Service, caller: Caller, asked: Asked, frame: dict[str, Any]) -> str:
        raise error

    return await _answered(request, asked, show)


async def _rendered(template: str, **values: Any) -> str:
    # Pictures are drawn while it is rendered: not in the loop that answers everybody.
    return await asyncio.to_thread(render, __package__, template, b64=_base64, level=level, **values)


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


# -- tokens ----------------------------------------------------------------------------------------------------------


def _login(request: Request, error: str, following: str) -> Response:
    body = render(__package__, "login.html.j2", error=error, following=following, session=False)
    return HTMLResponse(body, 401, {"WWW-Authenticate": "Bearer"})


def _back(request: Request, following: str) -> Response:
    """To the page, with the query that was asked for; never to another address."""
    query = urlencode(parse_qsl(following)[:_FORM_FIELDS])
    return RedirectResponse(f"{_root(request)}{'?' if query else ''}{query}", 303)


def _root(request: Request) -> str:
    return f"{request.scope.get('root_path', '').rstrip('/')}/"


def _secure(request: Request) -> bool:
    return request.url.scheme == "https"
