"""What an index encodes with: the model it was made with, and the codec of its token vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from ..backbones.checkpoints import REMOTE_PATHS, as_recorded, is_at_hand, settled_name
from ..core.presets import PRESETS
from ..core.readout import Readout
from ..embeddings import SmartEmbeddings
from ..errors import (
    EmptyInputError,
    IndexDamagedError,
    IndexMismatchError,
    ModelNotFoundError,
    NonFiniteError,
    SmartError,
)
from ..inputs import Frames, ImageSource, Item, Sound, SoundSource, VideoSource, item_of
from ..locks import ForkLock
from ..model.light.encoder import LightEncoder, find_light_encoder
from ..model.light.entry import EntryKey
from .codec.base import Codec
from .document_store import DocumentStore
from .store.records import Vectors
from .text.folding import clean_item, fold_item

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..backbones.backbone import Backbone
    from ..model.smart_model import SmartModel

OneQuery: TypeAlias = (
    "str | Item | Mapping[str, Any] | Path | ImageSource | VideoSource | Frames | SoundSource | Sound | Image"
)

#: What knows a model's vocabulary: ``tokenizer``, ``word_roles`` and ``special_ids``.
Vocabulary: TypeAlias = "LightEncoder | Backbone"

# Limits of what a model sees, and of the anchor; part of its identity, since other limits give other vectors.
LIMITS = ("max_visual_tokens", "max_frames", "video_budget", "truncate_dim")
# What else tells two models of the same weights apart, where they have it.
_RECIPE = ("family", *LIMITS)


def load_model(
    name: str, identity: Mapping[str, Any] | None = None, preset: str = "default", *, local: bool = False
) -> SmartModel:
    """A model by name, with those parts of an identity that distinguish models of one name.

    These are the family, the revision, its limits, a shortened anchor, and the pooling where a user chose it; or only
    some of them for a new index, and the device. With ``local``, nothing is asked of a hub.
    """
    from ..model.smart_model import SmartModel

    given = identity or {}
    if given:
        given = {"video_budget": "usual", **given}
    own = ("revision", "max_length", "device", *LIMITS)
    options: dict[str, Any] = {key: given[key] for key in own if given.get(key) is not None}
    if "fingerprint" in given:  # not only what a new index is given
        options |= as_recorded(given)
    else:
        options |= {key: given[key] for key in ("family", "pooling") if given.get(key) is not None}
    return SmartModel(name, preset=preset, local_files_only=local or None, **options)


@dataclass(frozen=True)
class EncodedItem(Item):
    """A query that is encoded already, whose words are still there for full text, reranking and explanations."""

    encoded: SmartEmbeddings | None = field(default=None, repr=False, compare=False)


class IndexEncoder:
    """The model of an index, loaded under its recorded name when it is first needed, and the codec of its store."""

    def __init__(self, store: DocumentStore, model: SmartModel | str | None = None, device: str | None = None) -> None:
        self._store, self.device = store, device
        self._codec: tuple[int, Codec] | None = None
        self._loading = ForkLock()
        name = str(store.manifest.model.get("name", ""))
        # A relative path, in indexes of version 0.1.0, means what it means now.
        self._recorded = name if name.startswith(REMOTE_PATHS) else settled_name(name)
        # Looked for when a query is to be encoded: a model without torch, False where there is none.
        self._light: LightEncoder | Literal[False] | None = None
        self._documents: SmartModel | None = None
        #: The model that it was opened with, by name where it need not be loaded to know that it is the right one.
        self.given: SmartModel | str | None = model
        #: The model given, or else the one loaded under the name given or recorded.
        self.loaded: SmartModel | None = None
        if isinstance(model, str):
            self._recorded = settled_name(model)
        if model is not None and not (isinstance(model, str) and self.light() is not None):
            self.given = self.loaded = self._checked(model)

    def model(self) -> SmartModel:
        """The model; see :attr:`SmartIndex.model`."""
        with self._loading.held:
            if self.loaded is None:
                name = self._recorded
                if self.given is None and not is_at_hand(name, self._store.manifest.model.get("revision")):
                    raise ModelNotFoundError(
                        f"index {str(self._store.path)!r}: it was made with model {name!r}, of which there is no "
                        "folder and nothing in the local cache; an index does not decide who is asked for a model: "
                        "name it yourself, with --model NAME or SmartIndex.open(path, model=...), to fetch it"
                    )
                self.loaded = self._checked(name, local=self.given is None)
            return self.loaded

    def document_model(self) -> SmartModel:
        """The model as it encodes documents: in what they were computed in so far, where that is no slower here."""
        model, wanted = self.model(), self._store.manifest.model.get("compute", "float32")
        with self._loading.held:
            if self._documents is None:
                same = model.computing.name == wanted
                self._documents = model if same else model.with_compute("auto" if wanted == "bfloat16" else wanted)
            return self._documents

    def light(self) -> LightEncoder | None:
        """What encodes the queries without torch; None where the model does, as it always does once it was loaded."""
        if self._light:
            return self._light  # while the model itself is loaded, perhaps, to write
        with self._loading.held:
            if self._light is None:
                self._light = False if self.loaded is not None else find_light_encoder(self._key()) or False
            return self._light or None

    def export(self, announce: Callable[[str], object] = lambda line: None) -> tuple[bool, str] | None:
        """Export the model, if it is loaded, so that later processes encode text queries without it.

        Args:
            announce: Told in one line what begins, if anything does; it takes some seconds.

        Returns:
            Whether there is a new export, and a line that says so or why not; None where there was nothing to do.
        """
        if self._light or self.loaded is None:
            return None
        from ..model.light.export import export_light

        return export_light(self.loaded.with_compute("float32"), self._key(), announce)

    def adopt(self, other: IndexEncoder) -> None:
        """Use what another index has loaded, instead of loading it again, if both were made with the same model."""
        preset = [one.limits.get("preset") for one in (self._store.manifest, other._store.manifest)]
        if self._key() == other._key() and preset[0] == preset[1]:
            self.loaded, self._light = self.loaded or other.loaded, self._light or other._light

    def _key(self) -> EntryKey:
        manifest = self._store.manifest
        identity = {key: value for key, value in manifest.model.items() if key not in ("name", "compute")}
        return EntryKey(self._recorded, {**identity, "readout": manifest.readout, "prompts": manifest.prompts})

    def vocabulary(self) -> Vocabulary:
        """What spells tokens: of what encodes the queries."""
        return self.light() or self.model().backbone

    def _checked(self, model: SmartModel | str, *, local: bool = False) -> SmartModel:
        """The model if it is the one that the index was made with; the error names every difference."""
        manifest = self._store.manifest
        readout, named = Readout.from_dict(manifest.readout), isinstance(model, str)
        if isinstance(model, str):
            identity, preset = {**manifest.model, "device": self.device}, str(manifest.limits.get("preset", "default"))
            model = load_model(model, identity, preset, local=local)
        # An index of version 0.1, which records no scoring, reads other layers than the default of today.
        of_0_1 = not manifest.scoring and model.readout == PRESETS["default"].readout
        if model.readout != readout and (named or of_0_1):
            model = model.with_readout(readout)
        identity = model.identity()
        found = {key: identity[key] for key in ("fingerprint", "pooling", "max_length")}
        found |= {
            key: identity.get(key) for key in (*_RECIPE, "anchor_layer") if key in identity or key in manifest.model
        }
        # Of both sides' prompts: one that only the index knows makes a difference, too.
        prompts = {name: identity["prompts"].get(name) for name in {*identity["prompts"], *manifest.prompts}}
        manifest.require(model=found, readout=identity["readout"], prompts=prompts)
        recorded, states = manifest.limits.get("states"), model.backbone.states_sample()
        if recorded is not None and states is not None:
            from ..backbones.served import same_states

            if not same_states(recorded, states):
                raise IndexMismatchError(
                    f"index {str(self._store.path)!r}: found that {model.name!r} gives other token states than the "
                    "server that its documents were encoded with; serve the same weights, or index the documents again"
                )
        return model

    def encode_queries(self, queries: Sequence[Any] | SmartEmbeddings) -> tuple[list[str] | None, SmartEmbeddings]:
        """The queries' texts (``""`` where one has none; None of encoded queries), and their encodings."""
        if isinstance(queries, SmartEmbeddings):
            if not len(queries):
                raise EmptyInputError("found no query, expected at least one")
            if not (np.isfinite(queries.anchors).all() and np.isfinite(queries.token_vectors).all()):
                raise NonFiniteError("found NaN or infinity in the encoded queries, expected finite numbers")
            self.check_widths(queries)
            return None, queries
        items = [_as_query(query, position) for position, query in enumerate(queries)]
        if not items:
            raise EmptyInputError("found no query, expected at least one")
        found = dict(self._encoded_each(items))
        encoded = SmartEmbeddings.concatenate([found[place] for place in range(len(items))])
        self.check_widths(encoded)
        return [item.text for item in items], encoded

    def encoded(self, query: Any) -> EncodedItem:
        """A query with its encoding, for searches that may run in another thread."""
        return _with_encoding(query, self.encode_queries([query])[1])

    def encoded_each(self, queries: Sequence[Any]) -> Iterator[tuple[int, EncodedItem | SmartError]]:
        """Each query's place, and what :meth:`encoded` gives or raises, as soon as it is known."""
        left = dict(enumerate(queries))
        try:
            items = [_as_query(query) for query in queries]
            for place, encoded in self._encoded_each(items):
                self.check_widths(encoded)
                yield place, _with_encoding(left.pop(place), encoded)
        except SmartError:  # of one of them, which is found by asking for each
            for place, query in left.items():
                try:
                    yield place, self.encoded(query)
                except SmartError as error:
                    yield place, error

    def _encoded_each(self, items: Sequence[Item]) -> Iterator[tuple[int, SmartEmbeddings]]:
        """Each item's place and encoding, to the bit as it is alone: last bits decide ties."""
        own = list[int]()
        for place, item in enumerate(items):
            if isinstance(item, EncodedItem) and item.encoded is not None:
                yield place, item.encoded
            else:
                own.append(place)
        folded, light = [self.folded(items[place]) for place in own], self.light() if own else None
        found = enumerate([None] * len(own)) if light is None else light.encode_queries(folded)
        for number, encoded in found:
            if encoded is None:
                encoded = self.model().encode_query(folded[number], show_progress=False)
            yield own[number], encoded

    def folded(self, item: Item) -> Item:
        """What is encoded of an item: its text without compatibility forms, unless the index keeps them."""
        return fold_item(item) if self._store.manifest.folding else item

    def codec(self) -> Codec:
        """The codec of the newest commit, read again after ``optimize`` changed it here or in another process."""
        store = self._store
        if store.generation != store.state().generation:
            store.reload()
        if self._codec is None or self._codec[0] != store.generation:
            codec, manifest = Codec.from_bytes(store.codec()), store.manifest
            if codec.bytes_per_token != manifest.code_width or codec.anchor_dim not in (None, manifest.anchor_dim):
                if store.generation != store.state().generation:
                    return self.codec()  # another process has changed it meanwhile
                raise IndexDamagedError(
                    f"index {str(store.path)!r}: found codec {codec.name!r} of {codec.bytes_per_token} bytes a token, "
                    f"expected the one of its {manifest.code_width} bytes a token; restore a copy"
                )
            self._codec = (store.generation, codec)
        return self._codec[1]

    def check_widths(self, encoded: SmartEmbeddings) -> None:
        """Refuse embeddings of another model or readout."""
        # Whatever codec the index has by now, it is one of as many dimensions.
        codec = self.codec() if self._codec is None else self._codec[1]
        expected = (self._store.manifest.anchor_dim, codec.token_dim)
        found = (encoded.anchor_dim, encoded.token_dim)
        if found != expected:
            raise IndexMismatchError(
                f"index {str(self._store.path)!r}: found embeddings of {found[0]} (anchor) and {found[1]} (token) "
                f"dimensions, expected {expected[0]} and {expected[1]}: encode with the index's model and readout"
            )


def _as_query(query: Any, position: int = 0) -> Item:
    item = clean_item(item_of(query, position))
    if not item.text.strip() and item.modalities == {"text"}:
        raise EmptyInputError("found an empty query, expected some words or a picture")
    return item


def _with_encoding(query: Any, encoded: SmartEmbeddings) -> EncodedItem:
    item = item_of(query)
    return EncodedItem(**{part.name: getattr(item, part.name) for part in fields(Item)}, encoded=encoded)


def decode_vectors(codec: Codec, vectors: Vectors) -> SmartEmbeddings:
    """Stored vectors as embeddings, without token ids where tokens were pooled: which is whose is not kept."""
    anchors = np.repeat(vectors.anchors, np.diff(vectors.offsets), axis=0) if codec.anchor_dim is not None else None
    pooled = not np.array_equal(vectors.offsets, vectors.id_offsets)
    tokens = codec.decode(vectors.codes, anchors)
    return SmartEmbeddings(vectors.anchors, tokens, vectors.offsets, None if pooled else vectors.token_ids)
