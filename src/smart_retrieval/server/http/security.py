"""What every request passes before a route sees it, and every answer behind it: hosts, origins, sizes, headers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException

from ..settings import ServerSettings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")
#: Any name may stand in ``Host``: for a server that asks for tokens, behind a proxy.
ANY_HOST = "*"
# Seconds in which a body has to arrive.
_BODY_S = 120.0

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-src 'self'; frame-ancestors 'self'; base-uri 'none'"
)
#: Of a page made of documents, with a script of its own: an origin apart, which loads nothing.
CSP_OF_DOCUMENTS = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)
_HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    # With "no-referrer", browsers send the Origin of a page's own forms as "null".
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """The outermost layer.

    Args:
        app: What it guards.
        settings: Hosts, origins and the largest body.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._hosts = frozenset(name.lower() for name in (*LOOPBACK, *settings.allowed_hosts))
        self._origins = frozenset(origin.rstrip("/").lower() for origin in settings.allowed_origins)
        self._max_body = settings.max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        answer = _with_headers(send)
        refused = self._refused(headers)
        if refused is not None:
            await _refuse(answer, *refused)
            return
        await self._app(scope, _counted(receive, self._max_body), answer)

    def _refused(self, headers: dict[str, list[str]]) -> tuple[int, str] | None:
        hosts, origins = headers.get("host", []), headers.get("origin", [])
        if len(hosts) != 1 or not self._known(hosts[0]):
            return 421, "found a Host that this server does not answer to; start it with --allowed-host NAME"
        for origin in origins:
            same = urlsplit(origin.lower()).netloc == hosts[0].lower()
            if not same and origin.lower() not in self._origins:
                return 403, "found the Origin of another site; start the server with --allowed-origin URL"
        lengths = headers.get("content-length", [])
        if lengths and (len(lengths) > 1 or not lengths[0].isdecimal()):
            return 400, "found a Content-Length that is no number"
        if lengths and "transfer-encoding" in headers:
            return 400, "found Content-Length and Transfer-Encoding, expected one of them"
        if lengths and int(lengths[0][:20]) > self._max_body:
            return 413, f"found a body of more than {self._max_body} bytes"
        return None

    def _known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return ANY_HOST in self._hosts or name.lower() in self._hosts


def _headers(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _counted(receive: Receive, most: int) -> Receive:
    """Reads a body that has no more bytes than announced or allowed, in the time it is given."""
    seen, until = 0, time.monotonic() + _BODY_S
    over = False

    async def counted() -> Message:
        nonlocal seen, over
        if over:
            return await receive()  # behind the body: whether the client is gone
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, "found a body that did not arrive in time") from None
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            over = not message.get("more_body", False)
            if seen > most:
                raise HTTPException(413, f"found a body of more than {most} bytes")
        return message

    return counted


def _with_headers(send: Send) -> Callable[[Message], Awaitable[None]]:
    async def headed(message: Message) -> None:
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                *((name.encode(), value.encode()) for name, value in _HEADERS.items() if name.encode() not in names),
            ]
        await send(message)

    return headed


def error_body(kind: str, message: str) -> dict[str, Any]:
    """What every refused request is answered."""
    return {"error": {"type": kind, "message": message}}


async def _refuse(send: Callable[[Message], Awaitable[None]], status: int, message: str) -> None:
    body = json.dumps(error_body("RefusedError", message)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    # The body, which nobody reads, must not be taken for the next request.
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
