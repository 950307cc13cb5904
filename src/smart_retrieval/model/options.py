"""The keyword arguments of SmartModel, for functions that pass them on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

from ..core.readout import Readout


class ModelLimits(TypedDict, total=False):
    """How much a model sees of a picture or a video, and how much of an anchor is kept; see :class:`SmartModel`."""

    max_visual_tokens: int | None
    max_frames: int | None
    video_budget: str | None
    truncate_dim: int | None


class LoadOptions(ModelLimits, total=False):
    """What an index loads its model with, where that is given by name; all but the device is recorded."""

    family: str | None
    max_length: int | None
    device: str | None


class ModelOptions(LoadOptions, total=False):
    """The keyword arguments of :class:`SmartModel`."""

    readout: Readout | None
    preset: str
    revision: str | None
    prompts: dict[str, str] | None
    dtype: str
    compute: str | None
    pooling: str | None
    backbone: str | Path | None
    cache_folder: str | None
    token: bool | str | None
    local_files_only: bool | None
    model_kwargs: dict[str, Any] | None
    processor_kwargs: dict[str, Any] | None
    config_kwargs: dict[str, Any] | None
    trust_remote_code: bool
