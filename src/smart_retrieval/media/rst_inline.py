"""reStructuredText within a line: roles, references and emphasis reduced to the words a reader sees."""

from __future__ import annotations

import re
from collections.abc import Mapping

# Bounded repeats: an opening mark without its closing one must not make a long line quadratic.
_MARKS = re.compile(
    r"""
    ``(?P<literal>[^\n].{0,999}?)``(?!`)
  | (?P<role>:[A-Za-z][\w:.+-]{0,60}:)?`(?P<quoted>[^`]{1,1000})`(?::[A-Za-z][\w:.+-]{0,60}:|__?)?
  | (?<![\w*])\*\*(?=\S)(?P<strong>[^*]{1,1000}?)(?<=\S)\*\*(?!\w)
  | (?<![\w*\\])\*(?=\S)(?P<emphasis>[^*]{1,1000}?)(?<=\S)\*(?![\w*])
  | (?<![\w|])\|(?P<name>[^\s|](?:[^|\n]{0,98}[^\s|])?)\|_{0,2}
  | (?P<note>\[(?:\#?[\w.-]{0,60}|\*)\])_(?!\w)
  | (?<![\w:.`])(?P<reference>[^\W_](?:[\w.-]{0,98}[^\W_])?)__?(?![\w`])
  | \\(?P<escaped>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_TARGET = re.compile(r"^(.*\S)\s*<[^<>]+>$", re.DOTALL)


def plain_inline(text: str, substitutions: Mapping[str, str] | None = None) -> str:
    """Remove inline marks from text.

    Args:
        text: One paragraph.
        substitutions: What ``|name|`` stands for; unknown names stay.

    Example:
        >>> plain_inline("See :func:`rotate <logs.rotate>` and *docs_* of ``*args`` `here <https://a.org>`_.")
        'See rotate and docs_ of *args here.'
    """

    def replacement(match: re.Match[str]) -> str:
        kind = match.lastgroup
        found = match[kind] if kind else ""
        if match["quoted"] is not None:
            target = _TARGET.match(match["quoted"])
            return target[1] if target else match["quoted"].lstrip("~!")
        if kind == "name":
            return (substitutions or {}).get(found, match[0])
        if kind == "escaped":
            return "" if found.isspace() else found
        return found

    return _MARKS.sub(replacement, text)
