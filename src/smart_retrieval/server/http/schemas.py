"""Requests as they come over HTTP, checked and described; what they are turned into is in ``requests``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from ...index.search.options import RERANK_DEPTH
from ...index.search.searcher import DEFAULT_CANDIDATES
from ..requests import NewDocument, Query, QueryOptions, bytes_of

_MOST_TEXT = 1_000_000
Text = Annotated[str, StringConstraints(max_length=_MOST_TEXT)]
Id = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Where = Annotated[str, StringConstraints(max_length=20_000)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Content(_Request):
    """Words, a picture, or both."""

    text: Text = Field("", description="Words.", examples=["how do I rotate the logs"])
    image: str | None = Field(None, description="The bytes of a PNG, JPEG, WebP, GIF, BMP or TIFF file, in Base64.")

    def query(self) -> Query:
        """As the service takes it."""
        return Query(self.text, bytes_of(self.image))


QueryIn = Text | Content


def query_of(given: QueryIn) -> Query:
    """A query as the service takes it."""
    return Query(given) if isinstance(given, str) else given.query()


class Options(_Request):
    """How to search; what is left out is as the index has it."""

    where: Where | None = Field(
        None,
        description="Filter over metadata and id, source, page, heading; as the command line's.",
        examples=["year > 2020 and tags = 'en'"],
    )
    kinds: list[Literal["text", "image", "page", "video", "audio"]] = Field(
        [], description="Kinds wanted; all when empty."
    )
    candidates: int = Field(DEFAULT_CANDIDATES, ge=1, description="Documents that the anchors choose for scoring.")
    exact: bool = Field(False, description="Score every document that passes the filter.")
    weights: Literal["preset", "uniform", "idf"] = Field("preset", description="Weights of the query's tokens.")
    lambda_anchor: float | None = Field(None, description="Weight of the anchors' cosine.")
    lambda_late: float | Literal["calibrated"] | None = Field(None, description="Weight of late interaction.")
    floor: float | Literal["preset", "calibrated"] | None = Field(
        "preset", description="Token similarities that count as none; null for no floor."
    )
    lexical_weight: float = Field(0.0, ge=0, description="Weight of BM25; 3 is usual.")
    feedback: float = Field(0.0, ge=0, description="Weight of likeness to the best hit, e.g. 0.3.")
    neighbours: float = Field(0.0, ge=0, description="Weight of the three nearest hits' mean score, e.g. 0.2.")
    rerank: bool = Field(False, description="Order the first hits by the server's cross-encoder.")
    rerank_depth: int = Field(RERANK_DEPTH, ge=1, description="Hits that it reads.")
    deadline_ms: float | None = Field(
        None,
        ge=0,
        description="Milliseconds from now. What is found by then comes marked as partial; if nothing was begun, 504.",
    )

    def options(self) -> QueryOptions:
        """As the service takes them."""
        found: Any = {name: getattr(self, name) for name in Options.model_fields}
        if not self.rerank:
            del found["rerank"], found["rerank_depth"]
        chosen: QueryOptions = found
        return chosen


class SearchRequest(Options):
    """A search for one query or for several."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"query": "how do I rotate the logs", "k": 5, "where": "year > 2020", "lexical_weight": 3}]
        },
    )

    query: QueryIn | None = Field(None, description="One query: words, or an object with text, image, or both.")
    queries: list[QueryIn] | None = Field(None, description="Several queries; the answer has one result for each.")
    k: int = Field(10, ge=0, description="Hits of each query; groups with group_by.")
    group_by: Literal["source"] | None = Field(None, description="Put the best passages of each file together.")
    thumbnails: bool = Field(False, description="A thumbnail of every picture, in Base64.")

    @model_validator(mode="after")
    def _one_of_both(self) -> SearchRequest:
        if (self.query is None) == (self.queries is None):
            raise ValueError("expected one of query and queries")
        return self


class ExplainRequest(Options):
    """Why a document has the score that it has; options are those of the search."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"query": "how do I rotate the logs", "id": "guide/logs.md#3"}]}
    )

    query: QueryIn = Field(description="The query of the search.")
    id: Id = Field(description="The document.", examples=["guide/logs.md#3"])
    format: Literal["json", "html", "png"] = Field("json", description="Numbers, a web page, or a picture.")


class DocumentIn(_Request):
    """A document to add."""

    text: Text = Field("", description="The passage, or a caption.", examples=["Log files rotate nightly."])
    id: Id | None = Field(None, description="Its id; made of its content when left out.", examples=["logs"])
    image: str | None = Field(None, description="A picture file in Base64, for a model that takes pictures.")
    metadata: dict[str, Any] = Field(default_factory=dict, description="For filters.", examples=[{"year": 2026}])
    source: Text | None = Field(None, description="Where it comes from: a name or URL, which nobody opens.")
    page: int | None = Field(None, description="Page there, from 1.")
    heading: Text | None = Field(None, description="Heading path there.", examples=["Logs > Rotation"])

    def document(self) -> NewDocument:
        """As the service takes it."""
        return NewDocument(
            self.text, self.id, bytes_of(self.image), self.metadata, self.source, self.page, self.heading
        )


class AddRequest(_Request):
    """Documents to add, stored together in one commit or, if they are many, as a job."""

    documents: list[DocumentIn] = Field(description="The documents.")


class IdsRequest(_Request):
    """Some documents."""

    ids: list[Id] = Field(description="Their ids.", min_length=1, max_length=1000, examples=[["guide/logs.md#3"]])


class DeleteRequest(_Request):
    """What to delete: ids, or a filter."""

    ids: list[Id] | None = Field(None, min_length=1, max_length=10_000, examples=[["guide/logs.md#3"]])
    where: Where | None = Field(None, examples=["year < 2020"])


class EncodeRequest(_Request):
    """Texts or pictures to encode; nothing is stored."""

    inputs: list[QueryIn] = Field(min_length=1, description="Words, or objects with text, image, or both.")
    side: Literal["query", "document"] = Field("query", description="As what they are encoded.")
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="Lists of numbers, or little-endian float32 in Base64, row by row."
    )
    tokens: bool = Field(True, description="Token vectors, too.")


class RerankRequest(BaseModel):
    """Texts, or documents of an index, to put in the order of their relevance: the shape of Cohere's and Jina's."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"query": "rotate the logs", "documents": ["Oak logs burn slowly.", "Log files rotate."]}]
        }
    )

    model: str | None = Field(None, description="Name of the index whose model and scoring are used.")
    query: QueryIn
    documents: list[Text | dict[str, Any]] | None = Field(None, description='Texts, or objects with a "text".')
    ids: list[Id] | None = Field(None, description="Instead: documents of the index, whose stored codes are scored.")
    top_n: int | None = Field(None, ge=1, description="How many come back.")
    return_documents: bool = Field(False, description="With their texts.")


class EmbeddingsRequest(BaseModel):
    """Anchors of texts, in the shape of OpenAI's embeddings."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "docs", "input": ["Log files rotate nightly."]}]}
    )

    model: str | None = Field(None, description="Name of an index, or of its model.")
    input: Text | list[Text] = Field(description="One text or several.")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1, description="Refused unless it is the model's own width.")
    input_type: Literal["query", "document"] = Field("document", description="As what they are encoded.")
    user: str | None = None
