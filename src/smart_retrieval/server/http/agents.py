"""The tools of an agent, at ``/mcp`` of the application."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.routing import Route

from ..service import Service
from .answers import CALLER, caller_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

PATH = "/mcp"


class Agents:
    """Tools that read, for whoever has a token.

    Made at the first request: to import what they are made of takes as long as to load a small model.

    Args:
        service: The indexes.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._starting = asyncio.Lock()
        self._ended = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._app: ASGIApp | None = None

    def add_to(self, app: FastAPI) -> None:
        """Answer at ``/mcp``, and at ``/mcp/``: not every client follows a redirect."""
        app.router.routes.append(Route(PATH, self))
        app.mount(PATH, self)

    async def close(self) -> None:
        """End what is under way."""
        self._ended.set()
        if self._running is not None:
            await self._running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in who has a token, for every request anew."""
        caller_of(Request(scope))  # which notes it in the scope
        if scope["method"] != "POST":  # a stream on which nothing would come, as there are no sessions
            raise HTTPException(405, "found no session to listen to or to end, expected a POST", {"Allow": "POST"})
        async with self._starting:
            app = self._app = self._app or await self._started()
        inner = {**scope}
        if inner["path"].endswith(PATH):  # as a mount would have it
            inner |= {"path": f"{inner['path']}/", "root_path": f"{inner.get('root_path', '')}{PATH}"}
        await app(inner, receive, send)

    async def _started(self) -> ASGIApp:
        await asyncio.to_thread(importlib.import_module, "mcp.server.mcpserver")  # so that others are answered
        from mcp.server.transport_security import TransportSecuritySettings

        from ..mcp import create_mcp

        server = create_mcp(self._service, lambda request: request.scope[CALLER])
        # Hosts and sizes are checked for all routes alike, before this one. No sessions: any worker answers.
        app = server.streamable_http_app(
            streamable_http_path="/",
            stateless_http=True,
            max_request_body_size=self._service.settings.max_body,
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )
        started = asyncio.Event()

        async def run() -> None:
            async with server.session_manager.run():
                started.set()
                await self._ended.wait()

        self._running = asyncio.create_task(run())
        await started.wait()
        return app
