"""A codec fitted once, for every shard and store that is to share it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Unpack

from ..embeddings import SmartEmbeddings
from ..errors import CodecError
from .codec.base import Codec
from .codec.factory import fit_codec
from .codec.names import parse_codec
from .codec_fitting import vocabulary_of
from .creation import model_within
from .encoder import decode_vectors
from .smart_index import DEFAULT_CODEC, DEFAULT_MODEL, SmartIndex
from .store.folder import FILE

if TYPE_CHECKING:
    from ..model.options import IndexModelOptions
    from ..model.smart_model import SmartModel


def fit_shared_codec(
    source: str | Path,
    name: str = DEFAULT_CODEC,
    model: SmartModel | str | None = None,
    *,
    token_pooling: float = 1,
    **options: Unpack[IndexModelOptions],
) -> Codec:
    """Fit a codec to the documents of a folder, or take an index's.

    Args:
        source: A folder of files, or an index.
        name: The codec's name.
        model: The model: of a folder ``minilm`` when None, of an index its own.
        token_pooling: Of a folder's documents, as the indexes that share the codec are to pool their tokens.
        **options: Of a model given by name, as those indexes are to be made with it: ``max_length``, ``device``, ...

    Returns:
        The codec: an index's own if it has one of this name, else one fitted to its documents, or to the folder's.

    Raises:
        CodecError: The index keeps its tokens in another codec, too coarse to fit to; or there is nothing to fit to.
        IndexMismatchError: The model is not the index's.

    Example:
        >>> codec = fit_shared_codec("docs")  # doctest: +SKIP
        >>> shards = [SmartIndex.create(f"{n}.smart", codec=codec) for n in range(4)]  # doctest: +SKIP
    """
    wanted = parse_codec(name)
    if (Path(source) / FILE).exists():
        given = {name: value for name, value in options.items() if value is not None and name != "device"}
        if given:
            raise CodecError(
                f"index {str(source)!r}: found {', '.join(given)}, expected none: an index keeps to its own"
            )
        with SmartIndex.open(source, model, mode="r", device=options.get("device")) as index:
            return _of_index(index, wanted.name)
    with TemporaryDirectory(prefix="smart-codec-") as folder:
        path = Path(folder) / "sample.smart"
        smart = model_within(model or DEFAULT_MODEL, {**options})
        with SmartIndex.create(path, smart, codec="float16", token_pooling=token_pooling, lexical=False) as index:
            index.index_folder(source)
            return _of_index(index, wanted.name)


def _of_index(index: SmartIndex, name: str) -> Codec:
    own = index.codec()
    if own.name == name:
        return own
    if own.spec.family not in ("float32", "float16"):
        raise CodecError(
            f"index {str(index.path)!r}: found tokens kept in {own.name!r}, too coarse to fit {name!r} to; fit to the "
            "folder of its files, or take its own codec"
        )
    if not len(index):
        raise CodecError(f"index {str(index.path)!r}: found no documents to fit {name!r} to")

    def documents() -> Iterator[SmartEmbeddings]:
        for vectors in index.store.iterate():
            yield decode_vectors(own, vectors)

    with index.store.reading():
        return fit_codec(name, documents(), vocabulary=vocabulary_of(index.model))
