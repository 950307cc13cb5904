"""Index shards out of parts: every document in the shard that its id chooses, once."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from ..files import atomic_file
from ..index.shards.calibration import calibrate_shards
from ..index.shards.split import shard_of, stored_records
from ..index.smart_index import SmartIndex
from ..index.store.manifest import Manifest
from ..index.store.store import Store
from ..index.text.language import ENOUGH_TEXTS, Language, language_of
from .parts import BAD_COLUMNS, INDEX, TWICE, write_table
from .rows import BadDocument


@dataclass(frozen=True)
class ShardJob:
    """What a worker that composes shards needs to know.

    Args:
        parts: The parts, in order.
        folder: Where shards are written until all are there.
        shards: How many.
        whole: What they are shards of.
        root: The folder that the documents' sources are relative to, of files.
        language: Of the passages.
    """

    parts: tuple[Path, ...]
    folder: Path
    shards: int
    whole: str
    root: str
    language: Language


class ShardComposer:
    """Composes shards. Called with a number, it writes ``shard-00000``, unless that is done, and tells its documents.

    Codes are copied as they are. Of documents with one id, the first counts; the others are listed beside the shard.
    """

    def __init__(self, job: ShardJob) -> None:
        self.job = job

    def __call__(self, number: int) -> int:
        """Compose one shard."""
        job = self.job
        target = job.folder / shard_name(number)
        if not target.exists():
            partial = job.folder / f".{target.name}.{secrets.token_hex(4)}"
            try:
                self._write(number, partial)
                partial.rename(target)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
        with Store.open(target) as store:
            return store.count()

    def _write(self, number: int, partial: Path) -> None:
        job, seen = self.job, set[str]()
        again: list[BadDocument] = []
        with Store.open(job.parts[0] / INDEX) as first:
            manifest, codec = _manifest(first.manifest, job, number), first.codec()
        with Store.create(partial, manifest, codec) as store:
            for part in job.parts:
                with Store.open(part / INDEX) as given, given.reading():
                    rowids = given.select(None)
                    own = [str(id) for id in given.ids_of(rowids)]
                    chosen = np.array([shard_of(id, job.shards) == number for id in own], bool)
                    for records in stored_records(given, rowids[chosen]) if chosen.any() else ():
                        again += [BadDocument(part.name, one.id, TWICE) for one in records if one.id in seen]
                        store.add([one for one in records if one.id not in seen])
                        seen.update(one.id for one in records)
        with atomic_file(twice_file(job.folder, number)) as file:
            write_table(file, [asdict(one) for one in again], BAD_COLUMNS)


def shard_name(number: int) -> str:
    """Name of a shard's folder."""
    return f"shard-{number:05d}"


def twice_file(folder: Path, number: int) -> Path:
    """Table of the documents of a shard whose id another one has."""
    return folder / f"{shard_name(number)}.twice.parquet"


def settled_language(parts: Sequence[Path]) -> Language:
    """The language of the first passages, so that it is the same in every shard."""

    def texts() -> Any:
        for part in parts:
            with Store.open(part / INDEX) as store:
                rowids = store.select(None)
                yield [one.text for one in store.get(rowids=rowids[:ENOUGH_TEXTS])]

    return language_of(islice(chain.from_iterable(texts()), ENOUGH_TEXTS))


def calibrate(folder: Path, shards: int, model: str) -> None:
    """Give all shards in a folder one calibration."""
    with ExitStack() as stack:
        opened: list[SmartIndex] = []
        for number in range(shards):
            given = opened[0].encoder.given if opened else model
            opened.append(stack.enter_context(SmartIndex.open(folder / shard_name(number), given)))
        if any(map(len, opened)):
            calibrate_shards(opened)


def _manifest(own: Manifest, job: ShardJob, number: int) -> Manifest:
    limits = {**own.limits, "codec": own.codec, "shard": [number, job.shards], "whole": job.whole}
    return replace(
        own, limits=limits, lexical=True, language=job.language, root=job.root, calibration={}, uuid=uuid4().hex
    )
