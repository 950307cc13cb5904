"""The key of an input: a digest of its words and of the bytes of its pictures and frames, wherever they lie."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ...errors import DatasetError
from ...files import content_hash, os_error
from ...inputs import Item
from ...pictures.images import ImageFile
from ...pictures.sources import FRAME_SUFFIXES, LIST_RATE
from .task_data import FrameClip


class MediaDigests:
    """Digests of pictures and folders of frames; ``memo``, a JSON Lines file, keeps them between runs."""

    def __init__(self, memo: Path | None = None) -> None:
        self.memo = memo
        self._known: dict[str, tuple[list[int], str]] = {}
        self._fresh: list[str] = []
        if memo is not None and memo.is_file():
            for line in memo.read_text(encoding="utf-8").splitlines():
                try:
                    path, stamp, digest = json.loads(line)
                    self._known[path] = (stamp, digest)
                except (ValueError, TypeError):  # the last line of a run that was cut off
                    continue

    def key(self, item: Item) -> str:
        """The key of an input: equal for equal inputs, whatever task they belong to."""
        media: list[Any] = []
        for image in item.images:
            if not isinstance(image, ImageFile):
                raise DatasetError(f"found a {type(image).__name__} as image, expected a file")
            media.append(self._digest(image.path, [image.path]))
        if item.video is not None:
            if not isinstance(item.video, FrameClip):
                raise DatasetError(f"found a {type(item.video).__name__} as video, expected a folder of frames")
            media.append([self._frames(item.video.path), item.video.most, LIST_RATE])
        parts = [item.instruction or "", item.text, media]
        return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).hexdigest()[:32]

    def save(self) -> None:
        """Append to the memo what was new since the last time."""
        if self.memo is not None and self._fresh:
            self.memo.parent.mkdir(parents=True, exist_ok=True)
            with self.memo.open("a", encoding="utf-8") as file:
                file.writelines(self._fresh)
            self._fresh.clear()

    def _frames(self, folder: Path) -> str:
        try:
            files = sorted(path for path in folder.iterdir() if path.suffix.lower() in FRAME_SUFFIXES)
        except OSError as error:
            raise os_error(folder, error) from error
        return self._digest(folder, files)

    def _digest(self, path: Path, files: list[Path]) -> str:
        try:
            status = [os.stat(file) for file in files]
        except OSError as error:
            raise os_error(error.filename, error) from error
        sizes, times = [one.st_size for one in status], [one.st_mtime_ns for one in status]
        # One line a folder, however many frames it holds.
        stamp = [*sizes, *times] if len(files) == 1 else [len(files), sum(sizes), max(times, default=0)]
        place = str(path.absolute())
        known = self._known.get(place)
        if known is not None and known[0] == stamp:
            return known[1]
        hashes = [content_hash(file) for file in files]
        digest = hashes[0] if hashes and path == files[0] else hashlib.sha256("\0".join(hashes).encode()).hexdigest()
        self._known[place] = (stamp, digest)
        self._fresh.append(json.dumps([place, stamp, digest]) + "\n")
        return digest
