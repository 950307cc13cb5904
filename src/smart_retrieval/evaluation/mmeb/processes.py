"""Several processes that share the encoding: each takes its share of the shards, and all wait for each other."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from ...errors import SmartError


@dataclass(frozen=True)
class Processes:
    """This process (``rank``) among those of a run (``world``); ``wait`` returns when all have called it."""

    rank: int = 0
    world: int = 1
    wait: Callable[[], None] = lambda: None

    @property
    def first(self) -> bool:
        """Whether this is the one that ranks and writes."""
        return self.rank == 0


def find_processes() -> Processes:
    """The processes that ``accelerate launch`` or ``torchrun`` started; one otherwise.

    They meet through files and a CPU barrier, so the number of GPUs changes the speed and nothing else.
    """
    try:
        rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    except ValueError as error:
        raise SmartError(
            f"found RANK or WORLD_SIZE that is no number ({error}), expected those of a launcher"
        ) from error
    if world <= 1:
        return Processes()
    import atexit
    from datetime import timedelta

    from torch import distributed

    if not distributed.is_initialized():
        try:
            # A shard of long videos takes hours on a slow card: no process must give up on the others before that.
            distributed.init_process_group("gloo", timeout=timedelta(hours=24))
        except (ValueError, RuntimeError) as error:
            raise SmartError(f"found {world} processes that cannot reach each other ({error})") from error
        atexit.register(distributed.destroy_process_group)
    return Processes(rank, world, lambda: distributed.barrier())


def own_device() -> str | None:
    """The GPU of this process, by ``LOCAL_RANK``; None leaves the choice to the model."""
    import torch

    local = os.environ.get("LOCAL_RANK")
    if local is None or not local.isdigit() or torch.cuda.device_count() < 2:
        return None
    return f"cuda:{int(local) % torch.cuda.device_count()}"
