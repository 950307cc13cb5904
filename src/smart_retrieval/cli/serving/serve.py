"""``smart serve``: indexes over HTTP."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..options import IndexModel
from ..output import Stopped

if TYPE_CHECKING:
    from ...server.settings import ServerSettings

_GRACE_S = 30
_DEADLINE_MS, _SHARDS_MS = 30_000.0, 2000.0


def serve(
    indexes: Annotated[
        list[str],
        typer.Argument(
            metavar="INDEX...",
            envvar="SMART_SERVE_INDEXES",
            help="Folders of indexes or of shards, or NAME=FOLDER for another name.",
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; others than this need tokens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Who may ask: lines of TOKEN, read or write, and possibly a tenant."),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Nobody adds or deletes.")] = False,
    tenant_field: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Metadata field that says whose a document is.")
    ] = None,
    allowed_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Name that requests may ask for; * for any. Repeatable.")
    ] = None,
    allowed_origin: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Other site whose pages may ask. Repeatable.")
    ] = None,
    rerank: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Cross-encoder that searches may ask for: a folder or hub name.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; each loads the model.")] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of one model's computation. [default: half of the cores]")
    ] = None,
    searchers: Annotated[
        int | None, typer.Option(min=1, help="Threads that search. [default: one for each core, 2 to 8]")
    ] = None,
    waiting: Annotated[int, typer.Option(min=1, help="Requests that wait before others are refused with 503.")] = 256,
    max_body: Annotated[int, typer.Option(min=1, metavar="MB", help="Largest body of a request.")] = 32,
    deadline_ms: Annotated[
        float | None, typer.Option(min=1, help="Longest time that a search may take. [default: 30000; with --ray 2000]")
    ] = None,
    idle: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="When an unused index is closed.")] = 900,
    model: IndexModel = None,
    access_log: Annotated[
        bool, typer.Option("--access-log", help="Write a line of JSON to stderr for each request.")
    ] = False,
    ray: Annotated[
        bool, typer.Option("--ray", help="Serve the shards of INDEX on a Ray cluster; search only.")
    ] = False,
    address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster; auto for this machine's. [default: one of its own]")
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, help="With --ray: replicas of each shard.")] = 1,
) -> None:
    """Serve indexes over HTTP: search, explain, add, delete, encode, rerank; described at /docs.

    Every option may also be a variable of the environment: SMART_SERVE_ and its name, as SMART_SERVE_TOKEN_FILE.

    The address is printed once it is bound; /readyz answers 200 once the models are loaded. SIGTERM and Ctrl-C let
    requests that are under way end.
    """
    from ...server.settings import ServerSettings

    settings = ServerSettings(
        token_file=token_file and token_file.absolute(), read_only=read_only, tenant_field=tenant_field, model=model,
        reranker=rerank, allowed_hosts=_hosts(host, allowed_host or []), allowed_origins=tuple(allowed_origin or ()),
        workers=workers, searchers=searchers or 0, threads=threads or 0, waiting=waiting, max_body=max_body * 2**20,
        deadline_ms=deadline_ms or (_SHARDS_MS if ray else _DEADLINE_MS), idle_s=idle, access_log=access_log,
    )  # fmt: skip
    if not ray and (address, replicas) != (None, 1):
        raise typer.BadParameter("found --address or --replicas without --ray, expected --ray")
    if ray:
        _check_access(host, settings)
        _run_on_ray(indexes, host, port, settings, address, replicas)
        return
    # Before NumPy and torch are imported: threads that wait for each other make two computations many times slower.
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.model_threads))
    _check(indexes, host, settings)
    with tempfile.TemporaryDirectory(prefix="smart-serve-") as state:
        _run(indexes, host, port, settings, Path(state))


def _hosts(host: str, allowed: list[str]) -> tuple[str, ...]:
    """Names in ``Host``: those given; the address itself; any where all addresses are listened on and none is given."""
    everywhere = host in ("0.0.0.0", "::", "")
    return tuple(allowed) or (("*",) if everywhere else (host,))


def _check(indexes: list[str], host: str, settings: ServerSettings) -> None:
    """Find what cannot be served before anything is loaded, with its name."""
    from ...extras import check
    from ...index.shards.sharded_index import open_index
    from ...server.settings import named_paths

    for module in ("fastapi", "uvicorn", "prometheus_client", "python_multipart"):
        check(module, "serve")
    _check_access(host, settings)
    for path in named_paths(indexes).values():
        open_index(path, mode="r" if settings.read_only else "w").close()


def _check_access(host: str, settings: ServerSettings) -> None:
    """Refuse tokens that cannot be read, and to let in everybody who reaches this machine."""
    from ...errors import ServerError
    from ...server.tokens import TokenFile

    if settings.token_file is not None:
        TokenFile(settings.token_file, settings.tenant_field)
    elif settings.tenant_field is not None:
        raise ServerError("found --tenant-field without --token-file, which says whose token is which tenant's")
    elif host not in ("127.0.0.1", "::1", "localhost"):
        raise ServerError(
            f"found --host {host} without --token-file: everybody who reaches this machine could search"
            + ("" if settings.read_only else ", add and delete")
            + "; write a file of tokens, or listen on 127.0.0.1 behind a proxy that asks who it is"
        )


def _run_on_ray(
    indexes: list[str], host: str, port: int, settings: ServerSettings, address: str | None, replicas: int
) -> None:
    """Serve shards on a cluster until asked to stop."""
    import time

    from ...cluster.serving.serve import ServedShards

    if len(indexes) != 1:
        raise typer.BadParameter(f"--ray: found {len(indexes)} indexes, expected the shards of one")
    served = ServedShards(indexes[0], address=address, replicas=replicas, host=host, port=port, settings=settings)
    with suppress(Stopped, KeyboardInterrupt), served:
        typer.echo(f"serving {served.name} on {served.url}")
        sys.stdout.flush()
        while True:
            time.sleep(3600)
    print("smart: stopped", file=sys.stderr)


def _run(indexes: list[str], host: str, port: int, settings: ServerSettings, state: Path) -> None:
    from dataclasses import replace
    from functools import partial

    from ...errors import ServerError
    from ...server.app import ENVIRONMENT, application, described, service_from_environment
    from ...server.settings import named_paths

    listening = _bound(host, port)
    if listening is None:
        raise ServerError(f"found port {port} of {host} in use or not to be had, expected a free one; 0 takes any")
    os.environ[ENVIRONMENT] = described(indexes, replace(settings, state_dir=state))
    app: Any = "smart_retrieval.server.app:app_from_environment"
    if settings.workers == 1:
        app = partial(application, service_from_environment())  # which loads while all this is imported
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    from ...server.http.connections import Connection
    from ...server.http.metrics import SHARED

    if settings.workers > 1:
        (state / "metrics").mkdir()
        os.environ[SHARED] = str(state / "metrics")
    config = uvicorn.Config(
        app, factory=True, host=host, port=port, workers=settings.workers,
        log_config=None, log_level="warning", access_log=False, http=Connection, ws="none",
        timeout_graceful_shutdown=_GRACE_S, server_header=False, date_header=True, proxy_headers=False,
    )  # fmt: skip
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    typer.echo(f"serving {', '.join(named_paths(indexes))} on {address}")
    sys.stdout.flush()
    with suppress(Stopped, KeyboardInterrupt):  # asked to stop, which is no failure
        if settings.workers > 1:
            Multiprocess(config, sockets=[listening]).run()
        else:
            server = uvicorn.Server(config)
            server.run(sockets=[listening])
            if not server.started:
                raise typer.Exit(1)
    print("smart: stopped", file=sys.stderr)


def _bound(host: str, port: int) -> socket.socket | None:
    """A socket that listens there."""
    try:
        family = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except (OSError, UnicodeError):
        return None
    listening.set_inheritable(True)
    return listening
