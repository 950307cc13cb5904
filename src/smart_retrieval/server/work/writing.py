"""What is written into an index for a caller, in the service's one thread that writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ...embeddings import SmartEmbeddings
from ...errors import EmptyInputError, SmartError
from ...index.ingest.new_documents import content_id
from ...index.store.records import pack_metadata
from ...index.store.store import Store
from ...inputs import Item
from ..access import Caller
from ..requests import NewDocument, require_content
from ..settings import ServerSettings
from ..stored import AnyIndex, Stored

_MOST_ID, _MOST_TEXT, _MOST_METADATA = 1000, 1_000_000, 64_000
_AT_ONCE = 1000


def checked(documents: Sequence[NewDocument], caller: Caller, settings: ServerSettings) -> list[NewDocument]:
    """Documents that can be stored: with content, plain ids and metadata of reasonable size, the tenant's mark."""
    found = []
    for number, document in enumerate(documents):
        name = document.id if document.id is not None else f"number {number}"
        require_content(f"document {name!r}", document.text, document.image)
        if document.id is not None and not 1 <= len(document.id) <= _MOST_ID:
            raise SmartError(
                f"document {name[:40]!r}: found an id of {len(document.id)} characters, expected 1 to 1000"
            )
        if len(document.text) > _MOST_TEXT:
            raise SmartError(f"document {name!r}: found {len(document.text)} characters, expected at most {_MOST_TEXT}")
        if document.image is not None and document.source is not None:
            raise SmartError(f"document {name!r}: found a source of a picture that is sent, expected none; metadata is")
        if len(pack_metadata(document.metadata, name)) > _MOST_METADATA:
            raise SmartError(f"document {name!r}: found more than {_MOST_METADATA} characters of metadata")
        found.append(replace(document, metadata=caller.stamped(document.metadata, name)))
    return found


def add(
    index: AnyIndex, caller: Caller, documents: Sequence[NewDocument], items: Sequence[Item], *, replace: bool
) -> list[str]:
    """Add or replace documents; their ids as the caller knows them."""
    ids = [
        document.id if document.id is not None else content_id(item)
        for document, item in zip(documents, items, strict=True)
    ]
    if len(set(ids)) < len(ids):
        twice = next(id for number, id in enumerate(ids) if id in ids[:number])
        raise EmptyInputError(f"document {twice!r}: found its id twice, expected every id once in a request")
    stored = Stored(index)
    if caller.tenant is not None:
        for document in documents:
            if document.source is not None and stored.holds_file(document.source):
                raise SmartError(
                    f"document {document.id!r}: found the source {document.source!r}, which is a file that was indexed "
                    "here; name another, or leave it out"
                )
    options: dict[str, Any] = {"on_duplicate": "replace" if replace else "error"}
    index.add(
        items,
        ids=caller.new_ids(stored, ids, replace=replace),
        metadata=[document.metadata for document in documents],
        sources=[document.source for document in documents],
        pages=[document.page for document in documents],
        headings=[document.heading for document in documents],
        **options,
    )
    return ids


def delete(index: AnyIndex, caller: Caller, ids: Sequence[str] | None, within: str | None) -> int:
    """Delete a caller's documents by id, or those that pass a filter and are its alone."""
    stored = Stored(index)
    with stored.transaction():
        if ids is None:
            return sum(_delete_where(store, caller, within) for store in stored.stores)
        wanted = list(dict.fromkeys(caller.require(stored, ids)))
        for start in range(0, len(wanted), _AT_ONCE):
            caller.require_owned(stored.get(wanted[start : start + _AT_ONCE]))
        return stored.delete(wanted)


def _delete_where(store: Store, caller: Caller, within: str | None) -> int:
    rowids = store.select(within)
    if caller.tenant is None:
        return store.delete(rowids=rowids)
    owned: list[int] = []
    for start in range(0, len(rowids), _AT_ONCE):
        found = store.get(rowids=rowids[start : start + _AT_ONCE])
        owned += [document.rowid for document in found if caller.owns(document)]
    return store.delete(rowids=owned)


def encode_documents(index: AnyIndex, items: Sequence[Item]) -> SmartEmbeddings:
    """Encodings of texts and pictures as documents, by an index's model."""
    folded = [index.encoder.folded(item) for item in items]
    return index.encoder.model().encode_document(folded, show_progress=False)
