"""What each position of a tokenised input is, and which roles a token filter keeps."""

from __future__ import annotations

from enum import IntEnum

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


#: Which roles are told apart, part of the key of every cache of encodings.
ROLES_FORMAT = 2

#: The roles of what an input is about; every other token is written by others, or says nothing.
CONTENT_ROLES = frozenset({TokenRole.TEXT, TokenRole.IMAGE, TokenRole.VIDEO})

_KEPT: dict[str, frozenset[TokenRole]] = {
    "paper": frozenset(TokenRole) - {TokenRole.SPECIAL},
    "content": CONTENT_ROLES,
}


def kept_roles(token_filter: str) -> frozenset[TokenRole]:
    """The roles whose positions become token vectors.

    ``"paper"`` drops special tokens only, as the official evaluation does (arXiv 2605.24938); ``"content"`` keeps
    :data:`CONTENT_ROLES` only, without prompts, templates, unknown tokens and punctuation.
    """
    if token_filter not in _KEPT:
        raise ReadoutError(f"token filter: {one_of(token_filter, _KEPT)}")
    return _KEPT[token_filter]


def kept_rows(roles: Array, token_filter: str) -> Array:
    """Which tokens a filter keeps, a mask of the shape of ``roles``."""
    mask: Array = np.isin(roles, [int(role) for role in kept_roles(token_filter)])
    return mask


TOKEN_FILTERS = tuple(_KEPT)
