"""Encode a dataset once: what was encoded before with the same model, readout and texts is read back."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from .._version import __version__
from ..core.roles import ROLES_FORMAT
from ..embeddings import FORMAT, SmartEmbeddings
from ..errors import EmbeddingsError, SmartError, SmartWarning
from ..files import settled, user_cache
from .beir import BeirDataset, content_fingerprint

if TYPE_CHECKING:
    from ..model.smart_model import SmartModel

T = TypeVar("T")

_CACHE_FORMAT = 1  # incremented when the layout of entries changes, so that older ones are not read as new ones

_ENTRY = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = ".unfinished-"


class EncodingCache:
    """A folder of finished encodings.

    Several processes may share it: each writes aside and renames, and the first to finish wins.

    Args:
        root: Folder that holds the cache in a subfolder ``encodings``. None takes ``$SMART_CACHE``, else
            ``$XDG_CACHE_HOME/smart-retrieval``, else ``~/.cache/smart-retrieval``.

    Attributes:
        folder: Where the entries lie; made when the first one is written.

    Example:
        >>> with tempfile.TemporaryDirectory() as root:
        ...     cache = EncodingCache(Path(root))
        ...     write = lambda folder: (folder / "n").write_text("42")
        ...     read = lambda folder: int((folder / "n").read_text())
        ...     cache.get_or_encode({"of": "life"}, write, read), cache.get_or_encode({"of": "life"}, write, read)
        ((42, False), (42, True))
    """

    def __init__(self, root: Path | None = None) -> None:
        self.folder = (user_cache() if root is None else settled(root)) / "encodings"

    def get_or_encode(
        self, key_parts: Mapping[str, Any], encode: Callable[[Path], object], load: Callable[[Path], T]
    ) -> tuple[T, bool]:
        """Load the entry of this key, encoding it first if it is not there.

        Args:
            key_parts: Everything that shapes the encodings (model identity, readout, prompts, maximum length, data
                fingerprint, versions), as values that JSON can hold. The key is the SHA-256 of their canonical JSON.
            encode: Writes the encodings into the empty folder it is given. If it raises, nothing is kept.
            load: Reads what `encode` wrote; any `SmartError` or `OSError` it raises means a damaged entry, which is
                removed with a warning and encoded again.

        Returns:
            What `load` returned, and whether it was there already.

        Raises:
            SmartError: The cache folder cannot be written to.
            TypeError: `key_parts` holds something that JSON cannot.
        """
        manifest = {"cache_format": _CACHE_FORMAT, **key_parts}
        canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        entry = self.folder / hashlib.sha256(canonical.encode()).hexdigest()
        if entry.is_dir():
            try:
                return load(entry / "data"), True
            except (SmartError, OSError) as error:
                warnings.warn(
                    f"found a damaged cache entry and encode it again: {entry} ({error})", SmartWarning, stacklevel=2
                )
                self._discard(entry)
        with self._aside() as unfinished:
            encode(unfinished / "data")
            # Indented: this copy is for people, the key was computed above.
            shown = json.dumps(manifest, sort_keys=True, indent=2, ensure_ascii=False)
            (unfinished / "key.json").write_text(f"{shown}\n", encoding="utf-8")
            _sync(unfinished)
            try:
                unfinished.rename(entry)
            except OSError:
                # Another process finished the same entry meanwhile: theirs is as good as ours.
                if not entry.is_dir():
                    raise
        return load(entry / "data"), False

    def size(self) -> int:
        """Return the bytes that entries take on disk, unfinished ones included."""
        total = 0
        for path in (path for entry in self._ours() for path in entry.rglob("*")):
            # Another process may rename or remove files while we count.
            with contextlib.suppress(OSError):
                total += path.stat().st_size if path.is_file() else 0
        return total

    def clear(self) -> int:
        """Remove every entry, unfinished ones included, but nothing else in the folder; returns how many there were."""
        entries = self._ours()
        for entry in entries:
            self._discard(entry)
        return len(entries)

    def _ours(self) -> list[Path]:
        """The entries alone: the folder may be one that the user chose."""
        if not self.folder.is_dir():
            return []
        return sorted(
            path
            for path in self.folder.iterdir()
            if path.is_dir() and (_ENTRY.fullmatch(path.name) or path.name.startswith(_UNFINISHED))
        )

    @contextlib.contextmanager
    def _aside(self) -> Iterator[Path]:
        """An empty folder beside the entries, so that a rename stays on one file system; removed afterwards."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self.folder))
            (unfinished / "data").mkdir()
        except OSError as error:
            raise SmartError(
                f"cannot write to the cache folder {self.folder} ({error.strerror or error}): name another one with "
                "--cache DIR or the variable SMART_CACHE, or do without by --no-cache"
            ) from error
        try:
            yield unfinished
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _discard(self, entry: Path) -> None:
        """Remove an entry, renaming it first so that nobody loads one that is incomplete."""
        discarded = self.folder / f"{_UNFINISHED}{entry.name[:16]}-{os.getpid()}"
        # Another process may have done so already.
        with contextlib.suppress(OSError):
            entry.rename(discarded)
        shutil.rmtree(discarded, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Flush every file to disk, so that no renamed entry can lack its data after a power failure."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())


@dataclass(frozen=True)
class Encoding:
    """Encoded texts and what they cost; `seconds` is None when they came out of the cache."""

    embeddings: SmartEmbeddings
    seconds: float | None


def encode_dataset(
    smart: SmartModel,
    data: BeirDataset,
    cache: EncodingCache | None,
    *,
    batch_size: int | None = None,
    progress: bool | None = False,
) -> tuple[Encoding, Encoding]:
    """Encode a dataset's documents and queries, or find both in the cache.

    The two have entries of their own, so that another split of the same corpus encodes its queries alone. Scoring
    settings are no part of the key: another lambda or weighting encodes nothing.

    Args:
        smart: The model.
        data: What to encode.
        cache: Where encodings are kept and looked for. With None everything is encoded, and held in memory.
        batch_size: Most texts in one forward pass; the model's default when None.
        progress: Draw bars on stderr; None draws them on a terminal only.

    Returns:
        Documents and queries.

    Raises:
        SmartError: The model cannot be run; the cache cannot be written.
    """
    options = {"batch_size": batch_size, "show_progress": progress}
    return (
        _encode(smart, "document", data, cache, options),
        _encode(smart, "query", data, cache, options),
    )


def _encode(
    smart: SmartModel,
    task: Literal["query", "document"],
    data: BeirDataset,
    cache: EncodingCache | None,
    options: Mapping[str, Any],
) -> Encoding:
    encoder = smart.encode_query if task == "query" else smart.encode_document
    items = data.items(task)
    seconds: list[float] = []

    def run(out: Path | None) -> SmartEmbeddings:
        start = time.perf_counter()
        with warnings.catch_warnings():
            # The counts behind these warnings are part of the result, where a cached encoding has them too.
            warnings.simplefilter("ignore", SmartWarning)
            embeddings = encoder(items, out=out, **options)
        seconds.append(time.perf_counter() - start)
        return embeddings

    def load(path: Path) -> SmartEmbeddings:
        embeddings = SmartEmbeddings.load(path, mmap=True)
        if len(embeddings) != len(items):
            raise EmbeddingsError(f"found {len(embeddings)} items in {path}, expected {len(items)}")
        embeddings.tokenizer = smart.tokenizer
        return embeddings

    if cache is None:
        return Encoding(run(None), seconds[0])
    key = {
        "model": smart.identity(),
        "task": task,
        # The one in use: which of the model's prompts that is also depends on its default.
        "prompt": smart.backbone.prompt_for(task, None, None),
        "dtype": smart.dtype,
        "data": content_fingerprint(data.document_ids if task == "document" else data.query_ids, data.contents(task)),
        "smart_retrieval": __version__,
        "format": FORMAT,
        "roles": ROLES_FORMAT,
    }
    embeddings, _ = cache.get_or_encode(key, run, load)
    return Encoding(embeddings, seconds[0] if seconds else None)
