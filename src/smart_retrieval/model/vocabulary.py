"""Queries made of a tokenizer's own words: related to no document, and there for every model."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backbones.tokenizing import tokenize

_QUERIES, _WORDS = 64, 8
_SEED = 20260524
_SHORTEST = 3  # letters


def vocabulary_queries(tokenizer: Any) -> list[str]:
    """64 queries of 8 words each, drawn from the whole words of the vocabulary; the same for the same tokenizer."""
    random = np.random.default_rng(_SEED)
    words: list[str] = []
    for number in random.permutation(len(tokenizer)).tolist():
        word = tokenizer.decode([number]).strip()
        # As the second of two words, which is written with what marks the start of a word.
        if len(word) >= _SHORTEST and word.isalpha() and number in _ids(tokenizer, f"{word} {word}"):
            words.append(word)
            if len(words) == _QUERIES * _WORDS:
                break
    if not words:
        return []
    rows = random.permutation(np.resize(words, _QUERIES * _WORDS)).reshape(_QUERIES, _WORDS)
    return [" ".join(row) for row in rows.tolist()]


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenize(tokenizer, text)["input_ids"]
    return ids
