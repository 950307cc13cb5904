"""Encodes one text query at a time with an exported model."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from ...backbones.text_roles import text_roles, within_prompt
from ...backbones.word_roles import WordRoles
from ...core.roles import kept_rows
from ...embeddings import SmartEmbeddings
from ...inputs import Item
from ..assembling import assembled
from .entry import Entry, EntryKey, UntrustedEntryError, read_entry, switched_off
from .runtime import load_run
from .tokenizer import LightTokenizer


class LightEncoder:
    """An exported model: the same tokens, roles and (within 1e-5) vectors as the model's ``encode_query`` gives.

    Args:
        entry: A trusted entry of the cache.
    """

    def __init__(self, entry: Entry) -> None:
        self._about = about = entry.about
        self.tokenizer = LightTokenizer(entry.tokenizer, about["unk_token_id"])
        self.tokenizer.backend_tokenizer.encode_special_tokens = about["encode_special_tokens"]
        self.special_ids = frozenset(about["special_ids"])
        self.word_roles = WordRoles(self.tokenizer, self.special_ids)
        self._run = load_run(about["runtime"], entry.exported, about["inputs"])

    def encode_query(self, item: Item) -> SmartEmbeddings | None:
        """The encoding of a text; None of what has to be left to the model itself."""
        about = self._about
        if item.modalities != {"text"} or item.instruction is not None:
            return None
        text = (about["prompt"] or "") + item.text
        encoding = self.tokenizer.encode(text)
        if len(encoding.ids) > about["longest"]:
            return None  # longer than what was compared with the model
        ids, attended = np.array([encoding.ids], np.int64), np.array([encoding.attention_mask], np.int64)
        prefix = within_prompt([encoding], attended, about["prompt"])
        template, usual, suffix = about["around"]
        around = (template, usual, suffix)
        roles = text_roles(ids, attended, around, self.special_ids, self.word_roles, prefix=prefix)
        kept = kept_rows(roles, about["token_filter"]) & attended.astype(bool)
        if about["token_filter"] == "paper" and not kept.any():
            return None  # the anchor stands in
        features: dict[str, Any] = {
            "input_ids": ids, "attention_mask": attended, "token_type_ids": np.array([encoding.type_ids], np.int64)
        }  # fmt: skip
        anchor, vectors = self._run({name: features[name] for name in about["inputs"]})
        limit = about["max_length"]
        cut = self.tokenizer.full_length(text) - limit if limit is not None and ids.size >= limit else 0
        encoded = assembled(
            [(0, item)], anchor, vectors[kept], ids=ids, roles=roles, kept=kept, cut=[max(0, cut)],
            tokenizer=self.tokenizer,
        )  # fmt: skip
        encoded.report.warn("queries", limit)
        return encoded


def find_light_encoder(key: EntryKey) -> LightEncoder | None:
    """The exported model of a key, if there is one that can be trusted; whatever is wrong with it, torch is right."""
    with suppress(UntrustedEntryError, OSError):
        folder = None if switched_off() else key.folder()
        entry = None if folder is None else read_entry(folder)
        if entry is not None and "refused" not in entry.about:
            # Checked by its checksum, it fails to load only where a library behaves differently than when it was made.
            with suppress(Exception):
                return LightEncoder(entry)
    return None
