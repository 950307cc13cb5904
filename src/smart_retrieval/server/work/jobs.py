"""Large additions that go on after their request was answered; all workers of a server see their states."""

from __future__ import annotations

import json
import re
import secrets
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ...errors import UnknownIndexError
from ...files import atomic_file

_NAME = re.compile(r"[0-9a-f]{32}")
_KEPT = 1000
_DAY = 86_400.0


@dataclass(frozen=True)
class Job:
    """A large addition.

    Args:
        id: Its number, which nobody guesses.
        index: Where documents are added.
        owner: Whose it is; no part of what is shown.
        state: ``"queued"``, ``"running"``, ``"done"`` or ``"failed"``.
        total: Documents to add.
        added: Documents that are stored.
        error: Why it failed.
        created: Seconds since 1970.
        updated: Likewise.
    """

    id: str
    index: str
    owner: str
    state: Literal["queued", "running", "done", "failed"] = "queued"
    total: int = 0
    added: int = 0
    error: str | None = None
    created: float = field(default_factory=time.time)
    updated: float = field(default_factory=time.time)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, without its owner."""
        return {name: value for name, value in asdict(self).items() if name != "owner"}


class Jobs:
    """The states of jobs, one small file each.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def create(self, index: str, owner: str, total: int) -> Job:
        """A new one; the oldest of a thousand, or of a day, are forgotten."""
        files = sorted(self._folder.glob("*.json"), key=lambda file: file.stat().st_mtime)
        for number, file in enumerate(files):
            if number < len(files) - _KEPT or file.stat().st_mtime < time.time() - _DAY:
                file.unlink(missing_ok=True)
        job = Job(secrets.token_hex(16), index, owner, total=total)
        self._write(job)
        return job

    def change(self, job: Job, **values: Any) -> Job:
        """The job in a new state."""
        job = replace(job, updated=time.time(), **values)
        self._write(job)
        return job

    def find(self, id: str, owner: str) -> Job:
        """A job of its owner.

        Raises:
            UnknownIndexError: There is none.
        """
        if _NAME.fullmatch(id):
            try:
                job = Job(**json.loads((self._folder / f"{id}.json").read_text(encoding="utf-8")))
            except (OSError, ValueError):
                job = None
            if job is not None and job.owner == owner:
                return job
        raise UnknownIndexError("job: found none of this number; jobs are forgotten after a day and at a restart")

    def _write(self, job: Job) -> None:
        with atomic_file(self._folder / f"{job.id}.json") as partial:
            partial.write_text(json.dumps(asdict(job)), encoding="utf-8")
