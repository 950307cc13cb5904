"""Answers and their errors; what a route needs of the application."""

from __future__ import annotations

import base64
import json
import logging
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import msgspec
import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from ...errors import (
    DeadlineError,
    DuplicateIdError,
    IndexBusyError,
    IndexDamagedError,
    IndexFormatError,
    IndexFullError,
    IndexMismatchError,
    IndexReadOnlyError,
    MissingExtraError,
    ModelNotFoundError,
    ModelServerError,
    NotAllowedError,
    OverloadedError,
    SmartError,
    UnknownIdError,
    UnknownIndexError,
)
from ...types import Array
from ..access import Caller
from ..service import Service
from .security import error_body

#: The cookie that a page may keep a token in, where a browser cannot send a header.
COOKIE = "smart_token"
#: Where a request's scope says who asks, for the log.
CALLER = "smart_retrieval.caller"
LOG = logging.getLogger("smart_retrieval.server")

_STATUS: dict[type[SmartError], int] = {
    NotAllowedError: 403,
    UnknownIdError: 404,
    UnknownIndexError: 404,
    DuplicateIdError: 409,
    OverloadedError: 503,
    IndexBusyError: 503,
    ModelServerError: 503,
    DeadlineError: 504,
    IndexFullError: 507,
    **dict.fromkeys(
        (
            IndexDamagedError,
            IndexFormatError,
            IndexMismatchError,
            IndexReadOnlyError,
            MissingExtraError,
            ModelNotFoundError,
        ),
        500,
    ),
}
_KINDS = {
    401: "UnauthorizedError",
    403: "NotAllowedError",
    404: "NotFoundError",
    405: "MethodError",
    408: "TimeoutError",
    413: "TooLargeError",
}


class Answer(JSONResponse):
    """JSON; half a character, which a request may hold and UTF-8 may not, becomes a question mark."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return line_of(content)


def line_of(content: Any) -> bytes:
    """JSON in one line."""
    with suppress(TypeError, ValueError, OverflowError):  # half a character, or a whole number beyond 64 bits
        return msgspec.json.encode(content)
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def service_of(request: Request) -> Service:
    """The service behind a request."""
    service: Service = request.app.state.service
    return service


def caller_of(request: Request) -> Caller:
    """Who asks: by the bearer token, or a page's cookie; anybody where the server knows no tokens.

    Raises:
        HTTPException: 401, the token is nobody's.
    """
    tokens = request.app.state.tokens
    if tokens is None:
        request.scope[CALLER] = anybody = Caller("write", name="anybody")
        return anybody
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        token = unquote(request.cookies.get(COOKIE, ""))
    caller = tokens.caller(token.strip()) if token else None
    if caller is None:
        raise HTTPException(401, "found no token that is known here; send Authorization: Bearer TOKEN",
                            {"WWW-Authenticate": "Bearer"})  # fmt: skip
    found: Caller = caller
    request.scope[CALLER] = found
    return found


async def asking(request: Request) -> Caller:
    """:func:`caller_of` as a dependency, which in a coroutine takes no thread's turn; the same errors."""
    return caller_of(request)


async def serving(request: Request) -> Service:
    """:func:`service_of` likewise."""
    return service_of(request)


def vectors(array: Array, form: str) -> Any:
    """Vectors as lists, or as Base64 of little-endian float32."""
    if form == "base64":
        return base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode()
    return np.asarray(array, np.float32).tolist()


def status_of(error: SmartError) -> int:
    """The HTTP status of a named error; 400 for whatever is wrong with a request."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 400)


def named_error(service: Service, error: SmartError) -> Response:
    """The answer to a request that a named error ended."""
    status = status_of(error)
    if status == 500:
        LOG.error("%s: %s", type(error).__name__, error)
    headers = {"Retry-After": "1"} if status == 503 else None
    return Answer(error_body(type(error).__name__, service.public_message(error)), status, headers)


def add_handlers(app: FastAPI, service: Service) -> None:
    """Answer every error by its name, without a path of this machine."""

    async def named(request: Request, error: Exception) -> Response:
        assert isinstance(error, SmartError)
        return named_error(service, error)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        body = error_body(_KINDS.get(error.status_code, "RequestError"), str(error.detail))
        return Answer(body, error.status_code, dict(error.headers or {}))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        # Not what was found, which may be long and anything.
        found = [f"{'.'.join(str(part)[:40] for part in one['loc'])}: {one['msg']}" for one in error.errors()[:5]]
        return Answer(error_body("ValidationError", "; ".join(found)[:2000]), 422)

    async def unexpected(request: Request, error: Exception) -> Response:
        LOG.error("an unexpected error", exc_info=error)
        return Answer(error_body("InternalError", service.public_message(error)), 500)

    app.add_exception_handler(SmartError, named)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, unexpected)
