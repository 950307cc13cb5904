"""Who asks, and what of an index there is for them: the one place where a caller's fixed filter is applied."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..documents.sections import clean_json
from ..errors import DuplicateIdError, NotAllowedError, ServerError, UnknownIdError
from ..index.store.records import Document
from ..index.store.where import And, Expression, parse
from .stored import Stored, having

Role = Literal["read", "write"]

# Between a tenant and an id in the ids that are stored; no tenant's name holds it.
SEPARATOR = "::"
_FIELD = re.compile(r"[^\W\d]\w*")
_NOT_IN_TENANTS = re.compile(rf"[\s\0\ud800-\udfff'\"`\\]|{SEPARATOR}|:$")
_SURROGATE = re.compile("[\ud800-\udfff]")
_AT_ONCE = 1000


@dataclass(frozen=True)
class Tenant:
    """Whose documents a caller sees: those with this value in this metadata field, alone or in a list.

    Args:
        field: A metadata key.
        value: What it holds.

    Raises:
        ServerError: The field is no plain name, or the value has blanks, quotes or ``::`` in it.

    Example:
        >>> Tenant("team", "acme").where
        "`team` = 'acme'"
    """

    field: str
    value: str

    def __post_init__(self) -> None:
        if not _FIELD.fullmatch(self.field):
            raise ServerError(f"tenant field: found {self.field!r}, expected a metadata key of letters, digits and _")
        if not self.value or _NOT_IN_TENANTS.search(self.value):
            raise ServerError(
                f"tenant: found {self.value!r}, expected a name without blanks, quotes, backslashes and '::'"
            )

    @property
    def where(self) -> str:
        """The filter that only this tenant's documents pass."""
        return f"`{self.field}` = '{self.value}'"


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Args:
        role: ``"read"``, or ``"write"`` to add and delete as well.
        where: A fixed filter over everything this caller sees; a caller with one but without a tenant cannot write.
        name: For the log; never a token.
        tenant: Whose documents it sees and writes; None for all.

    Example:
        >>> Caller(tenant=Tenant("team", "acme")).within("year > 2020 or 1 = 1")
        Traceback (most recent call last):
        smart_retrieval.errors.FilterError: where, column 16: found 1, expected a field name ...
        >>> Caller(tenant=Tenant("team", "acme")).within("year > 2020")
        "(`team` = 'acme') and (year > 2020)"
    """

    role: Role = "read"
    where: str | None = None
    name: str = ""
    tenant: Tenant | None = None

    @property
    def fixed(self) -> str | None:
        """The filter that no request can widen."""
        parts = [part for part in (self.tenant and self.tenant.where, self.where) if part]
        return " and ".join(f"({part})" for part in parts) or None

    def within(self, where: str | None) -> str | None:
        """A request's filter within the fixed one.

        Raises:
            FilterError: It is no whole expression by itself.
        """
        if where is None or not where.strip():
            return self.fixed
        parse(where)  # by itself, so that no parenthesis or quote of it reaches beyond it
        return f"{self.fixed} and ({where})" if self.fixed else where

    def require_write(self) -> None:
        """Refuse a caller that only reads.

        Raises:
            NotAllowedError: It does.
        """
        if self.role != "write":
            raise NotAllowedError("found a token that only reads, expected one with the role 'write'")
        if self.where is not None and self.tenant is None:
            raise NotAllowedError("found a caller with a fixed filter but no tenant, which cannot write")

    # -- ids ---------------------------------------------------------------------------------------------------

    @property
    def prefix(self) -> str:
        """What its own new documents' ids begin with where they are stored, so that tenants share no ids."""
        return f"{self.tenant.value}{SEPARATOR}" if self.tenant else ""

    def shown(self, id: str) -> str:
        """An id as this caller knows it."""
        return id.removeprefix(self.prefix)

    def find(self, stored: Stored, ids: Sequence[str]) -> list[str | None]:
        """The stored ids of documents; None where there is none, or one that this caller does not see."""
        names = [name for id in ids for name in dict.fromkeys((id, self.prefix + id)) if not _SURROGATE.search(name)]
        fixed = [parse(self.fixed)] if self.fixed else []
        found: dict[str, str] = {}
        with stored.reading():
            for start in range(0, len(names), _AT_ONCE):
                chosen: Expression = And((having(names[start : start + _AT_ONCE]), *fixed))
                found |= {_composed(id): id for id in stored.ids(chosen)}
        return [found.get(_composed(id)) or found.get(_composed(self.prefix + id)) for id in ids]

    def require(self, stored: Stored, ids: Sequence[str]) -> list[str]:
        """The stored ids of documents.

        Raises:
            UnknownIdError: There is none of an id, or one that this caller does not see.
        """
        found = self.find(stored, ids)
        absent = [id for id, known in zip(ids, found, strict=True) if known is None]
        if absent:
            more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
            raise UnknownIdError(f"found no document {absent[0]!r}{more}")
        return [known for known in found if known is not None]

    # -- writing -----------------------------------------------------------------------------------------------

    def owns(self, document: Document) -> bool:
        """Whether a document is its alone, and not shared with other tenants."""
        if self.tenant is None:
            return True
        value = document.metadata.get(self.tenant.field)
        return isinstance(value, str) and _composed(value) == _composed(self.tenant.value)

    def require_owned(self, documents: Sequence[Document]) -> None:
        """Refuse to change what is shared with others.

        Raises:
            NotAllowedError: A document is.
        """
        for document in documents:
            if not self.owns(document):
                raise NotAllowedError(
                    f"document {self.shown(document.id)!r}: it is shared with others, and no tenant can change it"
                )

    def stamped(self, metadata: Mapping[str, Any], id: str) -> dict[str, Any]:
        """Metadata of a new document, with the tenant in it.

        Raises:
            NotAllowedError: It names another tenant.
        """
        if self.tenant is None:
            return dict(metadata)
        # Cleaned first, as where it is stored: a name with invisible characters would become the field's.
        metadata = clean_json(metadata)
        given = metadata.get(self.tenant.field, self.tenant.value)
        if given != self.tenant.value:
            raise NotAllowedError(
                f"document {id!r}: found {given!r} in the field {self.tenant.field!r}, expected "
                f"{self.tenant.value!r}, the tenant of this token; leave it out"
            )
        return {**metadata, self.tenant.field: self.tenant.value}

    def new_ids(self, stored: Stored, ids: Sequence[str], *, replace: bool) -> list[str]:
        """Ids to store new documents under: those of its own that they replace, or new ones.

        Raises:
            DuplicateIdError: One is there already and is not to be replaced, or is not to be had.
            NotAllowedError: One is shared with other tenants.
        """
        found = self.find(stored, ids)
        there = [(id, known) for id, known in zip(ids, found, strict=True) if known is not None]
        if there and not replace:
            more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
            raise DuplicateIdError(f"document {there[0][0]!r}{more} is there already; upsert to replace it")
        self.require_owned(stored.get([known for _, known in there]))
        fresh = [self.prefix + id for id, known in zip(ids, found, strict=True) if known is None]
        if self.fixed and stored.holds_any(fresh):
            # Stored by someone without a tenant, under a name from this one's own.
            raise DuplicateIdError("an id of these documents cannot be used; choose another")
        return [known or self.prefix + id for id, known in zip(ids, found, strict=True)]


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
