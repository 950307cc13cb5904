"""What lies where below the data root: annotations, pictures, folders of frames; and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ...errors import DatasetError
from .annotations import Row, expected_annotations, find_annotations, read_rows
from .tasks import Task

if TYPE_CHECKING:
    from ...inputs import Frames, ImageSource

FRAME_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


@dataclass(frozen=True)
class FrameClip:
    """A folder of frames of which a task takes at most so many: a :class:`~smart_retrieval.inputs.VideoSource`.

    Args:
        path: The folder.
        most: Frames taken at most, whatever the model would take.
    """

    path: Path
    most: int

    def frames(self, max_frames: int) -> Frames:
        """At most so many frames, evenly spread; see :class:`~smart_retrieval.pictures.video.FrameFolder`."""
        from ...pictures.video import FrameFolder

        return FrameFolder(self.path).frames(min(self.most, max_frames))


@dataclass
class Missing:
    """What a task needs and does not have, each named once.

    Attributes:
        annotations: Files of annotations that were not found.
        folders: Folders of pictures or frames that are not there at all; their files are not listed one by one.
        files: Pictures, and folders of frames, that are missing in folders that are there.
    """

    annotations: dict[str, None] = field(default_factory=dict)
    folders: dict[str, None] = field(default_factory=dict)
    files: dict[str, None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.annotations or self.folders or self.files)

    def all(self) -> list[str]:
        """Every missing path."""
        return [*self.annotations, *self.folders, *self.files]


class Source:
    """One task's files below the data root.

    Args:
        root: The data root.
        task: The task.

    Attributes:
        missing: Filled as annotations and media are asked for.
    """

    def __init__(self, root: Path, task: Task) -> None:
        self.root, self.task, self.missing = root, task, Missing()
        # An archive that was unpacked without moving its contents up lies in the second of them.
        self._folders = [root / folder for folder in task.folders if (root / folder).is_dir()]
        self.folder = self._folders[0] if self._folders else root / task.folders[0]
        if not self._folders:
            self.missing.folders[str(self.folder)] = None
        self._listed: dict[Path, frozenset[str]] = {}

    def rows(self, columns: Sequence[str], optional: Sequence[str] = (), config: str | None = None) -> Iterator[Row]:
        """The annotations; none if they are missing, which is noted.

        Args:
            columns: Columns that must be there.
            optional: Columns that may be.
            config: Another configuration than the task's.

        Raises:
            DatasetError: A file cannot be read or lacks a column.
        """
        chosen = self.task.config if config is None else config
        files = find_annotations(self.root, self.task.data_set, chosen, self.task.split)
        if not files:
            expected = expected_annotations(self.root, self.task.data_set, chosen, self.task.split)
            self.missing.annotations[str(expected)] = None
            return
        yield from read_rows(files, columns, optional)

    def image(self, name: str, row: Row) -> ImageSource:
        """A picture in the task's folder, opened when it is its turn.

        Args:
            name: Its path below that folder.
            row: The annotation that names it.

        Raises:
            DatasetError: The path leads out of the folder.
        """
        from ...pictures.images import ImageFile

        relative = self._checked(name, row)
        places = [folder / relative for folder in self._folders]
        found = [path for path in places if path.name in self._names(path.parent)]
        if places and not found:
            self.missing.files[str(places[0])] = None
        return ImageFile(found[0] if found else self.folder / relative)

    def video(self, name: str, most: int, row: Row) -> FrameClip:
        """A folder of frames in the task's folder, opened when it is its turn.

        Raises:
            DatasetError: The path leads out of the folder.
        """
        relative = self._checked(name, row)
        places = [folder / relative for folder in self._folders]
        found = [path for path in places if self._has_frames(path)]
        if places and not found:
            self.missing.files[str(places[0])] = None
        return FrameClip(found[0] if found else self.folder / relative, most)

    def folders_in(self, name: str, row: Row) -> list[str]:
        """Names of the folders within one of the task's folders, sorted; none where it is missing."""
        relative = self._checked(name, row)
        for folder in self._folders:
            if (folder / relative).is_dir():
                return sorted(entry.name for entry in (folder / relative).iterdir() if entry.is_dir())
        return []

    def _checked(self, name: str, row: Row) -> PurePosixPath:
        relative = PurePosixPath(name)
        # Annotations come from elsewhere: what they name must lie below the folder.
        if not name or "\0" in name or relative.is_absolute() or ".." in relative.parts:
            raise row.error(f"found the path {name[:80]!r}, expected one below {self.folder}")
        return relative

    def _has_frames(self, folder: Path) -> bool:
        return any(PurePosixPath(name).suffix.lower() in FRAME_SUFFIXES for name in self._names(folder))

    def _names(self, folder: Path) -> frozenset[str]:
        """Names in a folder, listed once: a question of its own for each of a million files takes minutes."""
        if folder not in self._listed:
            try:
                self._listed[folder] = frozenset(entry.name for entry in folder.iterdir())
            except OSError:
                self._listed[folder] = frozenset()
        return self._listed[folder]


def check_root(root: Path) -> Path:
    """The data root, which must be a folder.

    Raises:
        DatasetError: It is none.
    """
    root = root.expanduser()
    if not root.is_dir():
        raise DatasetError(f"data root: found no folder {root}, expected the folder MMEB-V2 was downloaded into")
    return root
