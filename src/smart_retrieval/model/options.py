"""The keyword arguments of SmartModel, for functions that pass them on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

from ..core.readout import Readout


class IndexModelOptions(TypedDict, total=False):
    """What an index loads a model by name with; all but the device is recorded. See :class:`SmartModel`."""

    family: str | None
    pooling: str | None
    max_length: int | None
    max_visual_tokens: int | None
    max_frames: int | None
    video_budget: str | None
    truncate_dim: int | None
    device: str | None


class ModelOptions(IndexModelOptions, total=False):
    """The keyword arguments of :class:`SmartModel`."""

    readout: Readout | None
    preset: str
    revision: str | None
    prompts: dict[str, str] | None
    dtype: str
    compute: str | None
    backbone: str | Path | None
    cache_folder: str | None
    token: bool | str | None
    local_files_only: bool | None
    model_kwargs: dict[str, Any] | None
    processor_kwargs: dict[str, Any] | None
    config_kwargs: dict[str, Any] | None
    trust_remote_code: bool
