"""Moments of a video: a video and a sentence (or less), and the clip that shows it, among the video's other clips."""

from __future__ import annotations

from pathlib import PurePosixPath

from ..annotations import Row
from ..cases import TaskData
from ..layout import Source
from ..prompts import Prompts

_QUERY, _POSITIVE = "query", "positive"


def moment_retrieval(source: Source, prompts: Prompts, data: TaskData) -> None:
    """One folder a video: ``query`` holds the whole, ``positive*`` what is looked for, every other one a wrong clip."""
    for row in source.rows(("query", "video_path")):
        video = PurePosixPath(row.text("video_path")).stem
        clips = [name for name in source.folders_in(video, row) if name != _QUERY]
        right = [name for name in clips if name.startswith(_POSITIVE)]
        whole = source.video(f"{video}/{_QUERY}", prompts.frames, row)
        if not right:
            source.missing.files[str(source.folder / video / _POSITIVE)] = None
            continue
        own = [_clip(source, prompts, data, f"{video}/{clip}", row) for clip in clips]
        query = prompts.query(source.task, row.text("query"), video=whole)
        data.add_query(query, [f"{video}/{name}" for name in right], candidates=own)


def momentseeker(source: Source, prompts: Prompts, data: TaskData) -> None:
    """Queries of three kinds: a text, a text and a picture, a text and a video; several clips may be right."""
    for row in source.rows(("query", "positive_frames", "negative_frames", "input_frames")):
        given, text = row.text("input_frames"), row.text("query")
        if given.endswith(".mp4"):
            query = prompts.query(
                source.task, text, video=source.video(_frames_folder(given), prompts.clip_frames, row)
            )
        elif given.endswith(".jpg"):
            query = prompts.query(source.task, text, image=source.image(f"query_{given}", row))
        else:
            query = prompts.query(source.task, text)
        right = [_frames_folder(clip.text("output_path")) for clip in row.rows("positive_frames")]
        wrong = [_frames_folder(clip.text("output_path")) for clip in row.rows("negative_frames")]
        own = [_clip(source, prompts, data, name, row) for name in (*right, *wrong)]
        data.add_query(query, right, candidates=own)


def _clip(source: Source, prompts: Prompts, data: TaskData, name: str, row: Row) -> int:
    video = source.video(name, prompts.clip_frames, row)
    return data.add_candidate(name, prompts.candidate(source.task, video=video))


def _frames_folder(path: str) -> str:
    """Where the frames of a clip lie.

    Example:
        >>> _frames_folder("movie/77/3.mp4")
        'video_frames/movie_77_3'
    """
    return "video_frames/" + path.split(".mp4")[0].replace("/", "_")
