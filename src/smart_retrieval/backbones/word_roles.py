"""Which tokens of a text begin or continue a word, which are punctuation, which stand for what no vocabulary holds."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np

from ..core.roles import WORD_ROLES, TokenRole, has_role
from ..types import Array

# Unicode counts them as punctuation, but they tell C# from C, R&D from RD, 50 % from 50.
_NAMING = frozenset("#&%@")
# How vocabularies spell the blank before a word: SentencePiece, and byte-level BPE.
_WORD_STARTS = ("\u2581", "\u0120")
# Scripts without blanks between words: nobody knows where those begin, so that each token counts as one.
_WITHOUT_BLANKS = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
# They choose how the character before them is drawn.
_VARIATION_SELECTORS = range(0xFE00, 0xFE10)


class WordRoles:
    """The roles of tokens that stand in a text; each vocabulary id is judged once, when it is first met."""

    def __init__(self, tokenizer: Any, special_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        unknown = getattr(tokenizer, "unk_token_id", None)
        self._unknown = None if unknown in special_ids else unknown
        # How word pieces that go on with a word are marked ("##" in BERT's vocabularies), or those that begin one.
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._prefix = getattr(getattr(backend, "model", None), "continuing_subword_prefix", None) or ""
        starts = [mark for mark in _WORD_STARTS if backend is not None and backend.token_to_id(f"{mark}a") is not None]
        self._start = starts[0] if starts and not self._prefix else ""
        self._roles: Array = np.zeros(0, np.uint8)  # of each id; SPECIAL, which is 0, is not judged yet

    def __call__(self, ids: Array) -> Array:
        """The roles of vocabulary ids, uint8 of the same shape: TEXT, CONTINUATION, PUNCTUATION or UNKNOWN."""
        known = self._roles
        if (size := int(ids.max(initial=-1)) + 1) > len(known):
            known = np.zeros(max(size, len(self._tokenizer)), np.uint8)
            known[: len(self._roles)] = self._roles
        for token in np.unique(ids[known[ids] == 0]).tolist():
            known[token] = self._role_of(token)
        self._roles = known
        roles: Array = known[ids]
        return roles

    def fill(self, roles: Array, ids: Array) -> None:
        """Tell the words of texts apart: roles ``[..., T]`` that are TEXT become those of their ids, in place.

        What continues no word stands at the beginning of one: behind punctuation, a prompt, a placeholder.
        """
        text = roles == int(TokenRole.TEXT)
        roles[text] = self(ids[text])
        words = has_role(roles, WORD_ROLES)
        first = roles == int(TokenRole.CONTINUATION)
        first[..., 1:] &= ~words[..., :-1]
        roles[first] = int(TokenRole.TEXT)

    def _role_of(self, token: int) -> TokenRole:
        if token == self._unknown:
            return TokenRole.UNKNOWN
        spelled = self._tokenizer.convert_ids_to_tokens(token)
        # A piece of a byte-level vocabulary that is no whole character is spelled with U+FFFD, which is a symbol.
        text = "" if spelled is None else self._tokenizer.convert_tokens_to_string([spelled])
        if not says_something(word := text.removeprefix(self._prefix)):
            return TokenRole.PUNCTUATION
        goes_on = spelled.startswith(self._prefix) if self._prefix else not spelled.startswith(self._start)
        return TokenRole.CONTINUATION if goes_on and _can_go_on(word[0]) else TokenRole.TEXT


def says_something(text: str) -> bool:
    """Whether a text holds a letter, a digit or a symbol (an emoji, ``+``, ``$``), and not only punctuation and blanks.

    Example:
        >>> says_something("C"), says_something("++"), says_something(" ?!"), says_something("😀")
        (True, True, False, True)
    """
    return any(_is_content(character) for character in text)


def _can_go_on(character: str) -> bool:
    """Whether a token that begins so may continue a word: letters and digits, where blanks tell words apart."""
    alike = unicodedata.category(character)[0] in "LNM"
    return alike and not unicodedata.name(character, "").startswith(_WITHOUT_BLANKS)


def _is_content(character: str) -> bool:
    category = unicodedata.category(character)
    # Modifier symbols (Sk) are accents without a letter: ` and ^.
    content = category[0] in "LNM" or category in ("Sm", "Sc", "So") or character in _NAMING
    return content and ord(character) not in _VARIATION_SELECTORS
