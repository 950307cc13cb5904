"""An open index: its folder, its store, the model and the codec it was made with."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from ..embeddings import SmartEmbeddings
from ..errors import IndexMismatchError
from ..readout.config import Readout
from ..scoring import IdfWeights, Preset
from .binding import check_model, load_model, new_manifest
from .codec import Codec
from .fitting import FitPolicy
from .searcher import Searcher
from .store import Store

if TYPE_CHECKING:
    from ..model import SmartModel

# 6 bytes a token; of the 6-byte codecs the one that keeps most (benchmarks/results/codec_quality.json).
DEFAULT_CODEC = "anchored+3vq+norm"


class OpenedIndex:
    """What an index is made of; :class:`~smart_retrieval.index.smart_index.SmartIndex` is what one does with it.

    Args:
        store: The store, which is closed with the index.
        model: The model, if it is loaded.
    """

    def __init__(self, store: Store, model: SmartModel | None = None) -> None:
        self._store = store
        self._model = model
        self._searcher = Searcher(store)
        self._idf: tuple[int, IdfWeights] | None = None
        self._fit = FitPolicy(store)

    # -- opening and closing -----------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | Path,
        model: SmartModel | str = "minilm",
        *,
        codec: str = DEFAULT_CODEC,
        pooling: float = 1,
        lexical: bool = True,
        files_as: Literal["auto", "text", "pages"] = "auto",
        timeout: float = 30.0,
    ) -> Self:
        """Make a new index.

        Args:
            path: A folder that does not hold an index yet.
            model: The model, or its name.
            codec: How token vectors are kept, see :func:`~smart_retrieval.index.codec.parse_codec`. One that has to
                be fitted is fitted once enough tokens are there (:class:`~smart_retrieval.index.fitting.FitPolicy`);
                until then they are kept in float16.
            pooling: Merge similar token vectors of a document until 1 / ``pooling`` are left; 1 for none.
            lexical: Keep a full-text index of the passages, for ``lexical_weight``.
            files_as: What :func:`~smart_retrieval.index.ingest.index_folder` makes of files: ``"pages"`` takes PDFs as
                pictures of their pages, and pictures and videos too; ``"text"`` what can be read as text; ``"auto"``
                pages if the model takes pictures.
            timeout: Seconds that a write waits for other writers.

        Raises:
            IndexFormatError: There is an index already.
            CodecError: There is no such codec.
            SmartError: The model cannot be loaded.
            UnsupportedModelError: ``files_as="pages"`` and the model takes no pictures.
        """
        smart = load_model(model)
        manifest, start = new_manifest(smart, codec=codec, pooling=pooling, lexical=lexical, files_as=files_as)
        return cls(Store.create(path, manifest, start.to_bytes(), timeout=timeout), smart)

    @classmethod
    def open(
        cls,
        path: str | Path,
        model: SmartModel | str | None = None,
        *,
        mode: Literal["r", "w"] = "w",
        timeout: float = 30.0,
    ) -> Self:
        """Open an index.

        Args:
            path: Its folder.
            model: The model it was made with; loaded under its recorded name when it is first needed, if left out.
            mode: ``"r"`` also works in a folder that cannot be written to.
            timeout: Seconds that a write waits for other writers.

        Raises:
            IndexFormatError: There is no index, or one of another format.
            IndexMismatchError: The model differs from the one it was made with.
        """
        store = Store.open(path, mode, timeout=timeout)
        index = cls(store)
        try:
            if model is not None:
                index._model = index._checked(model)
        except BaseException:
            store.close()
            raise
        return index

    def close(self) -> None:
        """Close the index; what was acknowledged is on the disk already."""
        self._searcher.close()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self._store.count()

    def __contains__(self, id: str) -> bool:
        return len(self._store.rowids([id], missing="skip")) == 1

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, {len(self)} documents, {self._store.manifest.codec})"

    # -- what it is made of ------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The folder."""
        return self._store.path

    @property
    def store(self) -> Store:
        """The database beneath."""
        return self._store

    @property
    def readout(self) -> Readout:
        """The readout its token vectors come from."""
        return Readout.from_dict(self._store.manifest.readout)

    @property
    def model(self) -> SmartModel:
        """The model, loaded under its recorded name if need be.

        Raises:
            ModelNotFoundError: It cannot be found under that name any more; pass it to :meth:`open`.
            IndexMismatchError: What is found there is another model.
        """
        if self._model is None:
            self._model = self._checked(str(self._store.manifest.model["name"]))
        return self._model

    def _checked(self, model: SmartModel | str) -> SmartModel:
        """A model, read, scored and limited as the index was made, if it is the one it was made with."""
        manifest = self._store.manifest
        preset = str(manifest.limits.get("preset", "default"))
        return check_model(manifest, load_model(model, self.readout, preset, manifest.model))

    @property
    def preset(self) -> Preset:
        """The scoring settings in force where a search names no others."""
        return self.model.preset

    def codec(self) -> Codec:
        """The codec that reads the stored codes."""
        return self._searcher.codec()

    def idf(self) -> IdfWeights:
        """IDF weights over the documents now in the index."""
        with self._store.reading():
            commit = self._store.state().number
            if self._idf is None or self._idf[0] != commit:
                documents, ids, counts = self._store.idf()
                frequencies = np.zeros(int(ids.max(initial=-1)) + 1, np.int64)
                frequencies[ids] = counts
                self._idf = (commit, IdfWeights(documents, frequencies))
            return self._idf[1]

    def info(self) -> dict[str, Any]:
        """Counts, sizes and settings."""
        manifest = self._store.manifest
        found = self._store.info()
        return {
            **found,
            "files_as": manifest.limits.get("files_as", "text"),
            "codec_wanted": manifest.limits.get("codec", found["codec"]),
            "readout": dict(manifest.readout),
            "prompts": dict(manifest.prompts),
            "pooling": manifest.pooling,
            "limits": dict(manifest.limits),
        }

    def _check_width(self, encoded: SmartEmbeddings) -> None:
        expected = (self._store.manifest.anchor_dim, self.codec().token_dim)
        found = (encoded.anchor_dim, encoded.token_dim)
        if found != expected:
            raise IndexMismatchError(
                f"index {str(self.path)!r}: found embeddings of {found[0]} (anchor) and {found[1]} (token) dimensions, "
                f"expected {expected[0]} and {expected[1]}: encode with the index's model and readout"
            )
