"""The tools of an agent, at ``/mcp`` of the application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.routing import Route

from ..mcp import create_mcp
from ..service import Service
from .answers import CALLER, caller_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

PATH = "/mcp"


def add_agents(app: FastAPI, service: Service) -> MCPServer[Any]:
    """Mount tools that read; their ``session_manager`` has to run while the application does."""
    server = create_mcp(service, lambda request: request.scope[CALLER])
    # Hosts and sizes are checked for all routes alike, before this one. No sessions: any worker answers any request.
    mounted = server.streamable_http_app(
        streamable_http_path="/",
        stateless_http=True,
        max_request_body_size=service.settings.max_body,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    known = _Known(mounted)
    app.router.routes.append(Route(PATH, known))  # not every client follows a redirect to a path with a slash
    app.mount(PATH, known)
    return server


class _Known:
    """Lets in who has a token, for every request anew."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller_of(Request(scope))  # which notes it in the scope
        inner = {**scope}
        if inner["path"].endswith(PATH):  # as a mount would have it
            inner |= {"path": f"{inner['path']}/", "root_path": f"{inner.get('root_path', '')}{PATH}"}
        await self._app(inner, receive, send)
