"""Encodes text queries with an exported model."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from ...backbones.text_roles import text_roles, within_prompt
from ...backbones.word_roles import WordRoles
from ...core.roles import kept_rows
from ...embeddings import SmartEmbeddings
from ...inputs import Item
from ...types import Array
from ..assembling import assembled
from .entry import Entry, EntryKey, UntrustedEntryError, read_entry, switched_off
from .runtime import import_runtime, load_runs
from .tokenizer import LightTokenizer

# Of texts that are run together: the least share of the longest one's tokens, and their tokens with padding.
_LEAST_SHARE, _PADDED_TOKENS = 0.7, 512


class _Text(NamedTuple):
    """A query's tokens, arrays ``[1, T]``."""

    text: str
    ids: Array
    roles: Array
    kept: Array
    features: dict[str, Array]


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
        self._run, self._pool = load_runs(about["runtime"], entry.exported, about["inputs"])

    def encode_query(self, item: Item) -> SmartEmbeddings | None:
        """The encoding of a text; None of what has to be left to the model itself."""
        ((_, encoded),) = self.encode_queries([item])
        return encoded

    def encode_queries(
        self, items: Sequence[Item], *, batched: bool | None = None
    ) -> Iterator[tuple[int, SmartEmbeddings | None]]:
        """Each item's place and encoding as soon as it is known, the very same as of :meth:`encode_query`.

        Texts of like lengths are run together where that does not change a bit, as was tried with this export.

        Args:
            items: The queries.
            batched: Whether they are; as was tried if None.
        """
        texts = [self._prepared(item) for item in items]
        own = {place: text for place, text in enumerate(texts) if text is not None}
        together = self._about["batched"] if batched is None else batched
        for places in _alike({place: text.ids.size for place, text in own.items()}, together):
            found = self._computed([own[place] for place in places])
            for place, anchor, vectors in zip(places, *found, strict=True):
                yield place, self._assembled(items[place], own[place], anchor, vectors)
        yield from ((place, None) for place, text in enumerate(texts) if text is None)  # last: they take longer

    def _prepared(self, item: Item) -> _Text | None:
        """A text's tokens; None of what has to be left to the model itself."""
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
        types = np.array([encoding.type_ids], np.int64)
        return _Text(text, ids, roles, kept, {"input_ids": ids, "attention_mask": attended, "token_type_ids": types})

    def _computed(self, texts: list[_Text]) -> tuple[list[Array], list[Array]]:
        """Anchors ``[1, Da]`` and vectors of all positions ``[T, Dt]`` of texts that are padded together."""
        longest = max(text.ids.size for text in texts)

        def padded(name: str) -> Array:
            rows = np.zeros((len(texts), longest), np.int64)
            for row, text in zip(rows, texts, strict=True):
                row[: text.ids.size] = text.features[name][0]
            return rows

        states, vectors = self._run({name: padded(name) for name in self._about["inputs"]})
        anchors = list[Array]()
        for row, text in enumerate(texts):  # one by one: sums over several texts go another way, and have other bits
            mask = text.features["attention_mask"]
            anchors += self._pool({"states": states[row : row + 1, : text.ids.size], "attention_mask": mask})
        return anchors, [found[: text.ids.size] for found, text in zip(vectors, texts, strict=True)]

    def _assembled(self, item: Item, text: _Text, anchor: Array, vectors: Array) -> SmartEmbeddings:
        limit = self._about["max_length"]
        cut = self.tokenizer.full_length(text.text) - limit if limit is not None and text.ids.size >= limit else 0
        encoded = assembled(
            [(0, item)], anchor, vectors[text.kept[0]], ids=text.ids, roles=text.roles, kept=text.kept,
            cut=[max(0, cut)], tokenizer=self.tokenizer,
        )  # fmt: skip
        encoded.report.warn("queries", limit)
        return encoded


def _alike(lengths: Mapping[int, int], together: bool) -> Iterator[list[int]]:
    """Groups of texts whose lengths differ little, the longest first."""
    group, tokens = list[int](), 0
    for place in sorted(lengths, key=lengths.__getitem__, reverse=True):
        longest = lengths[group[0]] if group else 0
        if group and not (together and lengths[place] >= _LEAST_SHARE * longest and tokens + longest <= _PADDED_TOKENS):
            yield group
            group, tokens, longest = [], 0, 0
        group.append(place)
        tokens += longest or lengths[place]
    if group:
        yield group


def find_light_encoder(key: EntryKey) -> LightEncoder | None:
    """The exported model of a key, if there is one that can be trusted; whatever is wrong with it, torch is right."""
    with suppress(UntrustedEntryError, OSError):
        folder = None if switched_off() else key.folder()
        if folder is None or not folder.exists():
            return None
        # Beside the reading, which lets go of Python's lock.
        importing = threading.Thread(target=import_runtime, name="smart-import", daemon=True)
        importing.start()
        try:
            entry = read_entry(folder)
        finally:
            importing.join()
        if entry is not None and "refused" not in entry.about:
            # Checked by its checksum, it fails to load only where a library behaves differently than when it was made.
            with suppress(Exception):
                return LightEncoder(entry)
    return None
