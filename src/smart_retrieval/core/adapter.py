"""The adapter: a layer norm and a projection, trained over the states of a frozen backbone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ReadoutError, one_of

FUSIONS = ("learned", "concat")
_RMS_EPSILON = 1e-6


@dataclass(frozen=True)
class AdapterConfig:
    """The shape of an adapter: the size of a hidden state, the width of a token vector, and the layers it reads.

    Several layers become one by ``fusion``. ``"learned"``: a softmax over the layers for each token, of
    ``<rms(h_l), rms(v)> / sqrt(H)`` with one learned vector v, as in the paper's adapter (arXiv 2605.24938).
    ``"concat"``: side by side, each of equal length.
    """

    hidden_size: int
    width: int
    layers: int = 1
    fusion: str = "learned"

    def __post_init__(self) -> None:
        for name in ("hidden_size", "width", "layers"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ReadoutError(f"adapter {name}: found {value!r}, expected a whole number of at least 1")
        if self.fusion not in FUSIONS:
            raise ReadoutError(f"adapter fusion: {one_of(self.fusion, FUSIONS)}")

    @property
    def learns_layers(self) -> bool:
        """Whether there is a vector that weighs layers."""
        return self.layers > 1 and self.fusion == "learned"

    @property
    def input_size(self) -> int:
        """Dimensions of what is normalised and projected."""
        return self.hidden_size * (self.layers if self.fusion == "concat" else 1)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able description, read back by :meth:`from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, config: Any) -> AdapterConfig:
        """Read a description, refusing missing and unknown keys."""
        names = {field.name for field in fields(cls)}
        if not isinstance(config, Mapping) or set(config) != names:
            found = sorted(config) if isinstance(config, Mapping) else repr(config)
            raise ReadoutError(f"adapter: found {found}, expected an object with {', '.join(sorted(names))}")
        return cls(**config)


class Adapter(nn.Module):
    """Fused states, through LayerNorm and a Linear without bias, to vectors that are not yet normalised."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(config.input_size)
        self.projection = nn.Linear(config.input_size, config.width, bias=False)
        self.layer_vector = nn.Parameter(torch.randn(config.hidden_size)) if config.learns_layers else None

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """Project hidden states, one ``[..., H]`` for each layer, ascending, to ``[..., Dt]`` float32."""
        if len(states) != self.config.layers:
            raise ReadoutError(f"adapter: found {len(states)} layers, expected {self.config.layers}")
        projected: Tensor = self.projection(self.normed(states))
        return projected

    def normed(self, states: Sequence[Tensor]) -> Tensor:
        """Fused and layer-normalised states, ``[..., input_size]``: what is projected."""
        normed: Tensor = self.norm(self._fused([state.float() for state in states]))
        return normed

    def layer_shares(self, states: Sequence[Tensor]) -> Tensor:
        """How much each layer counts for each token, ``[..., layers]``, with sums of 1."""
        if self.layer_vector is None:
            raise ReadoutError("adapter: found no learned layer weights, expected several layers with fusion 'learned'")
        rms = torch.stack([_rms(state.float()) for state in states], dim=-2)
        return (rms @ _rms(self.layer_vector) / math.sqrt(self.config.hidden_size)).softmax(dim=-1)

    def _fused(self, states: list[Tensor]) -> Tensor:
        if len(states) == 1:
            return states[0]
        if self.config.fusion == "concat":
            return torch.cat([_rms(state) for state in states], dim=-1)
        return (self.layer_shares(states).unsqueeze(-1) * torch.stack(states, dim=-2)).sum(dim=-2)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over its shape and every weight."""
        digest = hashlib.sha256(repr(sorted(self.config.to_dict().items())).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    @torch.no_grad()
    def start_frozen(self, sample: Sequence[Tensor]) -> None:
        """Start as the frozen readout: dot products kept, as far as the width permits.

        At full width the projection is the identity, below it the principal axes of the normed states of a sample (one
        ``[N, H]`` for each layer), above it the identity with zeros. The weights of the layers start random.
        """
        size, width = self.config.input_size, self.config.width
        weight = torch.eye(size)[: min(size, width)]
        if width < size:
            vectors = nn.functional.normalize(self.normed(sample), dim=-1).double()
            # Not centred: what must survive are dot products, not variances.
            _, axes = torch.linalg.eigh(vectors.T @ vectors)
            weight = axes.flip(1)[:, :width].T.float()
        self.projection.weight.zero_()
        self.projection.weight[: len(weight)] = weight.to(self.projection.weight.device)


def _rms(vectors: Tensor) -> Tensor:
    return vectors * torch.rsqrt(vectors.square().mean(dim=-1, keepdim=True) + _RMS_EPSILON)
