"""Which tokens of a text are words, which only punctuation, and which stand for what the vocabulary does not hold."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np

from ..core.roles import TokenRole
from ..types import Array

# Unicode counts them as punctuation, but they tell C# from C, R&D from RD, 50 % from 50.
_NAMING = frozenset("#&%@")
# They choose how the character before them is drawn.
_VARIATION_SELECTORS = range(0xFE00, 0xFE10)


class WordRoles:
    """The roles of tokens that stand in a text; each vocabulary id is judged once, when it is first met."""

    def __init__(self, tokenizer: Any, special_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        unknown = getattr(tokenizer, "unk_token_id", None)
        self._unknown = None if unknown in special_ids else unknown
        # How word pieces that go on with a word are marked: "##" in BERT's vocabularies.
        model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
        self._prefix = getattr(model, "continuing_subword_prefix", None) or ""
        self._roles: Array = np.zeros(0, np.uint8)  # of each id; SPECIAL, which is 0, is not judged yet

    def __call__(self, ids: Array) -> Array:
        """The roles of vocabulary ids, uint8 of the same shape: TEXT, PUNCTUATION or UNKNOWN."""
        known = self._roles
        if (size := int(ids.max(initial=-1)) + 1) > len(known):
            known = np.zeros(max(size, len(self._tokenizer)), np.uint8)
            known[: len(self._roles)] = self._roles
        for token in np.unique(ids[known[ids] == 0]).tolist():
            known[token] = self._role_of(token)
        self._roles = known
        roles: Array = known[ids]
        return roles

    def _role_of(self, token: int) -> TokenRole:
        if token == self._unknown:
            return TokenRole.UNKNOWN
        spelled = self._tokenizer.convert_ids_to_tokens(token)
        # A piece of a byte-level vocabulary that is no whole character is spelled with U+FFFD, which is a symbol.
        text = "" if spelled is None else self._tokenizer.convert_tokens_to_string([spelled])
        return TokenRole.TEXT if says_something(text.removeprefix(self._prefix)) else TokenRole.PUNCTUATION


def says_something(text: str) -> bool:
    """Whether a text holds a letter, a digit or a symbol (an emoji, ``+``, ``$``), and not only punctuation and blanks.

    Example:
        >>> says_something("C"), says_something("++"), says_something(" ?!"), says_something("😀")
        (True, True, False, True)
    """
    return any(_is_content(character) for character in text)


def _is_content(character: str) -> bool:
    category = unicodedata.category(character)
    # Modifier symbols (Sk) are accents without a letter: ` and ^.
    content = category[0] in "LNM" or category in ("Sm", "Sc", "So") or character in _NAMING
    return content and ord(character) not in _VARIATION_SELECTORS
