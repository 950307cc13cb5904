"""Hidden states to anchor and token vectors: which layers, which positions, how they are packed."""

from __future__ import annotations

from .config import LAYER_MIXES, TOKEN_FILTERS, Readout
from .roles import TokenRole, kept_roles

__all__ = ["LAYER_MIXES", "TOKEN_FILTERS", "Readout", "TokenRole", "kept_roles"]
