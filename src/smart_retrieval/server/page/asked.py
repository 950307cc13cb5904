"""What the page's form asks for."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

from ...errors import MediaError
from ..requests import Query, QueryOptions

DEFAULT_K = 10
_LEXICAL_WEIGHT = 3.0


@dataclass(frozen=True)
class Asked:
    """A search as the form describes it, or the explanation of one of its hits."""

    index: str = ""
    text: str = ""
    picture: bytes = field(default=b"", repr=False)
    where: str = ""
    kinds: tuple[str, ...] = ()
    k: int = DEFAULT_K
    lexical: bool = False
    rerank: bool = False
    id: str = ""
    # Whether a script asks, which keeps the picture itself.
    part: bool = False

    @classmethod
    def of(cls, given: Iterable[tuple[str, str]], upload: bytes = b"") -> Asked:
        """The fields of a form or an address; ``upload`` is the file in it.

        Raises:
            MediaError: The picture of a page before is not what that page held.
        """
        values: dict[str, str] = {}
        kinds: list[str] = []
        for name, value in given:
            if name == "kind":
                kinds.append(value)
            else:
                values[name] = value
        picture = upload
        if not picture and values.get("picture"):
            try:
                picture = base64.b64decode(values["picture"], validate=True)
            except (binascii.Error, ValueError):
                raise MediaError("picture: found something else than the picture of a page before") from None
        k = values.get("k", "")
        return cls(
            values.get("index", ""), values.get("q", "").strip(), picture, values.get("where", "").strip(),
            tuple(dict.fromkeys(kinds)), int(k[:6]) if k.isdecimal() else DEFAULT_K,
            bool(values.get("lexical")), bool(values.get("rerank")), values.get("id", ""), bool(values.get("part")),
        )  # fmt: skip

    @property
    def empty(self) -> bool:
        """Whether there is nothing to search for."""
        return not self.text and not self.picture

    @property
    def query(self) -> Query:
        """As the service takes it."""
        return Query(self.text, self.picture or None)

    @property
    def narrowed(self) -> bool:
        """Whether anything but the query differs from what the page begins with."""
        return bool(self.where or self.kinds or self.lexical or self.rerank or self.k != DEFAULT_K)

    def options(self) -> QueryOptions:
        """As the service takes them."""
        found: QueryOptions = {"where": self.where or None, "kinds": self.kinds}
        if self.lexical and self.text:
            found["lexical_weight"] = _LEXICAL_WEIGHT
        if self.rerank:
            found["rerank"] = True
        return found

    def href(self, page: str = "./", **changes: object) -> str:
        """The address of this search, or of one that differs; without its picture, which no address can hold.

        Example:
            >>> Asked("docs", "rotate the logs", k=20).href(where="page = 3")
            './?index=docs&q=rotate+the+logs&where=page+%3D+3&k=20'
        """
        query = urlencode(replace(self, **changes).fields(), errors="replace")  # type: ignore[arg-type]
        return f"{page}?{query}" if query else page

    def fields(self) -> list[tuple[str, str]]:
        """The form's fields that differ from what the page begins with; without the picture."""
        pairs = [
            ("index", self.index), ("q", self.text), ("where", self.where), *(("kind", kind) for kind in self.kinds),
            ("k", "" if self.k == DEFAULT_K else str(self.k)), ("lexical", "1" if self.lexical else ""),
            ("rerank", "1" if self.rerank else ""), ("id", self.id),
        ]  # fmt: skip
        return [(name, value) for name, value in pairs if value]
