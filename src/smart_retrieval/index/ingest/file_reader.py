"""What an index makes of a file: passages that its model sees whole, pictures, or pieces of a recording."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ...backbones.tokenizing import tokenize
from ...documents.passages import split
from ...documents.read import NO_TEXT, UNKNOWN_TYPE, ReadOptions, format_of, stream_file
from ...documents.readers.ocr import NOT_INSTALLED
from ...documents.readers.ocr import installed as ocr_installed
from ...errors import MissingExtraError, SmartError
from ...files import FoundFile, SkipLog, Skipped, UnreadableFileError, too_large
from ...inputs import Item, VideoSource
from ...pictures.contained import CONTAINERS, ContainedPicture, contained_id, contained_pictures, pictures_beyond
from ...pictures.images import MAX_IMAGE_BYTES
from ...pictures.sources import visual_format_of
from ...pictures.video_stream import open_video
from ...pictures.visual_inputs import visual_inputs
from ...sound.files import MAX_SOUND_BYTES, SoundFile, sound_pieces
from ...sound.sources import is_recording
from ..encoder import IndexEncoder
from ..store.manifest import Manifest
from ..store.records import pack_metadata
from ..text.folding import fold
from .new_documents import NewDocument
from .recorded_pictures import record_picture

if TYPE_CHECKING:
    from ...model.smart_model import SmartModel

ANY_SUFFIX = "*"
NO_SOUND = "the model reads no sound"
TRACK_LEFT_OUT = "sound track of a video not heard, only its frames are seen"
_HEADING_SEPARATOR = " > "
# For models without a limit of their own.
_USUAL_LIMIT = 512
_SHORT = 32
_MOST_PICTURES = 1_000  # within a file


class FileReader:
    """Reads the documents of files as an index wants them.

    Suffixes that ``options.formats`` names are read in these formats and not as pictures; ``"*"`` stands for every
    suffix that is not known. ``max_tokens`` counts a passage's heading path, prompt and special tokens, too.
    """

    def __init__(
        self,
        manifest: Manifest,
        encoder: IndexEncoder,
        options: ReadOptions,
        max_tokens: int | None,
        overlap: int,
        min_tokens: int | None,
    ) -> None:
        self._encoder = encoder
        self._unknown_as = options.formats.get(ANY_SUFFIX, "")
        known = {suffix: name for suffix, name in options.formats.items() if suffix != ANY_SUFFIX}
        self._options = replace(options, formats=known)
        self._folding = manifest.folding
        limits = manifest.limits
        # An index that was made before pictures could be stored says neither.
        self._pages = limits.get("files_as") == "pages"
        self._modalities = frozenset(limits.get("modalities", ("text",)))
        self._hears = self._pages and "audio" in self._modalities
        limit = limits.get("max_length")
        most = max_tokens or limit or _USUAL_LIMIT
        if limit is not None and most > limit:
            raise SmartError(f"max_tokens: found {most}, expected at most the model's {limit}: it sees no more")
        least = min(_SHORT, most // 8) if min_tokens is None else min_tokens
        self._split = partial(split, max_tokens=most, overlap=overlap, min_tokens=least)
        try:
            self._split([], count_tokens=len)
        except ValueError as error:
            raise SmartError(str(error)) from error

    def why_not(self, file: FoundFile) -> tuple[str, str]:
        """Why a file of its type is not read, in general and in particular; empty if it is."""
        if self._as_pictures(file.path):
            return "", ""
        if self._is_recording(file.path):
            return ("", "") if self._hears else (NO_SOUND, file.path.suffix)
        name = format_of(file.path, self._options)
        if name == "picture" and not ocr_installed():
            return NOT_INSTALLED, ""
        return ("", "") if name or self._unknown_as else (UNKNOWN_TYPE, file.path.suffix or "no suffix")

    def _is_recording(self, path: Path) -> bool:
        return is_recording(path) and path.suffix.lower() not in self._options.formats

    def _as_pictures(self, path: Path) -> bool:
        kind = visual_format_of(path)
        taken = self._pages and bool(kind) and ("video" if kind == "video" else "image") in self._modalities
        return taken and path.suffix.lower() not in self._options.formats

    def check_size(self, file: FoundFile) -> None:
        """Refuse a file that is too large to be read, before its bytes are hashed.

        Raises:
            UnreadableFileError: It is.
        """
        name = format_of(file.path, self._options)
        if self._as_pictures(file.path) or name == "picture":
            most = MAX_IMAGE_BYTES if visual_format_of(file.path) == "image" else None
        elif self._is_recording(file.path):
            most = MAX_SOUND_BYTES
        else:
            most = None if name == "jsonl" else self._options.max_bytes
        if most is not None and file.size > most:
            raise too_large(file.path, most)

    def documents(self, file: FoundFile, notes: list[str], skipped: SkipLog) -> Generator[NewDocument, None, None]:
        """The passages, pictures or pieces of sound of one file, in order, read no further ahead than must be.

        What its reader had to guess goes to ``notes``, pages that cannot be read to ``skipped``.
        """
        if self._is_recording(file.path):
            yield from self._recording(file)
            return
        if self._as_pictures(file.path):
            if self._hears and visual_format_of(file.path) == "video" and _has_track(file.path):
                notes.append(TRACK_LEFT_OUT)
            yield from self._pictures(file, skipped)
            return
        options, contained = self._options, list[ContainedPicture]()
        if self._pages and "image" in self._modalities and format_of(file.path, options) in CONTAINERS:
            options, contained = replace(options, ocr="never"), self._contained(file, skipped)
        try:
            yield from self._passages(file, notes, skipped, options)
        except UnreadableFileError as error:
            if not contained or error.reason != NO_TEXT:
                raise
        for one in contained:
            item, picture = record_picture(Item(images=(one,)), "image")
            id = contained_id(file.relative, one.name)
            yield NewDocument(id, item, file.relative, one.slide, picture=picture)

    def _contained(self, file: FoundFile, skipped: SkipLog) -> list[ContainedPicture]:
        """The pictures within a file; one without any that can be had is left to the reader of its text."""
        try:
            found, left_out = contained_pictures(file.path)
        except (UnreadableFileError, MissingExtraError):
            return []
        for reason, name in left_out + pictures_beyond(_MOST_PICTURES, found):
            skipped.add(Skipped(file.relative, reason, name))
        return found[:_MOST_PICTURES]

    def _passages(
        self, file: FoundFile, notes: list[str], skipped: SkipLog, options: ReadOptions
    ) -> Generator[NewDocument, None, None]:
        """Passages as the model sees them, headings in a line of their own before the text.

        So the words of headings can be found, shaded in explanations, and encoded again.
        """
        if not format_of(file.path, options):
            options = replace(options, formats={file.path.suffix.lower(): self._unknown_as})
        sections = stream_file(file.path, notes, options, skipped=skipped, relative=file.relative)
        first = next(sections, None)  # a broken file is found out before any model is loaded
        if first is None:
            return
        sections = chain([first], sections)
        for passage in self._split(sections, source=file.relative, count_tokens=self._count_tokens):
            pack_metadata(passage.metadata, passage.id)  # here, where an error costs one file and not a batch
            heading = _HEADING_SEPARATOR.join(passage.heading) or None
            item = Item(passage.text_for_encoding)
            yield NewDocument(passage.id, item, passage.source, passage.page, heading, passage.metadata)

    @cached_property
    def _count_tokens(self) -> Callable[[str], int]:
        count = token_counter(self._encoder.model())
        return (lambda text: count(fold(text))) if self._folding else count

    def _pictures(self, file: FoundFile, skipped: SkipLog) -> Generator[NewDocument, None, None]:
        """Pictures without text; none is decoded before the model does."""
        for found in visual_inputs(file.path, skipped=skipped, relative=file.relative):
            source = found.source
            item = Item(video=source) if isinstance(source, VideoSource) else Item(images=(source,))
            item, picture = record_picture(item, found.kind)
            id = picture_id(file.relative, found.kind, found.page)
            yield NewDocument(id, item, file.relative, found.page, picture=picture)

    def _recording(self, file: FoundFile) -> Generator[NewDocument, None, None]:
        """Pieces that the model hears whole; none is decoded before it does."""
        SoundFile(file.path).seconds()  # a broken file is found out before any model is loaded
        for piece in sound_pieces(file.path, self._encoder.model().max_seconds or 0.1):
            item, sound = record_picture(Item(audio=piece), "audio")
            yield NewDocument(sound_id(file.relative, piece), item, file.relative, picture=sound)


def _has_track(path: Path) -> bool:
    """Whether a video has a sound track; what is no video is named when its frames are read."""
    with suppress(UnreadableFileError), open_video(path) as stream:
        return stream.has_sound
    return False


def sound_id(source: str, piece: SoundFile) -> str:
    """The id of a piece of a recording, its seconds as in a media fragment.

    Example:
        >>> sound_id("talk.mp3", SoundFile(Path("talk.mp3"), 0.0, 29.5))
        'talk.mp3#t=0,29.5'
    """
    return f"{source}#t={piece.start or 0:g},{piece.end:g}"


def picture_id(source: str, kind: str, page: int | None) -> str:
    """The id of a picture.

    Example:
        >>> picture_id("report.pdf", "page", 3), picture_id("clip.mp4", "video", None)
        ('report.pdf#page=3', 'clip.mp4#video')
    """
    return f"{source}#page={page}" if kind == "page" else f"{source}#{kind}"


def token_counter(model: SmartModel) -> Callable[[str], int]:
    """A function that counts a passage's tokens as the model sees them, prompt and special tokens included."""
    tokenizer = model.tokenizer

    def count(text: str) -> int:
        return len(tokenize(tokenizer, text)["input_ids"])

    prompt = model.backbone.prompt_for("document", None, None)
    around = model.backbone.token_count("a", prompt=prompt, task="document") - count("a")
    return lambda text: around + count(text)
