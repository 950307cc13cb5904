"""The role of every position of a text model's input: one rule, with torch and without it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ..core.roles import TokenRole
from ..types import Array
from .word_roles import WordRoles


def text_roles(
    ids: Array,
    attended: Array,
    around: tuple[int, int, int],
    special_ids: Collection[int],
    word_roles: WordRoles,
    *,
    prefix: Array | int | None = None,
    kinds: Array | None = None,
) -> Array:
    """Roles ``[B, T]`` uint8 of ids ``[B, T]``; padding counts as special.

    ``around`` are positions of the template in front, of template and prompt in front, and of the template behind;
    ``prefix`` replaces the second where it is told for each item, ``[B, 1]``. ``kinds`` marks pictures
    1, videos 2, sound 3.
    """
    template, usual, suffix = around
    attended = attended.astype(bool)
    position = attended.cumsum(axis=1) - 1
    length = attended.sum(axis=1, keepdims=True)
    roles: Array = np.full(ids.shape, int(TokenRole.TEXT), np.uint8)
    roles[position < (usual if prefix is None else prefix)] = int(TokenRole.PROMPT)
    roles[(position < template) | (position >= length - suffix)] = int(TokenRole.TEMPLATE)
    roles[np.isin(ids, sorted(special_ids)) | ~attended] = int(TokenRole.SPECIAL)
    if kinds is not None:
        roles[kinds == 1] = int(TokenRole.IMAGE)
        roles[kinds == 2] = int(TokenRole.VIDEO)
        roles[kinds == 3] = int(TokenRole.AUDIO)
    word_roles.fill(roles, ids)
    return roles


def within_prompt(encodings: Sequence[Any] | None, attended: Array, prompt: str | None) -> Array | None:
    """Positions in front of each text that end within the prompt, ``[B, 1]``; None where that is not told.

    A token that reaches into the user's text belongs to it. ``encodings`` are those of the library ``tokenizers``.
    """
    if not prompt or not encodings:
        return None
    ends = np.array([[stop for _, stop in encoding.offsets] for encoding in encodings])
    # The first ones only: special tokens behind the text stand nowhere in it, too.
    inside = np.cumprod(ends <= len(prompt), axis=1).astype(bool)
    counts: Array = (inside & attended.astype(bool)).sum(axis=1, keepdims=True)
    return counts
