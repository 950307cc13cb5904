"""What the language of the passages decides in the full-text index: stemming and stop words, for English only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain, islice
from typing import Literal

Language = Literal["auto", "english", "other"]
LANGUAGES = ("auto", "english", "other")

# What "auto" decides on. Of words of two letters and more, .33 to .42 are stop words in English prose and .24 to .30 in
# titles; in program messages of many other languages, English fragments included, at most .12, mostly below .05.
ENOUGH_WORDS, ENOUGH_TEXTS = 200, 1000
ENGLISH_SHARE = 0.15

# English words that say nothing of what a text is about, and what is left of their short forms where FTS5 cuts them
# ("don't" is "don" and "t").
_WORDS = """
a about above after again against all also am an and any are aren as at be because been before being below between
both but by can cannot could couldn did didn do does doesn doing don down during each few for from further had hadn
has hasn have haven having he her here hers herself him himself his how i if in into is isn it its itself just ll m
me more most my myself no nor not of off on once only or other our ours ourselves out over own re s same she should
shouldn so some such t than that the their theirs them themselves then there these they this those through to too
under until up ve very was wasn we were weren what when where which while who whom why will with would wouldn you
your yours yourself yourselves
"""
STOP_WORDS = frozenset(_WORDS.split())
_WORD = re.compile(r"[^\W\d_]{2,}")


def language_of(texts: Iterable[str]) -> Language:
    """``"english"`` if 15 % or more of the words are English stop words, ``"auto"`` as long as there are few words.

    It reads the first texts only, of which so many are enough even where they hold no words.

    Example:
        >>> language_of(["The logs of the server are rotated at night, and so are those of the proxy."] * 20)
        'english'
        >>> language_of(["Die Logdateien des Servers werden nachts rotiert, die des Proxys ebenfalls."] * 20)
        'other'
        >>> language_of(["The logs are rotated."])
        'auto'
    """
    read = [_WORD.findall(text.lower()) for text in islice(texts, ENOUGH_TEXTS)]
    words = list(chain.from_iterable(read))
    if len(words) < ENOUGH_WORDS and len(read) < ENOUGH_TEXTS:
        return "auto"
    return "english" if sum(word in STOP_WORDS for word in words) > ENGLISH_SHARE * len(words) else "other"


def without_stop_words(words: Mapping[str, int]) -> Mapping[str, int]:
    """The words that say something; all of them where none does ("to be or not to be").

    Example:
        >>> dict(without_stop_words({"the": 2, "logs": 1})), dict(without_stop_words({"the": 1, "who": 1}))
        ({'logs': 1}, {'the': 1, 'who': 1})
    """
    telling = Counter({word: count for word, count in words.items() if word not in STOP_WORDS})
    return telling or words
