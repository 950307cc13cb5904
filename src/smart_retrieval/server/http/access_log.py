"""A line of JSON for every request: who asked, for what, how it ended, how long it took; no token, query or filter."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .answers import CALLER

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOG = logging.getLogger("smart_retrieval.access")
_LONGEST = 100


class AccessLog:
    """The outermost layer, so that what is refused is told as well.

    Args:
        app: What answers requests.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, size = time.perf_counter(), 0, 0

        async def noted(message: Message) -> None:
            nonlocal status, size
            status = message.get("status", status)
            size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            caller = scope.get(CALLER)
            line = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "client": (scope.get("client") or ("",))[0],
                "caller": caller and caller.name,
                "tenant": caller and caller.tenant and caller.tenant.value,
                "method": str(scope["method"])[:_LONGEST],
                # The template: a path, and what follows its question mark, may hold ids and filters.
                "route": getattr(scope.get("route"), "path", None),
                "index": str(scope.get("path_params", {}).get("index", ""))[:_LONGEST] or None,
                "status": status,  # 0: the client was gone before there was an answer
                "ms": round(1000 * (time.perf_counter() - started), 1),
                "bytes": size,
            }
            LOG.info("%s", json.dumps(line))
