"""A dataset encoded into embeddings or index shards: every document once, whenever and however often it is stopped."""

from __future__ import annotations

import json
import secrets
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, Unpack

import numpy as np

from ..backbones.checkpoints import settled_name
from ..embeddings import SmartEmbeddings
from ..errors import EncodingRunError
from ..extras import check, require
from ..files import atomic_file, settled
from ..index.codec.base import Codec
from ..index.codec.factory import fit_codec
from ..index.codec.names import parse_codec
from ..index.codec_fitting import FIT_TOKENS, vocabulary_of
from ..index.creation import codec_of
from ..index.encoder import decode_vectors
from ..index.smart_index import DEFAULT_CODEC, DEFAULT_MODEL
from ..index.store.store import Store
from ..index.text.language import Language
from ..model.options import IndexModelOptions
from ..progress import progress
from .dataset import Part, open_dataset
from .parts import BAD, DOCUMENTS, EMBEDDINGS, INDEX, SETTINGS, TWICE, Job, PartEncoder, PartReport
from .rows import Columns
from .shards import ShardComposer, ShardJob, calibrate, settled_language, shard_name, twice_file

JobT = TypeVar("JobT")
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

FORMAT = "smart-encode/1"
_ABOUT, _LOCK, _CODEC = "encode.json", ".lock", "codec.safetensors"
_PARTS, _SHARDS, _SAMPLE, _CALIBRATED = ".parts", ".shards", ".sample", ".calibrated"


class Runner(Protocol):
    """What runs a stage: workers that are made of a job and called with items."""

    def run(
        self,
        stage: str,
        worker: Callable[[JobT], Callable[[ItemT], ResultT]],
        job: JobT,
        items: Sequence[ItemT],
        folder: Path,
    ) -> Iterator[ResultT]:
        """The result of each item, as they come; ``folder`` is where each item's is written."""
        ...


class InProcess:
    """Runs a stage here, one item after another."""

    def run(
        self,
        stage: str,
        worker: Callable[[JobT], Callable[[ItemT], ResultT]],
        job: JobT,
        items: Sequence[ItemT],
        folder: Path,
    ) -> Iterator[ResultT]:
        """See :class:`Runner`."""
        made = worker(job)
        for item in items:
            yield made(item)


@dataclass
class EncodeReport:
    """What a run did, and what the runs before it had done.

    Attributes:
        out: Where it is.
        documents: Encoded, in all.
        bad: Not encoded; each is a row of ``bad.parquet``.
        left_out: Left out on purpose, such as files of types that are not read; rows there, too.
        repeated: Of ``bad``, those whose id another document has; of embeddings, documents that are there all the same.
        reasons: How many for each reason.
        tokens: Token vectors.
        truncated: Tokens beyond the model's limit.
        pictures: Documents with a picture.
        parts: Parts of the dataset.
        parts_before: Parts that were there already.
        shards: Shards of the index; 0 for embeddings.
        seconds: Time that this run took.
    """

    out: str
    documents: int = 0
    bad: int = 0
    left_out: int = 0
    repeated: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    truncated: int = 0
    pictures: int = 0
    parts: int = 0
    parts_before: int = 0
    shards: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def encode_dataset(
    dataset: str | Path,
    out: str | Path,
    model: str = DEFAULT_MODEL,
    *,
    index: bool = False,
    shards: int = 1,
    codec: str | Path = DEFAULT_CODEC,
    token_pooling: float = 1,
    language: Language = "auto",
    files_as: Literal["auto", "text", "pages"] = "auto",
    max_tokens: int | None = None,
    columns: Columns | None = None,
    part_size: int = 1000,
    batch_size: int | None = None,
    runner: Runner | None = None,
    show_progress: bool | None = None,
    **options: Unpack[IndexModelOptions],
) -> EncodeReport:
    """Encode a dataset into a folder: embeddings, or the shards of an index.

    It is cut into parts, and what is written of a part appears as a whole. Called again with the same arguments after
    it was stopped, killed even, it goes on where it was; at the end every document is there once. Documents that cannot
    be encoded are rows of ``bad.parquet``, with a reason.

    Args:
        dataset: A Parquet file or a folder of some; JSON Lines; or a folder of files, which are read and cut into
            passages, or taken as pages, as an index does. It must not change between the runs.
        out: A new folder, or one of a run that was stopped. Every worker must see both under these names.
        model: The model's name or folder.
        index: Write ``shard-00000``, ... for :class:`~smart_retrieval.ShardedIndex`, with one codec and calibration;
            else ``part-0000000``, ..., which :func:`encoded_parts` reads.
        shards: How many.
        codec: Of the index: the file of a fitted codec, or a name; then it is fitted to a sample first.
        token_pooling: Of the index, see :meth:`~smart_retrieval.SmartIndex.create`.
        language: Of the index's full text, see :meth:`~smart_retrieval.SmartIndex.create`.
        files_as: What is made of files, likewise.
        max_tokens: Most tokens of a file's passage; the model's limit when None.
        columns: Which columns of rows mean what.
        part_size: Rows of a part; of files a tenth as many.
        batch_size: Most inputs of one forward pass.
        runner: What runs the stages; this process when None.
        show_progress: Draw a bar on stderr; None draws it on a terminal.
        **options: What the model is loaded with: ``device``, ``max_length``, ..., as :class:`SmartModel` takes them.

    Returns:
        Counts.

    Raises:
        DatasetError: There is nothing to encode.
        EncodingRunError: The folder holds something else, or another run is writing to it; a stage has stalled or
            ended; or no document could be encoded.

    Example:
        >>> encode_dataset("corpus.parquet", "corpus.shards", index=True, shards=4).documents  # doctest: +SKIP
        1000000
    """
    started = time.perf_counter()
    check("pyarrow", "ray")
    if shards < 1:
        raise EncodingRunError(f"shards: found {shards}, expected 1 or more")
    given, out, name = open_dataset(dataset, part_size), settled(out), settled_name(model)
    wanted = codec_of(codec) if index else "float16"
    settings = {
        "format": FORMAT, "dataset": given.fingerprint, "model": name, "index": index, "shards": shards if index else 0,
        "codec": f"{wanted.name} {wanted.hash}" if isinstance(wanted, Codec) else parse_codec(wanted).name,
        "options": {name: value for name, value in options.items() if value is not None and name != "device"},
        "pooling": token_pooling, "language": language, "files_as": files_as, "max_tokens": max_tokens,
        "columns": asdict(columns or Columns()),
    }  # fmt: skip
    with _alone(out):
        facts = _claimed(out, json.loads(json.dumps(settings)))
        if "report" not in facts:
            job = Job(
                replace(given, parts=()), out / _PARTS if index else out, name, secrets.token_hex(4), index, "float16",
                token_pooling, files_as, columns or Columns(), batch_size, options, max_tokens,
            )  # fmt: skip
            run = _Run(out, given.parts, job, shards if index else 0, runner or InProcess(), show_progress)
            report = run.run(wanted, facts["whole"], language)
            facts["report"] = report.to_dict()
            _write_json(out / _ABOUT, facts)
        else:
            report = EncodeReport(**{**facts["report"], "out": str(out), "parts_before": len(given.parts)})
        for folder in (_PARTS, _SHARDS, _SAMPLE):
            shutil.rmtree(out / folder, ignore_errors=True)
    report.seconds = round(time.perf_counter() - started, 3)
    return report


def encoded_parts(out: str | Path) -> Iterator[tuple[list[dict[str, Any]], SmartEmbeddings]]:
    """Read what :func:`encode_dataset` wrote as embeddings, part by part.

    Args:
        out: Its folder.

    Yields:
        The documents (id, text, metadata, source, page, heading, kind) and their embeddings, memory-mapped.

    Example:
        >>> for documents, embeddings in encoded_parts("corpus.vectors"):  # doctest: +SKIP
        ...     index.add([one["text"] for one in documents], ids=[one["id"] for one in documents],
        ...               embeddings=embeddings)
    """
    parquet = require("pyarrow.parquet", "ray")
    for part in sorted(settled(out).glob("part-*")):
        if (part / EMBEDDINGS).exists():
            rows = parquet.read_table(part / DOCUMENTS).to_pylist()
            documents = [{**row, "metadata": json.loads(row["metadata"])} for row in rows]
            yield documents, SmartEmbeddings.load(part / EMBEDDINGS, mmap=True)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """One run at a time writes to a folder; the lock of one that was killed is free."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise EncodingRunError(f"{str(out)!r}: found a file, expected a folder or nothing") from None
    connection = sqlite3.connect(out / _LOCK, timeout=0.5, isolation_level=None)
    try:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode == sqlite3.SQLITE_BUSY
            reason = "another run is writing to it" if busy else "it cannot be written to"
            raise EncodingRunError(f"{str(out)!r}: {reason} ({error})") from error
        yield
    finally:
        connection.close()


def _claimed(out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What is noted of the run that a folder belongs to, which must be one of these settings."""
    file = out / _ABOUT
    if not file.exists():
        if others := sorted(one.name for one in out.iterdir() if not one.name.startswith(".")):
            raise EncodingRunError(f"{str(out)!r}: found {', '.join(others[:3])} in it, expected a new folder")
        _write_json(file, {**settings, "whole": secrets.token_hex(16)})
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    different = [
        f"{name} {found.get(name)!r}, not {value!r}" for name, value in settings.items() if found.get(name) != value
    ]
    if different:
        raise EncodingRunError(
            f"{str(out)!r}: found a run of other settings or of another dataset (its {'; its '.join(different)}); go "
            "on with the same, or name a new folder"
        )
    return found


def _write_json(file: Path, facts: dict[str, Any]) -> None:
    with atomic_file(file, durable=True) as partial:
        partial.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


@dataclass
class _Run:
    out: Path
    parts: tuple[Part, ...]
    job: Job
    shards: int
    runner: Runner
    bar: bool | None

    def run(self, codec: Codec | str, whole: str, language: Language) -> EncodeReport:
        """All stages that are left."""
        parts = self.job.parts
        parts.mkdir(exist_ok=True)
        self._sweep()  # what runs left that were killed
        missing = [part for part in self.parts if not (parts / part.name).exists()]
        if self.shards and missing:
            self.job = replace(self.job, codec=self._codec(codec))
        self._stage("encode", PartEncoder, self.job, missing, parts)
        self._sweep()
        folders = [parts / part.name for part in self.parts]
        report = self._counted(folders)
        report.parts, report.parts_before, report.shards = len(folders), len(folders) - len(missing), self.shards
        tables = [folder / BAD for folder in folders]
        if self.shards:
            report.documents = self._compose(folders, whole, language)
            tables += [twice_file(self.out / _SHARDS, number) for number in range(self.shards)]
        else:
            report.repeated = _repeated(folders)
        self._list_bad(report, tables)
        for number in range(self.shards):
            if (composed := self.out / _SHARDS / shard_name(number)).exists():
                composed.rename(self.out / composed.name)
        return report

    def _sweep(self) -> None:
        for left in chain(self.job.parts.glob(".part-*"), self.job.parts.glob(f"{SETTINGS}*")):
            shutil.rmtree(left, ignore_errors=True)

    def _stage(
        self,
        name: str,
        worker: Callable[[JobT], Callable[[ItemT], ResultT]],
        job: JobT,
        items: Sequence[ItemT],
        folder: Path,
    ) -> list[ResultT]:
        found = []
        with progress(f"{name}: {len(items):,}", len(items), self.bar) as advance:
            for result in self.runner.run(name, worker, job, items, folder) if items else ():
                found.append(result)
                advance(1)
        return found

    def _codec(self, codec: Codec | str) -> str:
        """Where the codec of all shards is; one that is only named is fitted to a sample of the parts."""
        file = self.out / _CODEC
        if isinstance(codec, Codec) and not file.exists():
            with atomic_file(file, durable=True) as partial:
                partial.write_bytes(codec.to_bytes())
        if file.exists() or isinstance(codec, Codec):
            return str(file)
        if parse_codec(codec).family in ("float32", "float16"):
            return codec
        (self.out / _SAMPLE).mkdir(exist_ok=True)
        encoder = PartEncoder(replace(self.job, parts=self.out / _SAMPLE))
        order = np.random.default_rng(0).permutation(len(self.parts))
        chosen, tokens = list[Path](), 0
        for number in order:
            part = self.parts[number]
            tokens += encoder(part).tokens
            chosen.append(self.out / _SAMPLE / part.name / INDEX)
            if tokens >= FIT_TOKENS:
                break
        if not tokens:
            raise EncodingRunError(f"{self.job.dataset.root}: no document in it could be encoded; try smart inspect")

        def documents() -> Iterator[SmartEmbeddings]:
            for path in chosen:
                with Store.open(path) as store, store.reading():
                    plain = Codec.from_bytes(store.codec())
                    for vectors in store.iterate():
                        yield decode_vectors(plain, vectors)

        fitted = fit_codec(codec, documents(), vocabulary=vocabulary_of(encoder.model))
        with atomic_file(file, durable=True) as partial:
            partial.write_bytes(fitted.to_bytes())
        shutil.rmtree(self.out / _SAMPLE)
        return str(file)

    def _counted(self, folders: Sequence[Path]) -> EncodeReport:
        """The sums of all parts, which must be of one model."""
        report, models = EncodeReport(str(self.out)), Counter[str]()
        for folder in folders:
            found = PartReport.read(folder)
            models[found.model] += 1
            for name in ("documents", "bad", "left_out", "tokens", "truncated", "pictures"):
                setattr(report, name, getattr(report, name) + getattr(found, name))
        if len(models) > 1:
            raise EncodingRunError(
                f"{str(self.out)!r}: found parts of {len(models)} different models under the name {self.job.model!r}, "
                f"{', '.join(map(str, models.values()))} of each: it changed between the runs; encode into a new folder"
            )
        return report

    def _compose(self, folders: Sequence[Path], whole: str, language: Language) -> int:
        """Shards of the parts, and their one calibration; how many documents they hold."""
        shards = self.out / _SHARDS
        shards.mkdir(exist_ok=True)
        if not (shards / _CALIBRATED).exists():
            for left in shards.glob(".shard-*"):
                shutil.rmtree(left, ignore_errors=True)
            dataset = self.job.dataset
            root = str(dataset.folder.resolve()) if dataset.kind == "files" else ""
            settled_as = settled_language(folders) if language == "auto" else language
            job = ShardJob(tuple(folders), shards, self.shards, whole, root, settled_as)
            counts = self._stage("shards", ShardComposer, job, range(self.shards), shards)
            calibrate(shards, self.shards, self.job.model)
            with atomic_file(shards / _CALIBRATED, durable=True) as partial:
                partial.write_text(str(sum(counts)))
        return int((shards / _CALIBRATED).read_text())

    def _list_bad(self, report: EncodeReport, tables: Sequence[Path]) -> None:
        """One table of all documents that were not encoded, and how many for each reason."""
        arrow, parquet = require("pyarrow", "ray"), require("pyarrow.parquet", "ray")
        table = arrow.concat_tables([parquet.read_table(one) for one in tables])
        with atomic_file(self.out / BAD) as partial:
            parquet.write_table(table, partial)
        rows = table.select(["reason", "failed"]).to_pydict()
        report.bad = sum(rows["failed"])
        report.reasons = dict(Counter(rows["reason"]).most_common())
        if self.shards:
            report.repeated = report.reasons.get(TWICE, 0)
        if not report.documents:
            reasons = ", ".join(f"{count:,} × {reason}" for reason, count in report.reasons.items())
            raise EncodingRunError(f"{self.job.dataset.root}: no document in it could be encoded ({reasons})")


def _repeated(folders: Sequence[Path]) -> int:
    """How many documents have the id of one before."""
    parquet = require("pyarrow.parquet", "ray")
    seen, count = set[int](), 0
    for folder in folders:
        ids = parquet.read_table(folder / DOCUMENTS, columns=["id"])["id"].to_pylist()
        count += len(ids)
        seen.update(map(hash, ids))  # numbers, which take less memory than a billion names
    return count - len(seen)
