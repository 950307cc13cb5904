"""Compatibility forms of characters as the ordinary ones: full-width letters, ligatures, Arabic presentation forms.

They are other ways to write the same text, common in PDF files and old East Asian and Arabic data, and neither a
model's vocabulary nor a full-text index knows that. NFKC knows, but goes too far (x² becomes x2, ½ becomes 1⁄2, ™
becomes TM), so it is applied within some blocks of Unicode only; that of Unicode 3.2, which never changes: a text folds
to the same under every Python, and FTS5 must be given the text that was added to take it out again.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import replace

from ...documents.sections import clean_text
from ...inputs import Item

_BLOCKS = (
    "\u2f00-\u2fdf"  # Kangxi radicals, which PDF files put in place of ideographs
    "\u3300-\u33ff"  # CJK compatibility: units in one square
    "\uf900-\ufaff\U0002f800-\U0002fa1f"  # CJK compatibility ideographs
    "\ufb00-\ufb4f"  # Latin, Armenian and Hebrew ligatures and presentation forms
    "\ufb50-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc"  # Arabic presentation forms
    "\ufe10-\ufe1f\ufe30-\ufe6f"  # vertical and small forms
    "\uff00-\uffef"  # full-width and half-width forms
    "\U0001d400-\U0001d7ff"  # mathematical alphabets
)
# Half-width Katakana carries its voicing mark behind it; the two are one letter.
_FORMS = re.compile(f"[{_BLOCKS}][\uff9e\uff9f]?")
_PIECES = re.compile(f"{_FORMS.pattern}|.", re.DOTALL)
Span = tuple[int, int]


def fold(text: str) -> str:
    """The text with compatibility forms replaced; everything else stays as it is, letter case too.

    Example:
        >>> fold("ｆｕｌｌ ｗｉｄｔｈ, ﬁne, ｶﾞ, x², ½, ™")
        'full width, fine, ガ, x², ½, ™'
    """
    return text if text.isascii() else _FORMS.sub(_ordinary, text)


def _ordinary(form: re.Match[str]) -> str:
    return unicodedata.ucd_3_2_0.normalize("NFKC", form[0])


def clean_item(item: Item) -> Item:
    """An item with its text as readers of files give it: without characters that are not seen."""
    cleaned = clean_text(item.text)
    return item if cleaned == item.text else replace(item, text=cleaned)


def fold_item(item: Item) -> Item:
    """An item with its text folded; the instruction is the user's prompt and stays."""
    folded = fold(item.text)
    return item if folded == item.text else replace(item, text=folded)


def stored_spans(text: str, spans: Iterable[Span | None]) -> list[Span | None]:
    """Where parts of ``fold(text)`` stand in the text itself, from and to; a part of a ligature is all of it.

    Example:
        >>> fold("aﬁx"), stored_spans("aﬁx", [(1, 2), (2, 4), None])
        ('afix', [(1, 2), (1, 3), None])
    """
    # Of each character of the folded text, what it comes from.
    origins: list[Span] = []
    for piece in _PIECES.finditer(text):
        origins += [piece.span()] * len(fold(piece[0]))
    origins.append((len(text), len(text)))
    return [span and (origins[span[0]][0], origins[max(span[0], span[1] - 1)][1]) for span in spans]
