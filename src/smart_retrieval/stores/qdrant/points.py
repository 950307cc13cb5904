"""Documents as points of Qdrant, and back."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import IndexDamagedError, StoreError
from ...types import Array
from ..engine import Row
from .query import ANCHOR, TOKENS
from .where import payload_of

if TYPE_CHECKING:
    from qdrant_client import models

# Numbers that one multi-vector may have.
MOST_NUMBERS = 1 << 20
# What a filter compares in another spelling than it was given.
_SPELT = ("id", "source", "heading", "page", "metadata")


def point_of(row: Row, tokens: Array | None) -> models.PointStruct:
    """A row as a point, with token vectors ``[T, Dt]`` where the collection has some."""
    from qdrant_client import models

    compared = payload_of(row.document)
    given = {name: row.document.get(name) for name in _SPELT}
    known = {name: compared.get(name) for name in _SPELT}
    payload = {**row.document, **compared, "codes": base64.b64encode(row.blob).decode()}
    if _json(given) != _json(known):
        payload["given"] = _json(given)
    assert row.anchor is not None
    vectors: dict[str, Any] = {ANCHOR: row.anchor.tolist()}
    if tokens is not None and len(tokens):  # a document without any scores as one whose late part is 0
        if tokens.size > MOST_NUMBERS:
            raise StoreError(
                f"document {row.id!r}: found {len(tokens)} token vectors of {tokens.shape[1]} dimensions, expected at "
                f"most the {MOST_NUMBERS} numbers of Qdrant's multi-vectors; pool tokens, or export codes alone"
            )
        vectors[TOKENS] = tokens.tolist()
    return models.PointStruct(id=row.key, vector=vectors, payload=payload)


def row_of_point(point: Any) -> Row:
    """A point that was read, as a row with what was read of it."""
    payload: Mapping[str, Any] = point.payload or {}
    vector = (point.vector or {}).get(ANCHOR) if isinstance(point.vector, dict) else None
    document = {name: value for name, value in payload.items() if name not in ("codes", "fields", "texts", "given")}
    document |= {name: None for name in _SPELT if name not in document}
    try:
        if "given" in payload:
            document |= json.loads(payload["given"])
        blob = base64.b64decode(payload.get("codes", ""), validate=True)
    except (ValueError, TypeError, binascii.Error) as error:
        raise IndexDamagedError(f"point {point.id}: found a payload that is no document's ({error})") from error
    anchor = None if vector is None else np.asarray(vector, np.float32)
    return Row(int(point.id), str(document["id"]), anchor, blob, document)


def read_points(points: Sequence[Any]) -> tuple[Array, list[bytes]]:
    """Anchors and blobs of points, as :meth:`~smart_retrieval.SmartReranker.score` takes them.

    Args:
        points: What :func:`anchor_query` found: ``client.query_points(...).points``.

    Returns:
        Anchors ``[n, Da]`` float32 of unit length, and a blob for each.

    Raises:
        IndexDamagedError: A point is no document of an index.
    """
    rows = [row_of_point(point) for point in points]
    if any(row.anchor is None for row in rows):
        raise IndexDamagedError("found points without anchors, expected those of anchor_query")
    return np.stack([row.anchor for row in rows if row.anchor is not None]), [row.blob for row in rows]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


#: Token vectors of rows, one array ``[T, Dt]`` each.
Decoder = Callable[[Sequence[Row]], list[Array]]
