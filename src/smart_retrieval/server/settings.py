"""How a server behaves; every limit has a number here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ServerError
from ..files import settled


@dataclass(frozen=True)
class ServerSettings:
    """Settings of a server.

    Args:
        token_file: File with one caller a line: ``TOKEN ROLE [TENANT]``; without one, everybody may do everything.
        read_only: Nothing is added or deleted, whatever the token.
        tenant_field: Metadata field that holds the tenant of a document.
        model: The indexes' model, if it was moved since.
        reranker: Cross-encoder that searches may ask for: a folder or hub name.
        allowed_hosts: Names that requests may have in ``Host``, beside those of this machine's loopback.
        allowed_origins: Origins of other sites whose pages may ask, such as ``"https://wiki.example.org"``.
        workers: Processes.
        searchers: Threads that search; 0 for two, or one for each core up to eight.
        threads: Threads of one model's computation; 0 for half of the cores.
        waiting: Requests that wait for the encoder, and for a searcher, before others are refused.
        max_body: Bytes of a request's body.
        max_pixels: Pixels of a picture in a request.
        max_k: Hits of one query.
        max_queries: Queries of one request.
        max_candidates: Candidates of one query.
        max_documents: Documents of one request; more than ``sync_documents`` of them become a job.
        sync_documents: Documents that a request waits for.
        max_jobs: Jobs that wait or run.
        deadline_ms: Milliseconds that a search may take if it says nothing else, and at most.
        idle_s: Seconds after which an index that nobody used is closed; the last one used stays open.
        access_log: A line of JSON for every request goes to the logger ``smart_retrieval.access``.
        state_dir: Folder for what workers share (jobs, metrics); a temporary one when None.

    Raises:
        ServerError: A number is below 1.
    """

    token_file: Path | None = None
    read_only: bool = False
    tenant_field: str | None = None
    model: str | None = None
    reranker: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    workers: int = 1
    searchers: int = 0
    threads: int = 0
    waiting: int = 256
    max_body: int = 32 * 2**20
    max_pixels: int = 24_000_000
    max_k: int = 1000
    max_queries: int = 1000
    max_candidates: int = 20_000
    max_documents: int = 10_000
    sync_documents: int = 256
    max_jobs: int = 16
    deadline_ms: float = 30_000.0
    idle_s: float = 900.0
    access_log: bool = False
    state_dir: Path | None = None

    def __post_init__(self) -> None:
        for name in (
            "workers", "waiting", "max_body", "max_pixels", "max_k", "max_queries", "max_candidates", "max_documents",
            "sync_documents", "max_jobs", "deadline_ms",
        ):  # fmt: skip
            if not getattr(self, name) >= 1:
                raise ServerError(f"{name}: found {getattr(self, name)}, expected 1 or more")

    @property
    def search_threads(self) -> int:
        """How many threads search."""
        return self.searchers or min(8, max(2, os.cpu_count() or 1))

    @property
    def model_threads(self) -> int:
        """How many threads a model's computation takes, so that a query and a document are encoded side by side."""
        return self.threads or max(1, (os.cpu_count() or 1) // 2)


def named_paths(given: Sequence[str | Path] | Mapping[str, str | Path]) -> dict[str, Path]:
    """Indexes by name: ``NAME=PATH``, or the folder's name without ``.smart``.

    Raises:
        ServerError: There is none, two have one name, or a name is no part of a URL.

    Example:
        >>> list(named_paths(["docs.smart", "old=archive/docs.smart"]))
        ['docs', 'old']
    """
    pairs = list(given.items()) if isinstance(given, Mapping) else [_named(one) for one in given]
    found: dict[str, Path] = {}
    for name, path in pairs:
        if not name or not all(c.isalnum() or c in "-_." for c in name) or name.strip(".") != name:
            raise ServerError(f"index {name!r}: expected a name of letters, digits, - and _; give one as NAME=PATH")
        if name in found:
            raise ServerError(f"index {name!r}: found two of this name; give them names as NAME=PATH")
        found[name] = settled(path)
    if not found:
        raise ServerError("found no index to serve, expected at least one folder")
    return found


def _named(given: str | Path) -> tuple[str, str | Path]:
    if isinstance(given, str) and "=" in given and not settled(given).exists():
        name, _, path = given.partition("=")
        return name, path
    return settled(given).name.removesuffix(".smart"), given
