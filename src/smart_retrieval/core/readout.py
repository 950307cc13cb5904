"""The readout: how hidden states become token vectors."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..errors import ReadoutError, one_of
from .roles import TokenFilter

LAYER_MIXES = ("mean", "concat")


@dataclass(frozen=True)
class Readout:
    """Which hidden states become token vectors, and of which positions.

    Args:
        layers: Hidden states to read. 0 is the embedding output, 1 the first block's, -1 the last state after the
            final norm, -2 the one before it. Indices count as in ``transformers``' ``hidden_states``.
        mix: How several layers become one vector, each layer L2-normalised first. ``"mean"`` averages them (width
            H); ``"concat"`` lays them side by side (width H x layers), which makes a cosine of two vectors the
            mean of the layers' cosines.
        token_filter: ``"paper"`` drops special tokens; ``"content"`` also those of prompts and templates, unknown
            tokens and punctuation; ``"visual"`` keeps of an input with pictures, video or sound those alone, and the
            content of others.
            Behind any of them, ``-pooled`` leaves out the position that is pooled into the anchor, and
            ``-query-visual`` the pictures and sound of queries: ``"paper-pooled"``, ``"content-pooled-query-visual"``.

    Raises:
        ReadoutError: No layer, a layer named twice, or an unknown mix or filter.

    Example:
        >>> Readout(layers=(-1, -2)).to_dict()
        {'layers': [-1, -2], 'mix': 'mean', 'token_filter': 'paper'}
    """

    layers: tuple[int, ...] = (-1,)
    mix: str = "mean"
    token_filter: str = "paper"

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "layers", tuple(operator.index(layer) for layer in self.layers))
        except TypeError:
            raise ReadoutError(f"readout layers: found {self.layers!r}, expected whole numbers such as (-1,)") from None
        if not self.layers:
            raise ReadoutError("layers: found none, expected at least one such as -1, the last hidden state")
        if len(set(self.layers)) != len(self.layers):
            raise ReadoutError(f"layers: found {list(self.layers)}, expected each layer once")
        if self.mix not in LAYER_MIXES:
            raise ReadoutError(f"layer mix: {one_of(self.mix, LAYER_MIXES)}")
        TokenFilter.parse(self.token_filter)

    @property
    def reads_last_state_only(self) -> bool:
        """Whether the backbone's ordinary output is enough, without its intermediate states."""
        return self.layers == (-1,)

    def resolve_layers(self, n_states: int) -> tuple[int, ...]:
        """Absolute, ascending indices of the layers to read.

        Args:
            n_states: How many hidden states the backbone has: its blocks plus one.

        Raises:
            ReadoutError: A layer is out of range, or two names lead to the same state.
        """
        for layer in self.layers:
            if not -n_states <= layer < n_states:
                raise ReadoutError(
                    f"layers: found {layer}, expected an index from {-n_states} to {n_states - 1}: "
                    f"this backbone has {n_states} hidden states, the embedding output included"
                )
        resolved = sorted(layer % n_states for layer in self.layers)
        if len(set(resolved)) != len(resolved):
            raise ReadoutError(f"layers: found {list(self.layers)}, two of which are the same of {n_states} states")
        return tuple(resolved)

    def width(self, hidden_size: int) -> int:
        """Dimensions of a token vector for a backbone of this hidden size."""
        return hidden_size * (len(self.layers) if self.mix == "concat" else 1)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able description, read back by :meth:`from_dict`."""
        return {**asdict(self), "layers": list(self.layers)}

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Readout:
        """Read a description, refusing keys it does not know.

        Raises:
            ReadoutError: A key is unknown or a value unusable.
        """
        if not isinstance(config, Mapping):
            raise ReadoutError(f"readout: found {config!r}, expected an object with layers, mix and token_filter")
        names = {field.name for field in fields(cls)}
        if unknown := sorted(set(config) - names):
            raise ReadoutError(f"readout: found unknown keys {unknown}, expected some of {sorted(names)}")
        try:
            return cls(**{**config, "layers": tuple(config.get("layers", (-1,)))})
        except (TypeError, ValueError) as error:
            raise error if isinstance(error, ReadoutError) else ReadoutError(f"readout: {error}") from error
