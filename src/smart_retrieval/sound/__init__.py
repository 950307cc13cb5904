"""Sound: what a model listens to, decoded only when it is needed.

Example:
    >>> for piece in sound_pieces("talk.mp3", 30):  # doctest: +SKIP
    ...     print(piece.start, piece.end)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .files import SoundFile as SoundFile
    from .files import opened_sound as opened_sound
    from .files import sound_pieces as sound_pieces
    from .sources import AUDIO_SUFFIXES as AUDIO_SUFFIXES
    from .sources import Sound as Sound
    from .sources import SoundSource as SoundSource

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "files": ("SoundFile", "opened_sound", "sound_pieces"),
        "sources": ("AUDIO_SUFFIXES", "Sound", "SoundSource"),
    },
)
