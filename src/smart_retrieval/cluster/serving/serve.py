"""Shards deployed on a Ray cluster."""

from __future__ import annotations

import logging
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from ...errors import ServerError, SmartError
from ...extras import require
from ...index.shards.split import check_alike, shard_folders
from ...index.smart_index import SmartIndex
from ...index.store.folder import FILE
from ...server.settings import ServerSettings, named_paths
from ..ray_runs import start_ray
from .front import Front
from .shard import ShardReplica

_APPLICATION = "smart-retrieval"
# Requests that one replica works on, and that wait for it.
_AT_ONCE, _WAITING = 16, 256


class ServedShards:
    """The shards of an index, served over HTTP by Ray Serve.

    A front encodes each query once and asks all shards under one scoring, with the IDF counts of all. A shard that is
    later than the deadline, or has no replica left, is left out, and the hits are marked ``partial``. Use it in a
    ``with`` statement: it ends what it has deployed, and the cluster if it has started one.

    To replace a shard, move another folder into its place (``mv docs.shards/shard-00001 old && mv new
    docs.shards/shard-00001``): its replicas open it one after another, within some seconds and without a pause. One of
    another model, codec or split is not taken. What is added to a shard where it lies is seen by the next query.

    Args:
        shards: A folder of shards, or ``NAME=FOLDER`` for another name in URLs; all nodes must see it.
        address: Of a Ray cluster; None for a new one of this machine.
        replicas: Replicas of each shard.
        fronts: Replicas of the front; each loads the model.
        host: Address to listen on.
        port: Port; 0 for any that is free.
        settings: Limits, tokens and hosts; ``deadline_ms`` is how long shards are waited for.

    Raises:
        ServerError: There are no shards, or more than one name.
        IndexMismatchError: A shard is missing, or they do not belong together.
        MissingExtraError: Ray is not installed.

    Example:
        >>> with ServedShards("docs.shards", replicas=2) as served:  # doctest: +SKIP
        ...     print(served.url)
    """

    def __init__(
        self,
        shards: str | Path,
        *,
        address: str | None = None,
        replicas: int = 1,
        fronts: int = 1,
        host: str = "127.0.0.1",
        port: int = 8000,
        settings: ServerSettings | None = None,
    ) -> None:
        if replicas < 1 or fronts < 1:
            raise ServerError(f"replicas: found {replicas} of a shard and {fronts} of the front, expected 1 or more")
        ((self.name, self.folder),) = named_paths([str(shards)]).items()
        self.address, self.replicas, self.fronts, self.host = address, replicas, fronts, host
        self.port = port or _free_port(host)
        self.settings = settings or ServerSettings(deadline_ms=2000.0)
        self._places = self._found()
        self._own = False

    @property
    def url(self) -> str:
        """Where it is served."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def search_url(self) -> str:
        """Where searches are sent."""
        return f"{self.url}/v1/indexes/{self.name}/search"

    def __enter__(self) -> Self:
        self._own = start_ray(self.address)
        try:
            serve = require("ray.serve", "ray")
            logging.getLogger("ray.serve").setLevel(logging.WARNING)
            serve.start(http_options={"host": self.host, "port": self.port}, proxy_location="HeadOnly")
            self._deploy()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Take it down."""
        ray, serve = require("ray", "ray"), require("ray.serve", "ray")
        if self._own:
            serve.shutdown()
            ray.shutdown()
        elif ray.is_initialized():
            serve.delete(_APPLICATION)

    def _found(self) -> list[Path]:
        """The shards, once they are known to be alike and all of them."""
        places = shard_folders(self.folder) or ([self.folder] if (self.folder / FILE).exists() else [])
        if not places:
            raise ServerError(f"found no shards at {str(self.folder)!r}, expected shard-00000, ...: run smart split")
        with ExitStack() as stack:
            check_alike([stack.enter_context(SmartIndex.open(place, mode="r")).store for place in places])
        return places

    def _deploy(self) -> None:
        ray, serve = require("ray", "ray"), require("ray.serve", "ray")
        replicas = len(self._places) * self.replicas + self.fronts
        # A whole core for each where there are enough; on less they share what there is.
        share = max(0.01, min(1.0, int(80 * ray.cluster_resources().get("CPU", 1) / replicas) / 100))
        common: dict[str, Any] = {
            "max_ongoing_requests": _AT_ONCE, "health_check_period_s": 2.0, "health_check_timeout_s": 10.0,
            "graceful_shutdown_timeout_s": 5.0, "ray_actor_options": {"num_cpus": share},
        }  # fmt: skip
        shards = [
            serve.deployment(ShardReplica, name=path.name).options(num_replicas=self.replicas, **common).bind(str(path))
            for path in self._places
        ]
        front = serve.deployment(Front, name="front").options(
            num_replicas=self.fronts, max_queued_requests=_WAITING, **{**common, "max_ongoing_requests": 4 * _AT_ONCE}
        )
        app = front.bind(self.name, str(self._places[0]), self.settings.model, self.settings, *shards)
        try:
            serve.run(app, name=_APPLICATION, route_prefix="/")
        except RuntimeError as error:
            raise SmartError(f"shards cannot be deployed: {str(error)[:500]}") from error


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as taken:
        taken.bind((host, 0))
        port: int = taken.getsockname()[1]
        return port
