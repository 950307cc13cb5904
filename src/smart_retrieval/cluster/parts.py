"""One part of a dataset, encoded and written as a whole or not at all."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..documents.read import ReadOptions
from ..embeddings import EmbeddingsWriter, SmartEmbeddings
from ..errors import EncodingRunError, MediaError, MissingExtraError, SmartError
from ..extras import require
from ..files import SkipLog, Skipped
from ..index.encoder import load_model
from ..index.ingest.file_reader import FileReader
from ..index.ingest.new_documents import BATCH_WEIGHT, NewDocument, batches
from ..index.ingest.writer import DocumentWriter
from ..index.smart_index import SmartIndex
from ..index.store.store import Store
from ..model.options import IndexModelOptions
from ..types import counted_elsewhere
from .dataset import Dataset, Part, read_rows
from .rows import BadDocument, Columns, documents_of

if TYPE_CHECKING:
    from ..model.smart_model import SmartModel

ABOUT, BAD, DOCUMENTS, EMBEDDINGS, INDEX = "about.json", "bad.parquet", "documents.parquet", "embeddings", "index"
#: How the folders of workers' settings begin, in that of the parts.
SETTINGS = ".settings."
#: Why a document is not taken whose id an earlier one has.
TWICE = "id was used before"
# Times that a part may end the process that encodes it, before it is given up.
_ATTEMPTS = 3


@dataclass(frozen=True)
class Job:
    """What a worker needs to know; the same for all of them.

    Args:
        dataset: The dataset, whose parts are handed out one by one.
        parts: Folder of what is written of them.
        model: Name of the model.
        run: This run's name, in those of unfinished parts.
        index: Whether parts are written as codes in indexes, or as embeddings.
        codec: Of an index: a name that needs no fitting, or the file of a fitted codec.
        token_pooling: Of an index, see :meth:`~smart_retrieval.SmartIndex.create`.
        files_as: ``"auto"``, ``"text"`` or ``"pages"``, of a folder of files.
        columns: Of rows.
        batch_size: Most inputs of one forward pass.
        options: What the model is loaded with.
        max_tokens: Most tokens of a passage, of files.
    """

    dataset: Dataset
    parts: Path
    model: str
    run: str
    index: bool = False
    codec: str = "float16"
    token_pooling: float = 1
    files_as: Any = "auto"
    columns: Columns = field(default_factory=Columns)
    batch_size: int | None = None
    options: IndexModelOptions = field(default_factory=IndexModelOptions)
    max_tokens: int | None = None


@dataclass(frozen=True)
class PartReport:
    """What became of a part's documents.

    Args:
        documents: Encoded.
        bad: Not encoded, with a reason.
        left_out: Left out on purpose.
        tokens: Token vectors.
        truncated: Tokens beyond the model's limit.
        pictures: Documents with a picture.
        seconds: Time it took.
        model: What the model is known by.
    """

    documents: int = 0
    bad: int = 0
    left_out: int = 0
    tokens: int = 0
    truncated: int = 0
    pictures: int = 0
    seconds: float = 0.0
    model: str = ""

    @classmethod
    def read(cls, folder: Path) -> PartReport:
        """Of a part that is written."""
        found = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        return cls(**{part.name: found[part.name] for part in fields(cls)})


class PartEncoder:
    """Encodes parts with one model, which is loaded once.

    Called with a part, it writes ``<parts>/part-0000000``: the embeddings and their documents (or an index of the
    codes), and the documents that could not be encoded. A part that is there is not encoded again.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.model: SmartModel = load_model(job.model, job.options)
        identity = json.dumps(self.model.identity(), sort_keys=True, default=str)
        self._identity = hashlib.sha256(identity.encode()).hexdigest()[:32]

    @cached_property
    def _settings(self) -> SmartIndex:
        """An index without documents, which knows what an index of this model and these settings does."""
        job = self.job
        own: dict[str, Any] = (
            {"codec": job.codec, "token_pooling": job.token_pooling} if job.index else {"codec": "float16"}
        )
        # Among the parts, where the next run finds it if this process is killed.
        path = job.parts / f"{SETTINGS}{job.run}.{secrets.token_hex(4)}"
        index = SmartIndex.create(path, self.model, lexical=False, files_as=job.files_as, **own)
        weakref.finalize(self, _removed, index, path)
        return index

    def __call__(self, part: Part) -> PartReport:
        """Encode and write one part, unless that is done."""
        job = self.job
        target = job.parts / part.name
        if target.exists():
            return PartReport.read(target)
        attempts = sum(1 for _ in job.parts.glob(f".{part.name}.{job.run}.*"))
        if attempts >= _ATTEMPTS:
            raise EncodingRunError(
                f"{part.name} ({_described(part)}): it has ended the process that encodes it {attempts} times: take "
                "the document out that does so, or give workers more memory"
            )
        hidden = job.parts / f".{part.name}.{job.run}.{secrets.token_hex(4)}"
        hidden.mkdir()
        try:
            report = self._write(part, hidden)
            try:
                hidden.rename(target)
            except OSError:
                if not target.exists():  # or a worker of a run that was killed has been faster
                    raise
                shutil.rmtree(hidden, ignore_errors=True)
            return report
        except BaseException:
            shutil.rmtree(hidden, ignore_errors=True)
            raise

    def _write(self, part: Part, folder: Path) -> PartReport:
        started = time.perf_counter()
        counts: dict[str, int] = dict.fromkeys(("documents", "tokens", "truncated", "pictures"), 0)
        bad: list[BadDocument] = []
        sink = _IndexSink(folder, self._settings) if self.job.index else _EmbeddingsSink(folder)
        with sink:
            for batch in batches(self._good(part, bad), BATCH_WEIGHT):
                for documents, encoded in self._encoded(batch, part, bad):
                    sink.write(documents, encoded)
                    counts["documents"] += len(documents)
                    counts["tokens"] += int(encoded.offsets[-1])
                    counts["truncated"] += encoded.report.truncated_tokens
                    counts["pictures"] += sum(one.picture is not None for one in documents)
        write_table(folder / BAD, [asdict(one) for one in bad], BAD_COLUMNS)
        failed = sum(one.failed for one in bad)
        report = PartReport(
            **counts, bad=failed, left_out=len(bad) - failed, seconds=round(time.perf_counter() - started, 3),
            model=self._identity,
        )  # fmt: skip
        (folder / ABOUT).write_text(json.dumps(asdict(report)) + "\n", encoding="utf-8")
        return report

    # -- documents ---------------------------------------------------------------------------------------------

    def _good(self, part: Part, bad: list[BadDocument]) -> Iterator[NewDocument]:
        """The part's documents; ``bad`` receives those that are none."""
        job = self.job
        found = (
            self._of_files(part)
            if job.dataset.kind == "files"
            else documents_of(read_rows(job.dataset, part), job.columns.of(self.model.modalities), job.dataset.folder)
        )
        seen: set[str] = set()
        for one in found:
            if isinstance(one, NewDocument) and one.id not in seen:
                seen.add(one.id)
                yield one
            elif isinstance(one, NewDocument):
                bad.append(BadDocument(part.file, one.id, TWICE))
            else:
                bad.append(one)

    def _of_files(self, part: Part) -> Iterator[NewDocument | BadDocument]:
        settings = self._settings
        reader = FileReader(
            settings.store.manifest, settings.encoder, ReadOptions(), self.job.max_tokens, overlap=0, min_tokens=None
        )
        for file in part.files:
            reason, detail = reader.why_not(file)
            if reason:
                yield BadDocument(file.relative, "", reason, detail, failed=False)
                continue
            notes, skipped = list[str](), SkipLog()
            try:
                reader.check_size(file)
                yield from reader.documents(file, notes, skipped)
            except Exception as error:  # a fault in one file's parser must not cost the others
                skipped.add(Skipped.from_error(file.relative, error))
            for record in skipped:
                yield BadDocument(record.path, "", record.reason, record.detail, failed=record.failed)

    def _encoded(
        self, batch: Sequence[NewDocument], part: Part, bad: list[BadDocument]
    ) -> Iterator[tuple[list[NewDocument], SmartEmbeddings]]:
        """A batch and its encodings, halved where it fails, until the documents that it fails for are found."""
        try:
            items = [self._settings.encoder.folded(one.item) for one in batch]
            with counted_elsewhere():
                encoded = self.model.encode_document(
                    items, show_progress=False, on_error="skip", batch_size=self.job.batch_size
                )
        except MissingExtraError:
            raise
        except Exception as error:
            if len(batch) == 1:
                if not isinstance(error, SmartError | ValueError):
                    raise  # of the machine, rather than of the document
                bad.append(BadDocument(part.file, batch[0].id, "cannot be encoded", f"{type(error).__name__}: {error}"))
                return
            middle = len(batch) // 2
            yield from chain(self._encoded(batch[:middle], part, bad), self._encoded(batch[middle:], part, bad))
            return
        reasons = dict(encoded.report.failures)
        good = []
        for position, one in enumerate(batch):
            if position in reasons:
                bad.append(_bad_picture(one, reasons[position], part))
            else:
                good.append(one)
        if good:
            yield good, encoded


def _removed(index: SmartIndex, path: Path) -> None:
    index.close()
    shutil.rmtree(path, ignore_errors=True)


def _bad_picture(document: NewDocument, reason: str, part: Part) -> BadDocument:
    error: MediaError | None = document.picture.error if document.picture is not None else None
    record = Skipped("", "cannot be read", reason) if error is None else Skipped.from_error("", error)
    return BadDocument(document.source or part.file, document.id, record.reason, record.detail)


def _described(part: Part) -> str:
    if part.files:
        return f"files {part.files[0].relative} to {part.files[-1].relative}"
    return f"{part.file}, rows {part.start} to {part.start + part.count - 1}"


# -- what is written -------------------------------------------------------------------------------------------

BAD_COLUMNS = {"place": "string", "id": "string", "reason": "string", "detail": "string", "failed": "bool"}
_DOCUMENT_COLUMNS = {
    "id": "string", "text": "string", "metadata": "string", "source": "string", "page": "int64", "heading": "string",
    "kind": "string",
}  # fmt: skip


class _IndexSink:
    """Codes, anchors and documents in an index of the part."""

    def __init__(self, folder: Path, settings: SmartIndex) -> None:
        self._store = Store.create(folder / INDEX, settings.store.manifest, settings.store.codec())
        self._writer = DocumentWriter(self._store, settings.encoder)

    def write(self, documents: Sequence[NewDocument], encoded: SmartEmbeddings) -> None:
        self._writer.add_encoded(documents, encoded, "error", fit=False)

    def __enter__(self) -> _IndexSink:
        return self

    def __exit__(self, *exception: object) -> None:
        self._store.close()


class _EmbeddingsSink:
    """Embeddings that can be memory-mapped, and a table of their documents."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer = EmbeddingsWriter(folder / EMBEDDINGS)
        self._rows: list[dict[str, Any]] = []

    def write(self, documents: Sequence[NewDocument], encoded: SmartEmbeddings) -> None:
        self._writer.append(encoded.astype("float16"))
        for one in documents:
            metadata = json.dumps(one.metadata, ensure_ascii=False)
            kind = "text" if one.picture is None else one.picture.kind
            values = (one.id, one.item.text, metadata, one.source, one.page, one.heading, kind)
            self._rows.append(dict(zip(_DOCUMENT_COLUMNS, values, strict=True)))

    def __enter__(self) -> _EmbeddingsSink:
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        if kind is not None or not self._rows:
            self._writer.abort()
        else:
            self._writer.close()
        if kind is None:
            write_table(self._folder / DOCUMENTS, self._rows, _DOCUMENT_COLUMNS)


def write_table(path: Path, rows: Sequence[dict[str, Any]], columns: dict[str, str]) -> None:
    """Rows as a Parquet file."""
    arrow, parquet = require("pyarrow", "ray"), require("pyarrow.parquet", "ray")
    schema = arrow.schema([(name, arrow.type_for_alias(kind)) for name, kind in columns.items()])
    parquet.write_table(arrow.Table.from_pylist(list(rows), schema=schema), path)
