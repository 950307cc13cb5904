"""What a service is asked for and what it answers, as plain values."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypedDict

from ..errors import EmptyInputError, ScoringError, SmartError
from ..index.search.options import RERANK_DEPTH
from ..index.search.searcher import DEFAULT_CANDIDATES
from .settings import ServerSettings

Form = Literal["html", "png"]


@dataclass(frozen=True)
class Query:
    """A query: words, the bytes of a picture file, or both."""

    text: str = ""
    image: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class NewDocument:
    """A document to add: words, the bytes of a picture file, or both. Without an id it gets one of its content."""

    text: str = ""
    id: str | None = None
    image: bytes | None = field(default=None, repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None
    page: int | None = None
    heading: str | None = None


class QueryOptions(TypedDict, total=False):
    """Options of a search; as those of :meth:`~smart_retrieval.SmartIndex.search`, but ``rerank`` is a switch.

    ``kinds`` are the kinds of documents wanted, of ``"text"``, ``"image"``, ``"page"``, ``"video"`` and ``"audio"``;
    all if empty.
    """

    where: str | None
    kinds: Sequence[str]
    candidates: int
    exact: bool
    weights: Literal["preset", "uniform", "idf"] | None
    lambda_anchor: float | None
    lambda_late: float | Literal["calibrated"] | None
    floor: float | Literal["preset", "calibrated"] | None
    lexical_weight: float
    feedback: float
    neighbours: float
    rerank: bool
    rerank_depth: int
    deadline_ms: float | None


@dataclass(frozen=True)
class IndexInfo:
    """What an index holds for a caller.

    Args:
        name: Its name here.
        documents: How many this caller sees.
        fields: Metadata keys, and the kinds of their values, of up to 2,000 documents that it sees.
        kinds: Pictures that it sees, by kind.
        pictures: Whether a query may be a picture.
        model: Name of the model, of a folder its last part.
        anchor_dim: Width of the anchors.
        codec: How token vectors are kept.
        language: ``"english"``, ``"other"``, or ``"auto"`` as long as there are too few words; None without full text.
        files_as: ``"text"`` or ``"pages"``.
        updated: Time of the newest commit.
        writable: Whether this caller may add and delete.
        shards: In how many parts it is kept.
    """

    name: str
    documents: int
    fields: dict[str, list[str]]
    kinds: dict[str, int]
    pictures: bool
    model: str
    anchor_dim: int
    codec: str
    language: str | None
    files_as: str
    updated: str
    writable: bool
    shards: int = 1

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def search_options(options: QueryOptions, settings: ServerSettings, k: int) -> dict[str, Any]:
    """The options of the index's own search; without filter and deadline.

    Raises:
        SmartError: A number is not finite or beyond the server's limits, or there is no reranker.
    """
    for name, value in options.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ScoringError(f"{name}: found {value}, expected a finite number")
    candidates = options.get("candidates", DEFAULT_CANDIDATES)
    depth = options.get("rerank_depth", RERANK_DEPTH)
    for name, number, most in (
        ("k", k, settings.max_k), ("candidates", candidates, settings.max_candidates), ("rerank_depth", depth, 200)
    ):  # fmt: skip
        if not (0 if name == "k" else 1) <= number <= most:
            raise SmartError(f"{name}: found {number}, expected at most {most} and at least 1")
    if options.get("rerank") and settings.reranker is None:
        raise SmartError("rerank: found no reranker on this server; start it with --reranker MODEL")
    if options.get("lexical_weight", 0.0) < 0:
        raise ScoringError(f"lexical_weight: found {options['lexical_weight']}, expected 0 or more")
    own = ("exact", "weights", "lambda_anchor", "lambda_late", "floor", "lexical_weight", "feedback", "neighbours")
    found: dict[str, Any] = {name: options[name] for name in own if name in options}  # type: ignore[literal-required]
    found |= {"candidates": candidates, "rerank_depth": depth}
    if options.get("rerank"):
        found["rerank"] = settings.reranker
    return found


def require_content(what: str, text: str, image: bytes | None) -> None:
    """Refuse what holds neither words nor a picture."""
    if not text.strip() and not image:
        raise EmptyInputError(f"{what}: found neither words nor a picture, expected at least one of them")


def bytes_of(image: str | None) -> bytes | None:
    """The bytes of a picture in a request.

    Raises:
        SmartError: It is no Base64.
    """
    if image is None:
        return None
    _, found, data = image.partition(";base64,") if image.startswith("data:image/") else ("", "x", image)
    try:
        decoded = base64.b64decode(data if found else "", validate=True)
    except (binascii.Error, ValueError) as error:
        raise SmartError("image: expected the bytes of a picture file in Base64; no path or URL is opened") from error
    if not decoded:
        raise EmptyInputError("image: expected the bytes of a picture file in Base64; no path or URL is opened")
    return decoded
