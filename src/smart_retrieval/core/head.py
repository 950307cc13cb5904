"""The token head: from a backbone's features to normalised token vectors and the mask of kept positions."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers.base.modules import Module
from torch import Tensor

from ..errors import UnsupportedModelError
from .readout import Readout
from .roles import MEDIA_ROLES, TokenFilter, TokenRole

if TYPE_CHECKING:
    from .adapter import Adapter

# Written by the backbone's preprocessing beside input_ids: one TokenRole a position, uint8 [B, T].
ROLES_KEY = "token_roles"
# "query" or "document".
SIDE_KEY = "side"
# Written by backbones that pool at places of their own: [B, T] bool.
ANCHOR_MARKS = "anchor_marks"


class TokenHead(Module):
    """Reads token vectors out of hidden states; holds no weights but an adapter's, which then replaces the mix.

    Reads ``token_embeddings`` (or ``all_layer_embeddings``), ``attention_mask``, ``token_roles`` and
    ``sentence_embedding``; writes ``token_vectors`` ``[B, T, Dt]``, each of unit length, and ``kept`` ``[B, T]`` bool.
    ``mark_roles`` finds the roles of features that carry none; ``pooling`` names how the anchor is pooled, and
    ``drops_visual_of_queries`` says whether the paper's filter leaves out the pictures of queries in any case.

    Under the filters ``"paper…"`` an item with no kept position keeps one: its first attended position, where the
    pooled vector stands in (for a backbone whose anchor has another width, the mean of its attended states). Under the
    others it has no token vectors.
    """

    config_keys: list[str] = ["readout"]  # noqa: RUF012 (as its base class declares it)

    def __init__(
        self,
        readout: Readout,
        mark_roles: Callable[[dict[str, Any]], Tensor],
        adapter: Adapter | None = None,
        *,
        pooling: str = "",
        drops_visual_of_queries: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.readout = readout
        self.token_filter = TokenFilter.parse(readout.token_filter)
        self.pooling, self.drops_visual_of_queries = pooling, drops_visual_of_queries
        self.mark_roles = mark_roles
        self.adapter = adapter

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add ``token_vectors`` and ``kept`` to the features."""
        if ROLES_KEY not in features:
            features[ROLES_KEY] = self.mark_roles(features)
        states, kept = self._states(features), self._kept(features)
        if self.adapter is not None and self.adapter.attention:  # only what is kept may look at one another
            flat = self.vectors([state[kept] for state in states], kept.sum(dim=1))
            vectors = flat.new_zeros((*kept.shape, flat.shape[-1]))
            vectors[kept] = flat
        else:
            vectors = self.vectors(states)
        if (bare := self._bare(features, kept)) is not None:
            vectors, kept = vectors.clone(), kept.clone()
            vectors[bare] = self._stand_ins(features, states, vectors)[bare[0]]
            kept[bare] = True
        features["token_vectors"], features["kept"] = vectors, kept
        return features

    def flat(self, features: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """The kept token vectors alone, ``[sum T, Dt]`` float32, and ``kept`` ``[B, T]``: what :meth:`forward` gives.

        Dropped positions and padding are left out before anything is computed of them.
        """
        kept = self._kept(features)
        if self._bare(features, kept) is not None:
            features = self.forward(features)
            return features["token_vectors"][features["kept"]], features["kept"]
        return self.vectors([state[kept] for state in self._states(features)], kept.sum(dim=1)), kept

    def flat_states(self, features: dict[str, Any]) -> tuple[list[Tensor], Tensor]:
        """What :meth:`flat` makes its vectors of: one ``[sum T, H]`` for each layer, and ``kept`` ``[B, T]``."""
        states, kept = self._states(features), self._kept(features)
        if (bare := self._bare(features, kept)) is not None:
            stand_ins = self._stand_in_states(features, states)
            states, kept = [state.clone() for state in states], kept.clone()
            kept[bare] = True
            for state, stand_in in zip(states, stand_ins, strict=True):
                state[bare] = stand_in[bare[0]].to(state.dtype)
        return [state[kept] for state in states], kept

    def width(self, state_size: int) -> int:
        """Dimensions of a token vector, for states of this size."""
        return self.readout.width(state_size) if self.adapter is None else self.adapter.config.width

    def kept_positions(self, roles: Tensor) -> Tensor:
        """Which roles the filter keeps, as a mask of the shape of ``roles``."""
        return _one_of(roles, self.token_filter.kept)

    def _kept(self, features: dict[str, Any]) -> Tensor:
        roles, attended = features[ROLES_KEY], features["attention_mask"].bool()
        kept: Tensor = attended & self.kept_positions(roles)
        visual = attended & _one_of(roles, MEDIA_ROLES)
        chosen = self.token_filter
        drops = chosen.without_query_visual or (chosen.base == "paper" and self.drops_visual_of_queries)
        if drops and features.get(SIDE_KEY) == "query":
            kept, visual = kept & ~visual, torch.zeros_like(visual)
        if chosen.base == "visual":
            kept = kept & (visual | ~visual.any(dim=1, keepdim=True))
        if chosen.without_pooled and (pooled := self._pooled(features)) is not None:
            kept = kept & ~pooled
        return kept

    def _pooled(self, features: dict[str, Any]) -> Tensor | None:
        """The position of each item that is its anchor, ``[B, T]``; None where the anchor is a mean of several."""
        attended = features["attention_mask"].bool()
        if ANCHOR_MARKS in features:
            marks: Tensor = features[ANCHOR_MARKS].to(attended.device)
            return marks & (marks.sum(dim=1, keepdim=True) == 1)
        counted: Tensor = attended.cumsum(dim=1)
        places = {"lasttoken": counted[:, -1:], "cls": torch.ones_like(counted[:, :1])}
        return attended & (counted == places[self.pooling]) if self.pooling in places else None

    def _bare(self, features: dict[str, Any], kept: Tensor) -> tuple[Tensor, Tensor] | None:
        """Items that one position stands in for, and the first attended position of each; None where there is none."""
        if self.token_filter.base != "paper":
            return None
        attended = features["attention_mask"].bool()
        rows = (attended.any(dim=1) & ~kept.any(dim=1)).nonzero().squeeze(1)
        return (rows, attended.int().argmax(dim=1)[rows]) if len(rows) else None

    def _states(self, features: dict[str, Any]) -> list[Tensor]:
        if self.readout.reads_last_state_only:
            return [features["token_embeddings"]]
        if "all_layer_embeddings" not in features:
            raise UnsupportedModelError(
                f"found no intermediate hidden states, expected those of layers {list(self.readout.layers)}: "
                "this backbone only gives its last one; use Readout(layers=(-1,))"
            )
        states = features["all_layer_embeddings"]
        return [states[layer] for layer in self.readout.resolve_layers(len(states))]

    def vectors(self, states: list[Tensor], lengths: Tensor | None = None) -> Tensor:
        """Token vectors of unit length, ``[..., Dt]`` float32, from one ``[..., H]`` for each layer, ascending.

        ``lengths`` ``[B]`` are those of the items that flat states belong to, for adapters that look at whole items.
        """
        if self.adapter is not None:
            return unit_vectors(self.adapter(states, lengths))
        if len(states) == 1:
            return unit_vectors(states[0])
        if self.readout.mix == "concat":
            return torch.cat([unit_vectors(state) for state in states], dim=-1) / math.sqrt(len(states))
        return unit_vectors(torch.stack([unit_vectors(state) for state in states]).sum(dim=0))

    def at_all_positions(self, features: dict[str, Any]) -> Tensor:
        """Token vectors ``[B, T, Dt]`` of every position, kept or not."""
        return self.vectors(self._states(features))

    def _stand_ins(self, features: dict[str, Any], states: list[Tensor], vectors: Tensor) -> Tensor:
        """For each item the vector that stands in where no position is kept, ``[B, Dt]``."""
        if self.adapter is not None:
            alone = torch.ones(len(features["attention_mask"]), dtype=torch.long)
            return unit_vectors(self.adapter(self._stand_in_states(features, states), alone))
        anchors = unit_vectors(features["sentence_embedding"])
        # Of the states' width it lies in their space; a projected anchor does not, whatever its width.
        if anchors.shape[-1] == states[0].shape[-1]:
            return unit_vectors(anchors.repeat(1, vectors.shape[-1] // anchors.shape[-1]))
        attended = features["attention_mask"].bool().unsqueeze(-1)
        return unit_vectors((vectors * attended.to(vectors.dtype)).sum(dim=1))

    def _stand_in_states(self, features: dict[str, Any], states: list[Tensor]) -> list[Tensor]:
        """The same before an adapter: one ``[B, H]`` for each layer."""
        anchors = unit_vectors(features["sentence_embedding"])
        if anchors.shape[-1] == states[0].shape[-1]:
            return [anchors] * len(states)
        attended = features["attention_mask"].bool().unsqueeze(-1).float()
        return [unit_vectors((unit_vectors(state) * attended).sum(dim=1)) for state in states]

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Nothing to save: :meth:`SmartModel.save_pretrained` writes the readout and the adapter itself."""


def _one_of(roles: Tensor, chosen: Collection[TokenRole]) -> Tensor:
    lookup = torch.zeros(len(TokenRole), dtype=torch.bool, device=roles.device)
    lookup[[int(role) for role in chosen]] = True
    mask: Tensor = lookup[roles.long()]
    return mask


def unit_vectors(vectors: Tensor) -> Tensor:
    """Vectors of unit length along the last axis, float32."""
    # Whatever the backbone's precision: a half-precision norm costs three digits of the cosine.
    return torch.nn.functional.normalize(vectors.float(), dim=-1)
