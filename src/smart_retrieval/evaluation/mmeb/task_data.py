"""A task: its annotations and media below the data root, and the queries and candidates read from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...errors import DatasetError
from ...inputs import Item
from ...pictures.sources import FRAME_SUFFIXES, LIST_RATE
from .annotations import Row, expected_annotations, find_annotations, read_rows
from .tasks import Task

if TYPE_CHECKING:
    from ...inputs import Frames
    from ...pictures.images import ImageFile


@dataclass(frozen=True)
class FrameClip:
    """A folder of frames, of which a task takes at most ``most``: a :class:`~smart_retrieval.inputs.VideoSource`."""

    path: Path
    most: int

    def frames(self, max_frames: int) -> Frames:
        """At most ``max_frames`` frames, evenly spread, and dated as the published code dates a list of them."""
        from ...inputs import Frames
        from ...pictures.video import FrameFolder

        images = FrameFolder(self.path).frames(min(self.most, max_frames)).images
        return Frames(images, tuple(place / LIST_RATE for place in range(len(images))))


@dataclass
class Missing:
    """What a task needs and lacks, in the order it was met; the dicts are ordered sets of paths."""

    annotations: dict[str, None] = field(default_factory=dict)
    #: Whole folders of pictures or frames; the files they should hold are not listed one by one.
    folders: dict[str, None] = field(default_factory=dict)
    #: Pictures and folders of frames that are missing from folders that exist.
    files: dict[str, None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.annotations or self.folders or self.files)

    def all(self) -> list[str]:
        """Every missing path."""
        return [*self.annotations, *self.folders, *self.files]


class TaskFiles:
    """One task's files below the data root; ``missing`` fills up as they are looked for."""

    def __init__(self, root: Path, task: Task) -> None:
        self.root, self.task, self.missing = root, task, Missing()
        # An archive that was unpacked without moving its contents up lies in the second of them.
        self._folders = [root / folder for folder in task.folders if (root / folder).is_dir()]
        self.folder = self._folders[0] if self._folders else root / task.folders[0]
        if not self._folders:
            self.missing.folders[str(self.folder)] = None
        self._listed: dict[Path, frozenset[str]] = {}

    def rows(self, columns: Sequence[str], optional: Sequence[str] = (), config: str | None = None) -> Iterator[Row]:
        """The annotations; none where they are missing, which is noted. ``config`` replaces the task's own."""
        where = (self.root, self.task.data_set, self.task.config if config is None else config, self.task.split)
        files = find_annotations(*where)
        if not files:
            self.missing.annotations[str(expected_annotations(*where))] = None
        return read_rows(files, columns, optional)

    def image(self, name: str, row: Row) -> ImageFile:
        """A picture by its path below the task's folder, opened when it is needed."""
        from ...pictures.images import ImageFile

        return ImageFile(self._find(name, row, lambda path: path.name in self._names(path.parent)))

    def video(self, name: str, most: int, row: Row) -> FrameClip:
        """A folder of frames by its path below the task's folder, opened when it is needed."""

        def has_frames(path: Path) -> bool:
            return any(PurePosixPath(frame).suffix.lower() in FRAME_SUFFIXES for frame in self._names(path))

        return FrameClip(self._find(name, row, has_frames), most)

    def subfolders(self, name: str, row: Row) -> list[str]:
        """Names of the folders within one of the task's folders, sorted; none where it is missing."""
        path = self._checked(name, row)
        for folder in self._folders:
            if (folder / path).is_dir():
                return sorted(entry.name for entry in (folder / path).iterdir() if entry.is_dir())
        return []

    def _checked(self, name: str, row: Row) -> PurePosixPath:
        path = PurePosixPath(name)
        # Annotations are downloaded: what they name must lie below the folder.
        if not name or "\0" in name or path.is_absolute() or ".." in path.parts:
            raise row.error(f"found the path {name[:80]!r}, expected one below {self.folder}")
        return path

    def _find(self, name: str, row: Row, exists: Callable[[Path], bool]) -> Path:
        path = self._checked(name, row)
        for folder in self._folders:
            if exists(folder / path):
                return folder / path
        if self._folders:
            self.missing.files[str(self.folder / path)] = None
        return self.folder / path

    def _names(self, folder: Path) -> frozenset[str]:
        """Names in a folder, listed once: asking for each of a million files by itself takes minutes."""
        if folder not in self._listed:
            try:
                self._listed[folder] = frozenset(entry.name for entry in folder.iterdir())
            except OSError:
                self._listed[folder] = frozenset()
        return self._listed[folder]


def check_root(root: Path) -> Path:
    """The data root, refused if it is no folder."""
    root = root.expanduser()
    if not root.is_dir():
        raise DatasetError(f"data root: found no folder {root}, expected the folder MMEB-V2 was downloaded into")
    return root


@dataclass(frozen=True)
class Case:
    """A query, and the names and grades (all equal where None) of the candidates that are right for it."""

    item: Item
    labels: tuple[str, ...]
    grades: tuple[float, ...] | None = None
    #: Positions of the query's own candidates, or None where all candidates of the task are ranked.
    candidates: NDArray[np.int32] | None = None


@dataclass
class TaskData:
    """A task as read: queries in the order of the annotations, candidates by name, each once."""

    task: Task
    missing: Missing
    cases: list[Case] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: Queries that could not be asked.
    left_out: int = 0
    _positions: dict[str, int] = field(default_factory=dict, repr=False)

    def find(self, name: str) -> int | None:
        """The position of the candidate of this name; most candidates of a query are another query's too."""
        return self._positions.get(name)

    def add_candidate(self, name: str, item: Item) -> int:
        """The position of a candidate; one whose name is known already is not added again."""
        position = self._positions.setdefault(name, len(self.names))
        if position == len(self.names):
            self.names.append(name)
            self.items.append(item)
        return position

    def add_query(
        self,
        item: Item,
        labels: Sequence[str],
        grades: Sequence[float] | None = None,
        candidates: Sequence[int] = (),
    ) -> None:
        """Add a query; ``candidates`` are the positions of its own ones, for tasks that rank those alone."""
        own = None
        if self.task.scope == "local":
            # In the order given, each once: an answer may be listed twice.
            own = np.array(list(dict.fromkeys(candidates)), np.int32)
        self.cases.append(Case(item, tuple(labels), None if grades is None else tuple(grades), own))

    def check(self) -> None:
        """Refuse a task without queries or candidates, and a query whose labels are not among its candidates."""
        where = f"task {self.task.name}"
        if not self.cases or not self.names:
            raise DatasetError(f"{where}: found {len(self.cases)} queries and {len(self.names)} candidates")
        for number, case in enumerate(self.cases):
            names = self._positions if case.candidates is None else {self.names[place] for place in case.candidates}
            if not any(label in names for label in case.labels):
                raise DatasetError(
                    f"{where}, query {number}: found the answer {', '.join(map(repr, case.labels))[:80] or 'none'}, "
                    f"expected it among its {len(names)} candidates"
                )
