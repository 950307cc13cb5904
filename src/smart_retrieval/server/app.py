"""The HTTP application."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..extras import check
from .service import Service
from .settings import ServerSettings, named_paths

if TYPE_CHECKING:
    from fastapi import FastAPI

#: What worker processes are told, as JSON.
ENVIRONMENT = "SMART_SERVE"
_ABOUT = """Search, explain, add and delete over indexes of smart-retrieval.

Every index has a name. Callers send `Authorization: Bearer TOKEN` where the server asks for tokens. Errors are
`{"error": {"type": …, "message": …}}`: 400 and 422 for what is wrong with a request, 401 and 403 for tokens, 404 for
what is not there, 409 for an id that is, 413 for a body that is too large, 503 with `Retry-After` while too much waits,
504 where a deadline passed before anything was found.
"""
_TAGS = [
    {"name": "search", "description": "Find documents, and see why they were found."},
    {"name": "documents", "description": "What an index holds."},
    {"name": "models", "description": "What an index's model does by itself."},
    {"name": "operations", "description": "What is served, and how it is."},
]


def create_app(
    indexes: Sequence[str | Path] | Mapping[str, str | Path], settings: ServerSettings | None = None
) -> FastAPI:
    """An ASGI application that serves indexes: a page, HTTP API, its description under ``/docs``, health and metrics.

    Its start-up loads models in the background; ``/readyz`` tells when they are. What it serves is at
    ``app.state.service``, a :class:`~smart_retrieval.server.Service`, for routes that are added to it. Where the
    process does nothing else, call ``app.state.service.collector.pause()`` before it is run, as ``smart serve`` does:
    Python then looks for garbage among half a million objects of torch once, and not every few seconds under load.

    Args:
        indexes: Their folders, ``"NAME=FOLDER"``, or folders by name.
        settings: Limits and switches.

    Returns:
        The application, to be run by one ASGI server in one process; ``smart serve`` runs it by uvicorn.

    Raises:
        ServerError: Names, tokens or limits do not fit.
        MissingExtraError: FastAPI is not installed.

    Example:
        >>> app = create_app(["docs.smart"])  # doctest: +SKIP
        >>> uvicorn.run(app, host="127.0.0.1", port=8000)  # doctest: +SKIP
    """
    return application(Service(indexes, settings))


def application(service: Service) -> FastAPI:
    """:func:`create_app` of a service, which may have begun to load."""
    for module in ("fastapi", "mcp", "prometheus_client", "python_multipart"):
        check(module, "serve")
    from fastapi import FastAPI
    from starlette.middleware.cors import CORSMiddleware

    from .http import documents, models, operations, search
    from .http.access_log import AccessLog
    from .http.agents import Agents
    from .http.answers import add_handlers
    from .http.metrics import Measured
    from .http.reference import reference_page
    from .http.security import Guard
    from .page import routes as page
    from .tokens import TokenFile

    settings, agents = service.settings, Agents(service)
    tokens = None if settings.token_file is None else TokenFile(settings.token_file, settings.tenant_field)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service:
            service.warm_up()
            yield
            await agents.close()

    app = FastAPI(
        title="smart-retrieval", version=__version__, description=_ABOUT, openapi_tags=_TAGS, lifespan=lifespan,
        docs_url=None, redoc_url=None,
    )  # fmt: skip
    app.state.service, app.state.tokens = service, tokens
    add_handlers(app, service)
    for routes in (search, documents, models, operations, page):
        app.include_router(routes.router)
    app.include_router(documents.jobs_router)
    agents.add_to(app)
    app.add_api_route("/docs", reference_page, include_in_schema=False)
    app.mount("/assets", page.ASSETS)
    app.add_middleware(Measured, service=service)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(settings.allowed_origins), allow_methods=["*"],
            allow_headers=["authorization", "content-type"],
        )  # fmt: skip
    app.add_middleware(Guard, settings=settings)
    if settings.access_log:
        app.add_middleware(AccessLog)
    return app


def app_from_environment() -> FastAPI:
    """The application of a worker process, as the process that started it describes it in its environment."""
    return application(service_from_environment())


def service_from_environment() -> Service:
    """Its service, which loads already while the rest is imported."""
    _log_to_stderr()
    given = json.loads(os.environ[ENVIRONMENT])
    paths = ("token_file", "state_dir")
    values: dict[str, Any] = {
        name: Path(value) if name in paths and value else tuple(value) if isinstance(value, list) else value
        for name, value in given["settings"].items()
    }
    service = Service(given["indexes"], ServerSettings(**values))
    service.collector.pause()
    service.warmup.begin()
    return service


def _log_to_stderr() -> None:
    """Warnings in words, and requests, if they are asked for, as bare lines of JSON; in each worker process."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="smart: %(levelname)s: %(message)s")
    requests, lines = logging.getLogger("smart_retrieval.access"), logging.StreamHandler(sys.stderr)
    lines.setFormatter(logging.Formatter("%(message)s"))
    requests.handlers, requests.propagate = [lines], False
    requests.setLevel(logging.INFO)


def described(indexes: Sequence[str | Path], settings: ServerSettings) -> str:
    """What :func:`service_from_environment` reads."""
    paths = {name: str(path) for name, path in named_paths(indexes).items()}
    return json.dumps({"indexes": paths, "settings": asdict(settings)}, default=str)
