"""What sound can be given as before it is decoded, and which files are taken for recordings by their suffix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ..errors import MediaError

if TYPE_CHECKING:
    from ..types import Array

#: Lower-case suffixes of files that are taken for recordings.
AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".wma", ".amr"}
)
#: Tokens of a second of sound, as EmbeddingGemma 2 hears it.
TOKENS_A_SECOND = 25
_MOST_CHANNELS = 64
_RATES = range(1_000, 768_001)


@dataclass(frozen=True, eq=False)
class Sound:
    """Sound in memory.

    Args:
        samples: ``[N]``, or ``[N, channels]`` or ``[channels, N]`` (the shorter side is the channels, which are
            averaged); floats, whose full scale is 1, or signed whole numbers of 16 or 32 bits. Kept as float32.
        rate: Samples a second.
        start: The second of its recording that it begins at.
        left_out: Seconds behind it that were cut off, as a model hears no more.

    Raises:
        MediaError: No samples, samples of another type or shape, NaN or infinity, or an implausible rate.

    Example:
        >>> import numpy as np
        >>> Sound(np.zeros((2, 8000)), 16_000).seconds
        0.5
    """

    samples: Array
    rate: int
    start: float = 0.0
    left_out: float = 0.0

    def __post_init__(self) -> None:
        import numpy as np

        object.__setattr__(self, "samples", _mono(np.asarray(self.samples)))
        if isinstance(self.rate, bool) or not isinstance(self.rate, int | np.integer) or self.rate not in _RATES:
            raise MediaError(f"found a sampling rate of {self.rate!r}, expected a whole number from 1,000 to 768,000")
        object.__setattr__(self, "rate", int(self.rate))

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / self.rate

    @property
    def end(self) -> float:
        """The second of its recording that it ends at."""
        return self.start + self.seconds

    def cut(self, most_seconds: float) -> Sound:
        """The same, with what is beyond so many seconds left out."""
        most = math.floor(most_seconds * self.rate)
        if len(self.samples) <= most:
            return self
        beyond = (len(self.samples) - most) / self.rate
        return Sound(self.samples[:most], self.rate, self.start, self.left_out + beyond)


@runtime_checkable
class SoundSource(Protocol):
    """Sound that is decoded only when it is needed."""

    def sound(self, rate: int, most_seconds: float) -> Sound:
        """At most so many seconds of it, at a sampling rate.

        Raises:
            MediaError: It cannot be read.
        """
        ...


def is_recording(path: Path) -> bool:
    """Whether a file is taken for a recording, by its suffix.

    Example:
        >>> is_recording(Path("talk.MP3")), is_recording(Path("clip.mp4"))
        (True, False)
    """
    return path.suffix.lower() in AUDIO_SUFFIXES


def _mono(samples: Array) -> Array:
    import numpy as np

    whole = np.issubdtype(samples.dtype, np.signedinteger) and samples.dtype.itemsize in (2, 4)
    if not (whole or np.issubdtype(samples.dtype, np.floating)) or samples.ndim not in (1, 2) or not samples.size:
        raise MediaError(
            f"found samples of type {samples.dtype} and shape {samples.shape}, expected floats or signed whole "
            "numbers of 16 or 32 bits, [N] or one row or column for each channel"
        )
    # Before channels are averaged, so that float16 does not overflow.
    scaled: Array = samples.astype(np.float32)
    if whole:
        scaled = scaled / np.float32(-float(np.iinfo(samples.dtype).min))
    if scaled.ndim == 2:
        if min(scaled.shape) > _MOST_CHANNELS:
            raise MediaError(f"found samples of shape {samples.shape}, expected at most {_MOST_CHANNELS} channels")
        scaled = scaled.mean(axis=int(np.argmin(scaled.shape)), dtype=np.float32)
    if not np.isfinite(scaled).all():
        raise MediaError("found NaN or infinity among the samples, expected finite numbers")
    return np.ascontiguousarray(scaled)
