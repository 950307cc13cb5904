"""What each position of a tokenised input is, and which roles a token filter keeps."""

from __future__ import annotations

from enum import IntEnum

from ..errors import ReadoutError, one_of


class TokenRole(IntEnum):
    """The role of one position; stored as ``uint8`` beside every token vector."""

    SPECIAL = 0  # added by the tokenizer: [CLS], [SEP], <s>, <|im_start|>, padding
    TEMPLATE = 1  # written by a chat template around every input: "system", "user", newlines
    PROMPT = 2  # the prompt or instruction
    TEXT = 3  # the user's own text
    IMAGE = 4  # an image placeholder, which carries a patch
    VIDEO = 5  # a video placeholder


_KEPT: dict[str, frozenset[TokenRole]] = {
    "paper": frozenset(TokenRole) - {TokenRole.SPECIAL},
    "content": frozenset({TokenRole.TEXT, TokenRole.IMAGE, TokenRole.VIDEO}),
}


def kept_roles(token_filter: str) -> frozenset[TokenRole]:
    """The roles whose positions become token vectors.

    ``"paper"`` drops special tokens only, as the official evaluation does (arXiv 2605.24938); ``"content"`` also drops
    prompt and template tokens.
    """
    if token_filter not in _KEPT:
        raise ReadoutError(f"token filter: {one_of(token_filter, _KEPT)}")
    return _KEPT[token_filter]


TOKEN_FILTERS = tuple(_KEPT)
