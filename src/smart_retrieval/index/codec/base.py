"""What every codec does: token vectors to fixed-width rows of bytes, back, and scores straight from the bytes."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from ..._version import __version__
from ...checksums import arrays_checksum
from ...core.vectors import unit_rows
from ...embeddings import SmartEmbeddings
from ...errors import CodecError
from ...files import atomic_file
from ...types import Array
from . import packaged
from .names import CodecSpec, parse_codec
from .payload import CodedDocuments, pack_blob, unpack_blobs
from .sample import checked_vectors
from .tables import expanded

#: Query tokens scored in one go: look-up tables of 8 bytes a token then take 512 kB and stay in a core's cache.
QUERY_TILE = 64
# Query tokens scored together: of what is computed for all of them no more is kept at once.
_TOKENS_AT_ONCE = 4 * QUERY_TILE
#: 1: every table in floats. 2: also tables taken apart (:mod:`.tables`), and codecs that the package ships, by hash.
FORMAT, READ = "smart-codec/2", ("smart-codec/1", "smart-codec/2")


@dataclass(frozen=True)
class QueryTables:
    """What a codec computes once for the tokens of queries ``[Tq, D]`` float32.

    An entry for every :data:`QUERY_TILE` tokens of one query; ``cuts`` are these tokens.
    """

    queries: Array
    tiles: list[Any] = field(default_factory=list)
    cuts: list[slice] = field(default_factory=list)


def together(sizes: Sequence[int], most: int) -> Iterator[slice]:
    """Cut a sequence into parts whose sizes add up to no more than so much, or that are one item.

    Example:
        >>> [*together([3, 2, 9, 1], 5)]
        [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None)]
    """
    start, total = 0, 0
    for place, size in enumerate(sizes):
        if place > start and total + size > most:
            yield slice(start, place)
            start, total = place, 0
        total += size
    if sizes:
        yield slice(start, len(sizes))


class Codec(ABC):
    """A way to keep token vectors: ``[T, D]`` floats in, ``[T, bytes_per_token]`` uint8 out.

    A codec never changes once it is fitted, and a row's code depends on that row (and its document's anchor) alone, so
    documents added later change no code that is stored.

    Attributes:
        spec: The parsed name.
        token_dim: D, dimensions of a token vector.
        anchor_dim: Da, dimensions of the anchors that encode, decode and scoring need; None when they need none.
        packaged: Hash of the codec that the package ships and this one is; empty for one that was fitted.

    Example:
        >>> from smart_retrieval.index.codec.factory import fit_codec
        >>> documents = SmartEmbeddings(np.eye(2, 4), np.eye(3, 4), [0, 1, 3])
        >>> codec = fit_codec("float16", documents)
        >>> codes = codec.encode_documents(documents)
        >>> tables = codec.prepare(np.eye(1, 4, dtype=np.float32))
        >>> codes.shape, codec.best_similarities(tables, codes, documents.offsets).tolist()
        ((3, 8), [[1.0, 0.0]])
    """

    families: ClassVar[tuple[str, ...]] = ()
    #: The class of every family; filled by importing :mod:`~smart_retrieval.index.codec.factory`.
    classes: ClassVar[dict[str, type[Codec]]] = {}
    #: Codecs of the package that were read so far, by hash.
    shipped: ClassVar[dict[str, Codec]] = {}
    #: Whether documents scored in one call share products, whose last bits depend on the set of documents.
    shares_products: ClassVar[bool] = False

    def __init__(self, spec: CodecSpec, token_dim: int, anchor_dim: int | None = None) -> None:
        if token_dim < 1:
            raise CodecError(f"codec {spec.name!r}: found token vectors of {token_dim} dimensions, expected at least 1")
        self.spec, self.token_dim, self.anchor_dim = spec, int(token_dim), anchor_dim
        self._hash = ""
        self.packaged = ""
        #: The arrays as they are kept, where these are not :meth:`to_arrays` but parts of them.
        self.compact: dict[str, Array] = {}

    def __init_subclass__(cls) -> None:
        Codec.classes |= dict.fromkeys(cls.families, cls)

    @property
    def name(self) -> str:
        """The canonical name."""
        return self.spec.name

    @property
    def bytes_per_token(self) -> int:
        """B, bytes of one code."""
        return self.spec.bytes_per_token(self.token_dim)

    @property
    def hash(self) -> str:
        """Its name everywhere, 32 hexadecimal digits of a SHA-256 over name, width and everything fitted."""
        if not self._hash:
            digest = hashlib.sha256(f"{self.name} {self.token_dim}".encode())
            for name, array in sorted(self.to_arrays().items()):
                digest.update(f" {name} {array.dtype.str} {array.shape} ".encode())
                digest.update(np.ascontiguousarray(array).data)
            self._hash = digest.hexdigest()[:32]
        return self._hash

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.token_dim}d -> {self.bytes_per_token} bytes a token)"

    # -- codes -------------------------------------------------------------------------------------------------

    def encode(
        self, token_vectors: ArrayLike, token_ids: ArrayLike | None = None, anchors: ArrayLike | None = None
    ) -> Array:
        """Code token vectors.

        Args:
            token_vectors: ``[T, D]`` float, unit length.
            token_ids: ``[T]`` vocabulary ids, -1 where there is none; all -1 when left out.
            anchors: ``[Da]``, the anchor of the one document all tokens belong to, or ``[T, Da]``, one a token. Needed
                where ``anchor_dim`` is not None, else ignored. Any length: only the direction counts.

        Returns:
            ``[T, B]`` uint8.
        """
        vectors = checked_vectors(token_vectors, self.token_dim, "token vectors")
        ids = np.full(len(vectors), -1, np.int64) if token_ids is None else np.asarray(token_ids)
        if ids.shape != (len(vectors),) or not (np.issubdtype(ids.dtype, np.integer) or not ids.size):
            raise CodecError(f"found token ids of shape {ids.shape} {ids.dtype}, expected integers, ({len(vectors)},)")
        rows = self._token_anchors(anchors, len(vectors))
        codes = np.empty((len(vectors), self.bytes_per_token), np.uint8)
        for start in range(0, len(vectors), 16384):
            part = slice(start, start + 16384)
            codes[part] = self._encode(vectors[part], ids[part].astype(np.int64), None if rows is None else rows[part])
        return codes

    def encode_documents(self, documents: SmartEmbeddings) -> Array:
        """Code all token vectors of some documents with their ids and anchors: ``[sum T, B]`` uint8."""
        if self.anchor_dim is None:
            return self.encode(documents.token_vectors, documents.token_ids)
        parts = [
            self.encode(one.token_vectors, one.token_ids, np.repeat(np.asarray(one.anchors), one.lengths, axis=0))
            for one in (documents[start : start + 256] for start in range(0, len(documents), 256))
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.bytes_per_token), np.uint8)

    def encode_blobs(self, documents: SmartEmbeddings, *, token_ids: bool = True) -> list[bytes]:
        """Code some documents for a store of another kind: one blob each, of about 1 kB, that stands alone.

        A blob says which codec it is of, and has a checksum. Its format is versioned, see
        ``smart_retrieval/index/codec/payload.py``.

        Args:
            documents: N documents with their anchors, which are to be stored beside the blobs.
            token_ids: Keep the tokens' vocabulary ids, too: 2 bytes a token, for IDF tables and explanations.

        Returns:
            N blobs.

        Example:
            >>> from smart_retrieval.index.codec.factory import fit_codec
            >>> documents = SmartEmbeddings(np.eye(2, 4), np.eye(3, 4), [0, 1, 3], [5, 6, 7])
            >>> codec = fit_codec("float16", documents)
            >>> [len(blob) for blob in codec.encode_blobs(documents)]
            [37, 46]
        """
        codes, ids = self.encode_documents(documents), np.asarray(documents.token_ids)
        parts = [slice(*pair) for pair in zip(documents.offsets[:-1], documents.offsets[1:], strict=True)]
        return [pack_blob(self.hash, codes[part], ids[part] if token_ids else None) for part in parts]

    def read_blobs(self, blobs: Sequence[bytes]) -> CodedDocuments:
        """The codes and token ids that :meth:`encode_blobs` packed.

        Raises:
            CodecError: A blob is damaged, foreign, or of another codec or version.
        """
        return unpack_blobs(blobs, self.hash, self.bytes_per_token)

    def decode(self, codes: ArrayLike, anchors: ArrayLike | None = None) -> Array:
        """The vectors ``[T, D]`` float32 that codes stand for; their products with query tokens are the scores.

        They are as near as the code comes, in general not of unit length; of unit length (to 0.5 %) with ``+norm``.
        ``anchors`` are those of :meth:`encode`.
        """
        rows = self._checked_codes(np.asarray(codes))
        return self._decode(rows, self._token_anchors(anchors, len(rows)))

    # -- scores ------------------------------------------------------------------------------------------------

    def prepare(self, query_tokens: ArrayLike, offsets: Sequence[int] | Array | None = None) -> QueryTables:
        """Compute what scoring needs to know of one query ``[Tq, D]``; queries are never compressed.

        With ``offsets`` ``[n + 1]`` the tokens are those of n queries. Each has the similarities that it has alone, to
        the bit; what they need in common of the documents is computed once.
        """
        queries = checked_vectors(query_tokens, self.token_dim, "query tokens")
        own = [0, len(queries)] if offsets is None else [int(one) for one in offsets]
        starts = [(start, stop) for first, stop in pairwise(own) for start in range(first, stop, QUERY_TILE)]
        cuts = [slice(start, min(start + QUERY_TILE, stop)) for start, stop in starts]
        return QueryTables(queries, [self._prepare(queries[cut]) for cut in cuts], cuts)

    def best_similarities(
        self,
        tables: QueryTables,
        codes: Array,
        starts: ArrayLike,
        stops: ArrayLike | None = None,
        *,
        anchors: ArrayLike | None = None,
    ) -> Array:
        """For each query token and document the best product with a token of the document, straight from the codes.

        The full similarity matrix is never built. With Numba (extra ``fast``) a compiled kernel does the same sums in
        the same order as the NumPy reference.

        Args:
            tables: What :meth:`prepare` returned.
            codes: ``[R, B]`` uint8, may be memory-mapped; only the rows asked for are read.
            starts: ``[N]`` first row of each document; or, without ``stops``, offsets ``[N + 1]`` of consecutive ones.
            stops: ``[N]`` row behind the last of each document.
            anchors: ``[N, Da]`` the documents' anchors, where :attr:`anchor_dim` is not None.

        Returns:
            ``[Tq, N]`` float32; ``-inf`` for documents without rows.
        """
        rows = self._checked_codes(codes)
        first, last = _row_ranges(starts, stops, len(rows))
        around = None if self.anchor_dim is None else self._unit_anchors(anchors, len(first))
        best = np.empty((len(first), len(tables.queries)), np.float32)
        for part in together([cut.stop - cut.start for cut in tables.cuts], _TOKENS_AT_ONCE):
            found = self._best(tables.tiles[part], rows, first, last, around)
            for cut, own in zip(tables.cuts[part], found, strict=True):
                best[:, cut] = own[:, : cut.stop - cut.start]
        return best.T

    # -- bytes -------------------------------------------------------------------------------------------------

    def to_bytes(self, *, whole: bool = False) -> bytes:
        """The codec as safetensors with a format tag and a checksum; equal codecs give equal bytes.

        Args:
            whole: Write a codec that the package ships with all its tables; otherwise its hash stands for them, in
                some hundred bytes, and who reads it needs a package that ships it.
        """
        from safetensors.numpy import save

        about = {"format": FORMAT, "name": self.name, "token_dim": str(self.token_dim)}
        if self.packaged and not whole:
            about |= {"packaged": self.packaged, "package": __version__}
        kept = {} if "packaged" in about else self.compact or self.to_arrays()
        arrays = {name: np.ascontiguousarray(array) for name, array in sorted(kept.items())}
        # safetensors writes metadata in no fixed order; one entry is always in order.
        text = json.dumps({**about, "crc32": arrays_checksum(about, arrays)}, sort_keys=True)
        return save(arrays, {"codec": text})

    @classmethod
    def from_bytes(cls, data: bytes) -> Codec:
        """Read what :meth:`to_bytes` wrote.

        Raises:
            CodecError: The bytes are damaged, or of another version.
        """
        found = CodecBytes.read(data)
        if found.packaged:
            return cls.of_package(found.packaged, found.package)
        return cls.of_arrays(found.name, found.token_dim, found.arrays)

    @classmethod
    def of_package(cls, hash: str, package: str = "") -> Codec:
        """The codec that the package ships under a hash; all indexes of a process share one.

        Args:
            hash: Its :attr:`hash`.
            package: The version that named it.

        Raises:
            CodecMissingError: This version does not ship it.
        """
        if hash not in cls.shipped:
            found = CodecBytes.read(packaged.read(hash, package))
            codec = cls.of_arrays(found.name, found.token_dim, found.arrays)
            codec.packaged = codec._hash = hash
            cls.shipped[hash] = codec
        return cls.shipped[hash]

    @classmethod
    def of_arrays(cls, name: str, token_dim: int, arrays: dict[str, Array]) -> Codec:
        """A codec from its name, its width and the arrays of :meth:`to_arrays`, or these as they are kept."""
        spec = parse_codec(name)
        try:
            whole = expanded(arrays)
            codec = cls.classes[spec.family].from_arrays(spec, token_dim, whole)
        except CodecError:
            raise
        except (TypeError, ValueError, IndexError, AttributeError) as error:  # of types or shapes that no codec has
            raise CodecError(
                f"codec {name!r}: found arrays that do not fit this codec ({error}); fit it again"
            ) from error
        if whole.keys() != arrays.keys():
            codec.compact = arrays
        return codec

    def save(self, path: str | Path) -> Path:
        """Write the codec to a file, for every index and store that is to share it."""
        with atomic_file(path) as partial:
            Path(partial).write_bytes(self.to_bytes(whole=True))
        return Path(path)

    @staticmethod
    def load(path: str | Path) -> Codec:
        """Read what :meth:`save` wrote.

        Raises:
            CodecError: There is no such file, or it is damaged or something else.

        Example:
            >>> codec = Codec.load("codec.smart")  # doctest: +SKIP
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise CodecError(f"codec {str(path)!r}: cannot be read ({error.strerror})") from error
        try:
            return Codec.from_bytes(data)
        except CodecError as error:
            raise CodecError(f"codec file {str(path)!r}: {error}") from error

    # -- for subclasses ----------------------------------------------------------------------------------------

    @abstractmethod
    def _encode(self, vectors: Array, ids: Array, anchors: Array | None) -> Array: ...

    @abstractmethod
    def _decode(self, codes: Array, anchors: Array | None) -> Array: ...

    @abstractmethod
    def _prepare(self, queries: Array) -> Any: ...

    @abstractmethod
    def _best(
        self, tiles: Sequence[Any], codes: Array, starts: Array, stops: Array, anchors: Array | None
    ) -> Iterable[Array]:
        """``[N, at least the tile's query tokens]`` float32 of each tile."""

    @abstractmethod
    def to_arrays(self) -> dict[str, Array]:
        """Everything that was fitted, as arrays."""

    @classmethod
    @abstractmethod
    def from_arrays(cls, spec: CodecSpec, token_dim: int, arrays: dict[str, Array]) -> Self:
        """The inverse of :meth:`to_arrays`."""

    # -- checks ------------------------------------------------------------------------------------------------

    def _checked_codes(self, rows: Array) -> Array:
        if rows.ndim != 2 or rows.dtype != np.uint8 or rows.shape[1] != self.bytes_per_token:
            raise CodecError(
                f"codec {self.name!r}: found codes of shape {rows.shape} {rows.dtype}, expected uint8 rows of "
                f"{self.bytes_per_token} bytes"
            )
        return rows

    def _token_anchors(self, anchors: ArrayLike | None, count: int) -> Array | None:
        if self.anchor_dim is None:
            return None
        if anchors is not None and np.ndim(anchors) == 1:
            anchors = np.broadcast_to(np.asarray(anchors), (count, np.size(anchors)))
        return self._unit_anchors(anchors, count)

    def _unit_anchors(self, anchors: ArrayLike | None, count: int) -> Array:
        if anchors is None:
            raise CodecError(
                f"codec {self.name!r}: found no anchors, expected the documents' anchors beside the tokens"
            )
        rows = np.asarray(anchors, np.float32)
        if rows.shape != (count, self.anchor_dim) or not np.isfinite(rows).all():
            raise CodecError(
                f"codec {self.name!r}: found anchors of shape {rows.shape} (or not finite), expected "
                f"({count}, {self.anchor_dim})"
            )
        # Those of an index are of unit length already; each row is looked at by itself.
        others = np.flatnonzero(~(np.abs(np.einsum("nd,nd->n", rows, rows) - 1) < 1e-5))
        if len(others):
            rows = rows.copy()
            rows[others] = unit_rows(rows[others])
        return rows


@dataclass(frozen=True)
class CodecBytes:
    """What :meth:`Codec.to_bytes` wrote: a name, D, and arrays, or the hash of a codec that the package ships."""

    name: str
    token_dim: int
    arrays: dict[str, Array]
    packaged: str = ""
    package: str = ""  # the version of the package that wrote it

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Take the bytes apart and check them."""
        from safetensors.numpy import load

        try:
            size = int.from_bytes(data[:8], "little")
            about = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["codec"])
            arrays = {name: np.asarray(array) for name, array in load(bytes(data)).items()}
            found, crc = about.get("format"), about.pop("crc32")
            width = int(about["token_dim"])
        except Exception as error:  # whatever damaged bytes provoke in the readers
            raise CodecError(
                f"codec: cannot be read ({type(error).__name__}: {error}); its bytes are damaged"
            ) from error
        if found not in READ:
            raise CodecError(f"codec: found format {found!r}, expected one of {', '.join(READ)}: of another version")
        if crc != arrays_checksum(about, arrays):
            raise CodecError("codec: found a checksum that does not match; its bytes are damaged")
        if not all(np.isfinite(array).all() for array in arrays.values() if array.dtype.kind == "f"):
            raise CodecError("codec: found NaN or infinity, expected finite numbers; fit it again")
        return cls(str(about["name"]), width, arrays, str(about.get("packaged", "")), str(about.get("package", "")))


def _row_ranges(starts: ArrayLike, stops: ArrayLike | None, total: int) -> tuple[Array, Array]:
    first = np.asarray(starts, np.int64)
    if stops is None:
        first, last = first[:-1], first[1:]
    else:
        last = np.asarray(stops, np.int64)
    if first.ndim != 1 or first.shape != last.shape:
        raise CodecError(f"found row ranges of shapes {first.shape} and {last.shape}, expected two equal vectors")
    if len(first) and (first.min() < 0 or last.max() > total or (last < first).any()):
        raise CodecError(f"found row ranges outside 0 to {total}, or that end before they start")
    return np.ascontiguousarray(first), np.ascontiguousarray(last)
