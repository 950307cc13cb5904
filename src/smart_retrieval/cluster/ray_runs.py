"""Stages on a Ray cluster: Ray Data, a pool of actors, and a watchdog."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from ..errors import EncodingRunError, SmartError
from ..extras import require

JobT = TypeVar("JobT")
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

# Blocks of a stage: enough that the pool is busy to the end, few enough for Ray to keep track of.
_MOST_BLOCKS = 5000
_POLL_S = 1.0


class RayRunner:
    """Runs stages on Ray: a cluster that exists, or one of this machine for as long as this lasts.

    Use it in a ``with`` statement.

    Args:
        address: Of a cluster (``"auto"`` for the one this machine is part of); None for a new one of this machine.
        workers: Most workers; half of the cluster's CPUs when None (the other half reads and writes), or one for each
            GPU if there is one.
        stall_s: Seconds without anything written after which a stage is ended.

    Raises:
        MissingExtraError: Ray is not installed.
        EncodingRunError: There is no cluster at this address.

    Example:
        >>> with RayRunner() as runner:  # doctest: +SKIP
        ...     encode_dataset("corpus.parquet", "corpus.shards", index=True, runner=runner)
    """

    def __init__(self, address: str | None = None, workers: int | None = None, stall_s: float = 900.0) -> None:
        self.address, self.workers, self.stall_s = address, workers, stall_s
        self._own = False

    def __enter__(self) -> Self:
        self._own = start_ray(self.address)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own:
            require("ray", "ray").shutdown()

    def run(
        self,
        stage: str,
        worker: Callable[[JobT], Callable[[ItemT], ResultT]],
        job: JobT,
        items: Sequence[ItemT],
        folder: Path,
    ) -> Iterator[ResultT]:
        """See :class:`~smart_retrieval.cluster.encode.Runner`.

        Raises:
            EncodingRunError: The stage has stalled, or ended.
        """
        data = require("ray.data", "ray")
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors are raised
        data.DataContext.get_current().enable_progress_bars = False
        needs, most = self._needs(stage)
        dataset = data.from_items([{"item": item} for item in items], override_num_blocks=min(len(items), _MOST_BLOCKS))
        done = dataset.map_batches(
            _Called, fn_constructor_args=(worker, job), batch_size=1,
            compute=data.ActorPoolStrategy(min_size=1, max_size=min(most, len(items))), **needs,
        )  # fmt: skip
        results: Queue[Any] = Queue()
        thread = threading.Thread(target=_drain, args=(done, results), daemon=True, name=f"ray {stage}")
        thread.start()
        yield from self._watched(stage, results, folder)

    def _needs(self, stage: str) -> tuple[dict[str, float], int]:
        """What one worker takes, and how many there are at most."""
        found = require("ray", "ray").cluster_resources()
        cpus, gpus = int(found.get("CPU", 1)), int(found.get("GPU", 0))
        if gpus and stage == "encode":
            return {"num_gpus": 1}, self.workers or gpus
        return {"num_cpus": 1}, self.workers or max(1, cpus // 2)

    def _watched(self, stage: str, results: Queue[Any], folder: Path) -> Iterator[Any]:
        """Results as they come, as long as some come or something is written."""
        known, last = _written(folder), time.monotonic()
        while True:
            try:
                found = results.get(timeout=_POLL_S)
            except Empty:
                if (now := _written(folder)) != known:
                    known, last = now, time.monotonic()
                elif time.monotonic() - last > self.stall_s:
                    begun = sorted({name.split(".")[1] for name in _hidden(folder)})
                    raise EncodingRunError(
                        f"stage {stage!r} has stalled: nothing was finished for {self.stall_s:g} s; under way: "
                        f"{', '.join(begun[:5]) or 'nothing'}. What is written stays: run it again to go on, with "
                        "fewer workers or a longer --stall if they are short of memory or slow"
                    ) from None
                continue
            if found is None:
                return
            if isinstance(found, _Failed):
                raise EncodingRunError(f"stage {stage!r}: {found.message}")
            if isinstance(found, BaseException):
                reason = f"{type(found).__name__}: {str(found).strip()[-500:]}"
                raise EncodingRunError(f"stage {stage!r} has ended: {reason}") from found
            last = time.monotonic()
            yield found


@dataclass(frozen=True)
class _Failed:
    """A named error of a worker: as a result, for what Ray makes of an exception is long and tries again."""

    message: str


class _Called:
    """A worker as Ray Data calls it, with a batch of one item."""

    def __init__(self, worker: Callable[[Any], Callable[[Any], Any]], job: Any) -> None:
        self._make = partial(worker, job)
        self._worker: Callable[[Any], Any] | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        items = (item.item() if isinstance(item, np.generic) else item for item in batch["item"])
        return {"result": [self._result(item) for item in items]}

    def _result(self, item: Any) -> Any:
        try:
            self._worker = self._worker or self._make()
            return self._worker(item)
        except SmartError as error:
            return _Failed(str(error))


def _drain(dataset: Any, results: Queue[Any]) -> None:
    try:
        for row in dataset.iter_rows():
            results.put(row["result"])
        results.put(None)
    except BaseException as error:  # for the thread that waits
        results.put(error)


def _written(folder: Path) -> int:
    return sum(not name.startswith(".") for name in os.listdir(folder))


def _hidden(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith((".part-", ".shard-"))]


def start_ray(address: str | None) -> bool:
    """Connect to a cluster, or start one of this machine; whether that was done here.

    Raises:
        MissingExtraError: Ray is not installed.
        EncodingRunError: There is no cluster at this address.
    """
    # Nothing is sent to Ray's makers; what its own logs say of this machine's cluster is in files.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray = require("ray", "ray")
    if ray.is_initialized():
        return False
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        # Only descriptions of parts pass through it; documents and vectors are read and written by the workers.
        options |= {"include_dashboard": False, "object_store_memory": 400 * 2**20}
    try:
        ray.init(address=address or "local", **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise EncodingRunError(f"found no Ray cluster at {address!r} ({error}); start one with  ray start") from error
    return True
