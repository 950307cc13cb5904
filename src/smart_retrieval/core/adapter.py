"""The adapter: a layer norm and a projection of one of three kinds, trained over the states of a frozen backbone."""

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
KINDS = ("linear", "mlp", "self-attention")
#: Other names of kinds in the code of the paper's authors, whose "residual" is the linear one.
KIND_ALIASES = {
    "residual": "linear", "token_projection": "linear", "self_attention": "self-attention",
    "token_self_attention": "self-attention",
}  # fmt: skip
_RMS_EPSILON = 1e-6


@dataclass(frozen=True)
class AdapterConfig:
    """The shape of an adapter: the size of a hidden state, the width of a token vector, and the layers it reads.

    Several layers become one by ``fusion``. ``"learned"``: a softmax over the layers for each token, of
    ``<rms(h_l), rms(v)> / sqrt(H)`` with one learned vector v, as in the paper's adapter (arXiv 2605.24938).
    ``"concat"``: side by side, each of equal length.

    ``kind`` is ``"linear"``; ``"mlp"``, with one hidden layer of ``inner`` dimensions; or ``"self-attention"``, with
    ``blocks`` of attention with ``heads`` between the projected tokens of an input.
    """

    hidden_size: int
    width: int
    layers: int = 1
    fusion: str = "learned"
    kind: str = "linear"
    inner: int = 4096
    heads: int = 8
    blocks: int = 1

    def __post_init__(self) -> None:
        for name in ("hidden_size", "width", "layers", "inner", "heads", "blocks"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ReadoutError(f"adapter {name}: found {value!r}, expected a whole number of at least 1")
        for name, allowed in (("fusion", FUSIONS), ("kind", KINDS)):
            if getattr(self, name) not in allowed:
                raise ReadoutError(f"adapter {name}: {one_of(getattr(self, name), allowed)}")
        if self.kind == "self-attention" and self.width % self.heads:
            raise ReadoutError(f"adapter heads: found {self.heads}, expected a divisor of the width {self.width}")

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
        used = {"mlp": {"inner"}, "self-attention": {"heads", "blocks"}}.get(self.kind)
        # A linear one is described as it always was.
        wanted = _ALWAYS if used is None else _ALWAYS | {"kind"} | used
        return {name: value for name, value in asdict(self).items() if name in wanted}

    @classmethod
    def from_dict(cls, config: Any) -> AdapterConfig:
        """Read a description, refusing missing and unknown keys."""
        names = {field.name for field in fields(cls)}
        if not isinstance(config, Mapping) or not _ALWAYS <= set(config) <= names:
            found = sorted(config) if isinstance(config, Mapping) else repr(config)
            raise ReadoutError(f"adapter: found {found}, expected an object with {', '.join(sorted(_ALWAYS))}")
        return cls(**config)


_ALWAYS = frozenset({"hidden_size", "width", "layers", "fusion"})


class Adapter(nn.Module):
    """Fused states, through LayerNorm and a projection without bias, to vectors that are not yet normalised."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(config.input_size)
        mlp, blocks = config.kind == "mlp", config.blocks if config.kind == "self-attention" else 0
        self.hidden = nn.Linear(config.input_size, config.inner, bias=False) if mlp else None
        self.projection = nn.Linear(config.inner if mlp else config.input_size, config.width, bias=False)
        self.attention = nn.ModuleList(
            nn.MultiheadAttention(config.width, config.heads, batch_first=True) for _ in range(blocks)
        )
        self.attention_norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(blocks))
        self.layer_vector = nn.Parameter(torch.randn(config.hidden_size)) if config.learns_layers else None

    def forward(self, states: Sequence[Tensor], lengths: Tensor | None = None) -> Tensor:
        """Project hidden states, one ``[..., H]`` for each layer, ascending, to ``[..., Dt]`` float32.

        ``lengths`` ``[B]`` are the numbers of tokens of the inputs that ``[sum T, H]`` holds, between which an adapter
        with self-attention lets none look; None for one input.
        """
        if len(states) != self.config.layers:
            raise ReadoutError(f"adapter: found {len(states)} layers, expected {self.config.layers}")
        normed = self.normed(states)
        projected: Tensor = self.projection(normed if self.hidden is None else nn.functional.gelu(self.hidden(normed)))
        return self._attended(projected, lengths) if self.attention else projected

    def _attended(self, projected: Tensor, lengths: Tensor | None) -> Tensor:
        sizes = [len(projected)] if lengths is None else [length for length in lengths.tolist() if length]
        if not len(projected):
            return projected
        block = nn.utils.rnn.pad_sequence(list(torch.split(projected, sizes)), batch_first=True)
        counts = torch.tensor(sizes, device=block.device)
        padding = torch.arange(block.shape[1], device=block.device) >= counts.unsqueeze(1)
        for attention, norm in zip(self.attention, self.attention_norms, strict=True):
            block = norm(block + attention(block, block, block, key_padding_mask=padding, need_weights=False)[0])
        return block[~padding]

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
        """Start as the frozen readout: dot products kept, as far as the width permits; an MLP cannot and stays random.

        At full width the projection is the identity, below it the principal axes of the normed states of a sample (one
        ``[N, H]`` for each layer), above it the identity with zeros. The weights of the layers start random.
        """
        if self.hidden is not None:
            return
        for name, added in self.attention.named_parameters():
            if name.endswith("out_proj.weight"):
                added.zero_()  # nothing is added at first; its bias starts at 0 anyway
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
