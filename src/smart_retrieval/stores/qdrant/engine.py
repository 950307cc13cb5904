"""Qdrant as an engine: a collection of points, and a small one beside it for settings."""

from __future__ import annotations

import base64
import math
import secrets
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from ...errors import FilterError, IndexDamagedError, SmartError, StoreError
from ...types import Array
from ..engine import Part, Row
from ..rows import key_of
from .points import Decoder, point_of, row_of_point
from .query import ANCHOR, TOKENS, PointsQuery
from .where import compile_filter

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

_PAGE = 256  # points read at once
# A request may have 32 MB by default; a number of a vector is written in some 12 bytes.
_MOST_NUMBERS = 1_000_000
_PIECE = 4 << 20
# Points up to which a filter is counted before the search.
_COUNTED = 20_000


class QdrantEngine:
    """An index in two collections, ``name`` and ``name-settings``.

    Args:
        client: Of a server, a folder, or memory.
        collection: The name.
        owned: Close the client in the end.
    """

    def __init__(self, client: QdrantClient, collection: str, *, owned: bool = False) -> None:
        self.client, self.collection, self.owned = client, collection, owned
        #: Gives the token vectors of new points, where the collection has some.
        self.decode: Decoder | None = None
        self.settings = f"{collection}-settings"

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"qdrant, collection {self.collection}"

    def exists(self) -> bool:
        """Whether either collection is there."""
        with self._errors():
            return any(self.client.collection_exists(name) for name in (self.collection, self.settings))

    def has_tokens(self) -> bool:
        """Whether the collection has token vectors."""
        with self._errors():
            vectors = self.client.get_collection(self.collection).config.params.vectors
        return isinstance(vectors, dict) and TOKENS in vectors

    def create(self, anchor_dim: int, token_dim: int | None, *, replace: bool) -> None:
        """Make both collections; with token vectors where their width is given."""
        from qdrant_client import models

        if self.exists():
            if not replace:
                raise StoreError(f"{self.name}: found one of that name; take another, or replace it")
            self.drop()
        params = models.VectorParams
        vectors = {ANCHOR: params(size=anchor_dim, distance=models.Distance.DOT)}
        if token_dim is not None:
            # No graph over token vectors: they are only compared with candidates, and making one takes hours.
            vectors[TOKENS] = params(
                size=token_dim,
                distance=models.Distance.DOT,
                multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
                hnsw_config=models.HnswConfigDiff(m=0),
                on_disk=True,
            )
        with self._errors(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are no payload indexes in memory
            self.client.create_collection(self.settings, vectors_config={})
            self.client.create_collection(self.collection, vectors_config=vectors)
            for field in ("source", "fields"):
                self.client.create_payload_index(self.collection, field, models.PayloadSchemaType.KEYWORD)

    def drop(self) -> None:
        """Delete both collections, settings first: without them there is no index."""
        with self._errors():
            for name in (self.settings, self.collection):
                self.client.delete_collection(name)

    def put(self, rows: Sequence[Row]) -> None:
        """See :class:`Engine`."""
        tokens = [None] * len(rows) if self.decode is None else self.decode(rows)
        points = [point_of(row, own) for row, own in zip(rows, tokens, strict=True)]
        sizes = [0 if own is None else own.size for own in tokens]
        start = 0
        while start < len(points):
            stop = start + 1
            while stop < len(points) and stop - start < _PAGE and sum(sizes[start : stop + 1]) <= _MOST_NUMBERS:
                stop += 1
            with self._errors():
                self.client.upsert(self.collection, points[start:stop], wait=True)
            start = stop

    def remove(self, keys: Sequence[int]) -> None:
        """See :class:`Engine`."""
        from qdrant_client import models

        with self._errors():
            self.client.delete(self.collection, models.PointIdsList(points=[int(key) for key in keys]), wait=True)

    def fetch(self, keys: Sequence[int], part: Part) -> list[Row]:
        """See :class:`Engine`."""
        wanted = [int(key) for key in keys]
        with self._errors():
            points = self.client.retrieve(self.collection, wanted, **_read(part)) if wanted else []
        return [row_of_point(point) for point in points]

    def near(
        self, anchor: Array, limit: int | None, where: str | None, *, exact: bool = False, timeout: float | None = None
    ) -> list[Row]:
        """See :class:`Engine`."""
        from qdrant_client import models

        chosen = compile_filter(where)
        with self._errors():
            if limit is None:
                return [row_of_point(point) for point in self._scroll(chosen, **_read("vectors"))]
            found = self.client.query_points(
                self.collection,
                query=anchor.tolist(),
                using=ANCHOR,
                query_filter=chosen,
                search_params=models.SearchParams(exact=True) if exact else None,
                limit=limit,
                timeout=None if timeout is None else max(1, math.ceil(timeout)),
                **_read("vectors"),
            )
        return [row_of_point(point) for point in found.points]

    def query(self, request: PointsQuery) -> list[Any]:
        """The points that a query finds."""
        with self._errors():
            return list(self.client.query_points(self.collection, **request).points)

    def _scroll(self, chosen: Any, **read: Any) -> Iterator[Any]:
        after = None
        while True:
            points, after = self.client.scroll(self.collection, chosen, limit=_PAGE, offset=after, **read)
            yield from points
            if after is None:
                return

    def select(self, where: str | None, among: Sequence[int] | None = None) -> list[int]:
        """See :class:`Engine`."""
        from qdrant_client import models

        chosen = compile_filter(where)
        if among is not None:
            some = models.HasIdCondition(has_id=[int(key) for key in among])
            chosen = models.Filter(must=[some, *([chosen] if chosen is not None else [])])
        with self._errors():
            return [int(point.id) for point in self._scroll(chosen, with_payload=False, with_vectors=False)]

    def count(self, where: str) -> int | None:
        """See :class:`Engine`."""
        chosen = compile_filter(where)
        with self._errors():
            if self.client.count(self.collection, exact=False).count > _COUNTED:
                return None
            return self.client.count(self.collection, chosen, exact=True).count

    def load(self, name: str) -> bytes | None:
        """See :class:`Engine`."""
        for _ in range(3):  # it may be written meanwhile
            with self._errors():
                head = self.client.retrieve(self.settings, [key_of(name)], with_payload=True)
                if not head or head[0].payload is None:
                    return None
                pieces = [head[0].payload]
                more = [key_of(f"{name} {place}") for place in range(1, pieces[0]["pieces"])]
                found = self.client.retrieve(self.settings, more, with_payload=True) if more else []
            pieces += sorted((point.payload or {} for point in found), key=lambda payload: payload["place"])
            if len(pieces) == pieces[0]["pieces"] and len({payload["stamp"] for payload in pieces}) == 1:
                return b"".join(base64.b64decode(payload["data"]) for payload in pieces)
        raise IndexDamagedError(f"index {self.name}: found {name} in pieces of different writes; export it again")

    def save(self, name: str, value: bytes) -> None:
        """See :class:`Engine`."""
        from qdrant_client import models

        pieces = [value[start : start + _PIECE] for start in range(0, max(1, len(value)), _PIECE)]
        stamp = secrets.token_hex(8)
        with self._errors():
            for place in reversed(range(len(pieces))):  # the first last, which tells of the others
                payload = {
                    "name": name,
                    "place": place,
                    "pieces": len(pieces),
                    "stamp": stamp,
                    "data": base64.b64encode(pieces[place]).decode(),
                }
                key = key_of(f"{name} {place}" if place else name)
                self.client.upsert(self.settings, [models.PointStruct(id=key, vector={}, payload=payload)], wait=True)

    def close(self) -> None:
        """See :class:`Engine`."""
        if self.owned:
            with suppress(Exception):
                self.client.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """The client's errors as ours, in one line."""
        from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

        try:
            yield
        except (SmartError, TimeoutError):
            raise
        except UnexpectedResponse as error:
            if error.status_code == 404:
                raise StoreError(f"index {self.name}: found no index there; export one") from error
            line = error.content[:200].decode(errors="replace").replace("\n", " ")
            if error.status_code == 400 and "filter" in line.lower():
                raise FilterError(f"where: Qdrant refuses the filter: {line}") from error
            raise StoreError(f"index {self.name}: found answer {error.status_code}: {line}") from error
        except ResponseHandlingException as error:
            if "timeout" in type(error.source).__name__.lower():
                raise TimeoutError(f"index {self.name}: the time was over") from error
            raise StoreError(f"index {self.name}: the server cannot be reached ({str(error)[:200]})") from error
        except (ApiException, ValueError, OSError, RuntimeError) as error:
            missing = "not found" in str(error)
            reason = "found no index there; export one" if missing else f"{type(error).__name__}: {str(error)[:200]}"
            raise StoreError(f"index {self.name}: {reason}") from error


def _read(part: Part) -> dict[str, Any]:
    """What is read of points."""
    from qdrant_client import models

    if part == "vectors":
        return {"with_payload": ["id", "given", "codes"], "with_vectors": [ANCHOR]}
    return {"with_payload": models.PayloadSelectorExclude(exclude=["codes", "fields", "texts"]), "with_vectors": False}
