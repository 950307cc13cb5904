"""What each position of a tokenised input is, and which roles a token filter keeps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cache

import numpy as np

from ..errors import ReadoutError, one_of
from ..types import Array


class TokenRole(IntEnum):
    """The role of one position; stored as ``uint8`` beside every token vector."""

    SPECIAL = 0  # added by the tokenizer: [CLS], [SEP], <s>, <|im_start|>, padding
    TEMPLATE = 1  # written by a chat template around every input: "system", "user", newlines
    PROMPT = 2  # the prompt or instruction
    TEXT = 3  # the user's own text
    IMAGE = 4  # an image placeholder, which carries a patch
    VIDEO = 5  # a video placeholder
    UNKNOWN = 6  # the tokenizer's unknown token, in the user's text
    PUNCTUATION = 7  # a token of the user's text that holds no letter, digit or symbol
    AUDIO = 8  # a sound placeholder, which carries some 40 ms
    CONTINUATION = 9  # a token of the user's text that goes on with the word of the token before it


#: Which roles are told apart, part of the key of every cache of encodings.
ROLES_FORMAT = 4

#: The roles of what is seen or heard: placeholders, which stand for no word.
MEDIA_ROLES = frozenset({TokenRole.IMAGE, TokenRole.VIDEO, TokenRole.AUDIO})

#: The roles of the words of the user's own text.
WORD_ROLES = frozenset({TokenRole.TEXT, TokenRole.CONTINUATION})

#: The roles of what an input is about; every other token is written by others, or says nothing.
CONTENT_ROLES = MEDIA_ROLES | WORD_ROLES


def has_role(roles: Array, wanted: frozenset[TokenRole]) -> Array:
    """Which of some roles, of any shape, are among those wanted, bool."""
    found: Array = _table(wanted)[roles]
    return found


@cache
def _table(wanted: frozenset[TokenRole]) -> Array:
    table = np.zeros(256, bool)
    table[[int(role) for role in wanted]] = True
    table.flags.writeable = False
    return table


_KEPT: dict[str, frozenset[TokenRole]] = {
    "paper": frozenset(TokenRole) - {TokenRole.SPECIAL},
    "content": CONTENT_ROLES,
    "visual": CONTENT_ROLES,
}
#: Token filters that differ in the roles they keep, whatever the input.
TOKEN_FILTERS = ("paper", "content")
_POOLED, _QUERY_VISUAL = "-pooled", "-query-visual"


@dataclass(frozen=True)
class TokenFilter:
    """Which positions become token vectors.

    Args:
        base: ``"paper"`` drops special tokens only, as the official evaluation does (arXiv 2605.24938); ``"content"``
            keeps :data:`CONTENT_ROLES` only, without prompts, templates, unknown tokens and punctuation; ``"visual"``
            keeps of an input with pictures, video or sound those alone, and of others what ``"content"`` keeps.
        without_pooled: Whether the position that is pooled into the anchor is left out, as in the paper's formula.
        without_query_visual: Whether the pictures and sound of queries are left out, as the paper has it for composed
            queries.
    """

    base: str
    without_pooled: bool = False
    without_query_visual: bool = False

    @classmethod
    def parse(cls, name: str) -> TokenFilter:
        """Read a filter's name: its base, ``-pooled`` and ``-query-visual`` where they are left out."""
        rest = str(name).removesuffix(_QUERY_VISUAL)
        base = rest.removesuffix(_POOLED)
        if base not in _KEPT:
            raise ReadoutError(
                f"token filter: {one_of(name, _KEPT)}, and behind it {_POOLED} to leave out the pooled position, "
                f"{_QUERY_VISUAL} the pictures of queries"
            )
        return cls(base, rest != base, rest != name)

    @property
    def modifiers(self) -> str:
        """What stands behind the base."""
        return _POOLED * self.without_pooled + _QUERY_VISUAL * self.without_query_visual

    @property
    def kept(self) -> frozenset[TokenRole]:
        """The roles that are ever kept."""
        return _KEPT[self.base]

    def rows(self, roles: Array, offsets: Array | None = None) -> Array:
        """Which of some tokens are kept by their roles, ``[T]`` bool; of ``offsets`` ``[N + 1]`` where items begin.

        The modifiers need more than roles, and are not looked at.
        """
        mask = has_role(roles, self.kept)
        if self.base == "visual":
            visual = has_role(roles, MEDIA_ROLES)
            bounds = np.array([0, len(roles)]) if offsets is None else np.asarray(offsets)
            counted = np.concatenate([[0], np.cumsum(visual)])[bounds]
            mask &= visual | np.repeat(np.diff(counted) == 0, np.diff(bounds))
        return mask


def kept_rows(roles: Array, token_filter: str, offsets: Array | None = None) -> Array:
    """Which tokens a filter keeps by their roles; see :meth:`TokenFilter.rows`."""
    return TokenFilter.parse(token_filter).rows(roles, offsets)
