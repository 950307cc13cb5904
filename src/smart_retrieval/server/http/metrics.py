"""What Prometheus is told; counts of all workers together."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ..service import Service

#: Where several workers leave their counts; to be set before this module is imported.
SHARED = "PROMETHEUS_MULTIPROC_DIR"
TYPE = CONTENT_TYPE_LATEST
_STEPS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)

REQUESTS = Counter("smart_requests", "Requests answered.", ["method", "route", "status"])
SECONDS = Histogram("smart_request_seconds", "Seconds until a request was answered.", ["route"], buckets=_STEPS)
WAITING = Gauge("smart_waiting", "Calls that wait or run.", ["threads"], multiprocess_mode="livesum")
OPEN = Gauge("smart_open_indexes", "Indexes that are open.", multiprocess_mode="livesum")
QUERIES = Counter("smart_queries", "Queries searched for.", ["index"])
PARTIAL = Counter("smart_partial", "Searches that a deadline cut short.", ["index"])
WRITTEN = Counter("smart_documents", "Documents added, or deleted.", ["index", "change"])


class Measured:
    """Counts and times requests.

    Args:
        app: What answers them.
        service: Whose queues are looked at.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "other")  # the template, never what a client made up
            REQUESTS.labels(_method(scope), route, str(status)).inc()
            SECONDS.labels(route).observe(time.perf_counter() - started)
            look(self._service)


def look(service: Service) -> None:
    """Note how much waits now."""
    for name, count in service.waiting.items():
        WAITING.labels(name).set(count)
    OPEN.set(len(service.catalog.open_names))


def exposition() -> bytes:
    """Everything, in Prometheus's text format."""
    registry: Any = REGISTRY
    if os.environ.get(SHARED):
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS") else "other"
