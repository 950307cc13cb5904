"""From pictures and frames to the patches a Qwen-VL vision tower takes."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import MediaError, ModelNotFoundError
from ...types import Array

if TYPE_CHECKING:
    from PIL.Image import Image

# The publishers' code refuses longer strips, too.
_MAX_ASPECT = 200


@dataclass(frozen=True)
class PatchSettings:
    """How a checkpoint cuts pictures up, from its ``preprocessor_config.json``.

    Args:
        patch: Pixels along one side of a patch.
        merge: Patches along one side of a visual token.
        temporal: Frames in one step.
        mean: Of each channel, of values between 0 and 1.
        std: Of each channel.
    """

    patch: int
    merge: int
    temporal: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def factor(self) -> int:
        """Pixels along one side of a visual token."""
        return self.patch * self.merge

    @classmethod
    def read(cls, config: dict[str, Any], where: str) -> PatchSettings:
        """From the checkpoint's preprocessing file.

        Raises:
            ModelNotFoundError: A number is missing.
        """
        try:
            mean, std = (tuple(float(value) for value in config[key]) for key in ("image_mean", "image_std"))
            return cls(
                int(config["patch_size"]),
                int(config["merge_size"]),
                int(config["temporal_patch_size"]),
                mean,  # type: ignore[arg-type]
                std,  # type: ignore[arg-type]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelNotFoundError(
                f"model {where!r}: preprocessor_config.json: found no usable {error}, expected patch_size, merge_size, "
                "temporal_patch_size, image_mean and image_std"
            ) from error


def read_preprocessor_config(source: str, **hub: Any) -> dict[str, Any]:
    """The checkpoint's ``preprocessor_config.json``, from its folder or the hub's cache.

    Raises:
        ModelNotFoundError: There is none.
    """
    from transformers.utils.hub import cached_file

    try:
        found = cached_file(source, "preprocessor_config.json", **hub)
        config = json.loads(Path(str(found)).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(
            f"model {source!r}: expected a preprocessor_config.json, which says how pictures are cut up; "
            f"found {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        ) from error
    if not isinstance(config, dict):
        raise ModelNotFoundError(f"model {source!r}: preprocessor_config.json is no JSON object")
    return config


def fitting_size(height: int, width: int, factor: int, min_tokens: int, max_tokens: int) -> tuple[int, int]:
    """Height and width in multiples of ``factor`` that keep the shape and a number of visual tokens within limits.

    The rule is Qwen-VL's own: round both sides; if that is too many or too few pixels, scale both by the same root.

    Raises:
        MediaError: One side is more than 200 times the other.

    Example:
        >>> fitting_size(96, 128, 32, 4, 1800), fitting_size(4000, 3000, 32, 4, 1280)
        ((96, 128), (1312, 992))
    """
    if max(height, width) > _MAX_ASPECT * min(height, width):
        raise MediaError(f"found a picture of {width} x {height} pixels, expected sides within {_MAX_ASPECT} : 1")
    low, high = min_tokens * factor**2, max_tokens * factor**2
    tall, wide = (max(factor, round(side / factor) * factor) for side in (height, width))
    if tall * wide > high:
        shrink = math.sqrt(height * width / high)
        tall, wide = (max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width))
    elif tall * wide < low:
        grow = math.sqrt(low / (height * width))
        tall, wide = (math.ceil(side * grow / factor) * factor for side in (height, width))
    return tall, wide


def resized(image: Image, size: tuple[int, int]) -> Image:
    """The picture at a (height, width), bicubic as the publishers' code has it."""
    from PIL.Image import Resampling

    height, width = size
    return image if image.size == (width, height) else image.resize((width, height), Resampling.BICUBIC)


def patches(frames: Array, settings: PatchSettings) -> tuple[Array, tuple[int, int, int]]:
    """Patches in the order the vision tower takes them.

    Args:
        frames: ``[F, H, W, 3]`` uint8, sides multiples of the factor; a picture is one frame.
        settings: How to cut.

    Returns:
        ``[t x h x w, 3 x temporal x patch x patch]`` float32, and the grid (t, h, w) in patches. A last step that
        is not full repeats its last frame; so does a picture's only step.
    """
    missing = -len(frames) % settings.temporal
    if missing:
        frames = np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)])
    count, height, width, channels = frames.shape
    values: Array = frames.astype(np.float32) * np.float32(1 / 255)
    mean, std = (np.array(each, np.float32) for each in (settings.mean, settings.std))
    values = (values - mean) / std
    t, h, w = count // settings.temporal, height // settings.patch, width // settings.patch
    cut = values.reshape(
        t, settings.temporal, h // settings.merge, settings.merge, settings.patch,
        w // settings.merge, settings.merge, settings.patch, channels,
    )  # fmt: skip
    # To (t, block row, block column, row in block, column in block, channel, frame in step, y, x).
    ordered = cut.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)
    return np.ascontiguousarray(ordered).reshape(t * h * w, -1), (t, h, w)
