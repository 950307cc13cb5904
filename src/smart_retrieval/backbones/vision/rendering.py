"""From an item's parts to token ids, the role of each, and the places of its visual tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.roles import TokenRole
from ...errors import EmptyInputError
from ...types import Array
from ..tokenizing import tokenize
from ..word_roles import WordRoles
from .family import VIDEO_BLOCK, Part

IMAGE_PAD, VIDEO_PAD = "<|image_pad|>", "<|video_pad|>"
_OWN_WORDS = (TokenRole.TEXT, TokenRole.PROMPT)


@dataclass(frozen=True)
class Rendered:
    """One item as the model sees it."""

    ids: Array  # [T] int64
    roles: Array  # [T] uint8
    cut: int  # text tokens that were left out to fit the limit


class Renderer:
    """Renders parts with a fast tokenizer that has Qwen-VL's special tokens."""

    def __init__(self, tokenizer: Any, special_ids: frozenset[int]) -> None:
        self.tokenizer = tokenizer
        self.image_id, self.video_id = tokenizer.convert_tokens_to_ids([IMAGE_PAD, VIDEO_PAD])
        self.special = np.array(sorted(special_ids - {self.image_id, self.video_id}), np.int64)
        self._word_roles = WordRoles(tokenizer, special_ids)
        self._special_words = tuple(tokenizer.get_added_vocab())

    def render(self, parts: Sequence[Part], visual_tokens: Sequence[int], limit: int | None, position: int) -> Rendered:
        """Tokens and roles of one item; ``visual_tokens`` are the numbers of tokens of its placeholders.

        Text is cut off at its end to fit the limit; an error where the visual tokens alone are more than that.
        ``position`` is the item's place in its batch, for the message.
        """
        ids, roles = self._tokenised(parts)
        roles[np.isin(ids, self.special)] = int(TokenRole.SPECIAL)
        ids, roles = self._expanded(ids, roles, visual_tokens)
        cut = 0 if limit is None else max(0, len(ids) - limit)
        if cut:
            words = np.flatnonzero(roles == int(TokenRole.TEXT))
            if len(words) < cut:
                raise EmptyInputError(
                    f"item {position} of its batch: found {len(ids)} tokens, {sum(visual_tokens)} of them visual, "
                    f"expected at most {limit}: lower max_visual_tokens or max_frames, or raise max_length"
                )
            left = np.delete(np.arange(len(ids)), words[-cut:])
            ids, roles = ids[left], roles[left]
        self._word_roles.fill(roles, ids)
        return Rendered(ids, roles, cut)

    def count(self, parts: Sequence[Part]) -> int:
        """How many tokens parts without placeholders have."""
        return len(self._tokenised(parts)[0])

    def _tokenised(self, parts: Sequence[Part]) -> tuple[Array, Array]:
        spoofed = any(part.role in _OWN_WORDS and self._holds_special(part.text) for part in parts)
        return self._piecewise(parts) if spoofed else self._whole(parts)

    def _holds_special(self, text: str) -> bool:
        return "<" in text and any(word in text for word in self._special_words)

    def _whole(self, parts: Sequence[Part]) -> tuple[Array, Array]:
        """Tokenise the string as one, since tokens may cross from one part into the next."""
        spelled = [part for part in parts if part.text]
        whole = "".join(part.text for part in spelled)
        encoded = tokenize(self.tokenizer, whole, return_offsets_mapping=True)
        by_character = np.repeat(
            np.array([int(part.role) for part in spelled], np.uint8), [len(part.text) for part in spelled]
        )
        spans = np.asarray(encoded["offset_mapping"], np.int64).reshape(-1, 2)
        roles = by_character[spans[:, 0]] if len(spans) else np.zeros(0, np.uint8)
        if len(spans):
            last = by_character[np.maximum(spans[:, 1] - 1, spans[:, 0])]
            # A token that reaches into the user's text belongs to it, one that reaches into the prompt to that.
            for role in (TokenRole.PROMPT, TokenRole.TEXT):
                roles = np.where((roles == int(role)) | (last == int(role)), np.uint8(role), roles)
        return np.asarray(encoded["input_ids"], np.int64), roles.astype(np.uint8)

    def _piecewise(self, parts: Sequence[Part]) -> tuple[Array, Array]:
        """Tokenise part by part, so that a special token's name in the user's words stays words."""
        ids: list[int] = []
        roles: list[int] = []
        for part in parts:
            own = tokenize(self.tokenizer, part.text, split_special_tokens=part.role in _OWN_WORDS)["input_ids"]
            ids += own
            roles += [int(part.role)] * len(own)
        return np.array(ids, np.int64), np.array(roles, np.uint8)

    def _expanded(self, ids: Array, roles: Array, visual_tokens: Sequence[int]) -> tuple[Array, Array]:
        """Repeat each placeholder for the visual tokens it stands for."""
        pads = ((ids == self.image_id) & (roles == int(TokenRole.IMAGE))) | (
            (ids == self.video_id) & (roles == int(TokenRole.VIDEO))
        )
        # What stands around a placeholder within its part (<|vision_start|>, a blank) is template.
        around = ((roles == int(TokenRole.IMAGE)) | (roles == int(TokenRole.VIDEO))) & ~pads
        roles[around & (roles != int(TokenRole.SPECIAL))] = int(TokenRole.TEMPLATE)
        repeats = np.ones(len(ids), np.int64)
        repeats[pads] = visual_tokens
        return np.repeat(ids, repeats), np.repeat(roles, repeats)


def timed_video(parts: Sequence[Part], times: Sequence[float]) -> list[Part]:
    """Parts in which a video's one placeholder has become a timestamp and a placeholder for each of its steps."""
    timed: list[Part] = []
    for part in parts:
        if part.role != TokenRole.VIDEO:
            timed.append(part)
            continue
        for seconds in times:
            timed += [Part(TokenRole.TEMPLATE, f"<{seconds:.1f} seconds>"), Part(TokenRole.VIDEO, VIDEO_BLOCK)]
    return timed
