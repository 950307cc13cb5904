"""One small parser a format: annotations in, queries, candidates and labels out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..cases import TaskData
from ..layout import Source
from ..prompts import Prompts
from ..tasks import Task
from . import documents, image, moments, video_classes, video_questions, video_retrieval

Parser = Callable[[Source, Prompts, TaskData], None]

PARSERS: dict[str, Parser] = {
    "image_cls": image.image_cls,
    "image_qa": image.image_qa,
    "image_i2t": image.image_i2t,
    "image_t2i": image.image_t2i,
    "image_i2i_vg": image.image_i2i_vg,
    "video_classification": video_classes.video_classification,
    "ssv2": video_classes.ssv2,
    "mvbench": video_questions.mvbench,
    "videomme": video_questions.videomme,
    "nextqa": video_questions.nextqa,
    "egoschema": video_questions.egoschema,
    "activitynetqa": video_questions.activitynetqa,
    "msrvtt": video_retrieval.msrvtt,
    "msvd": video_retrieval.msvd,
    "didemo": video_retrieval.didemo,
    "youcook2": video_retrieval.youcook2,
    "vatex": video_retrieval.vatex,
    "moment_retrieval": moments.moment_retrieval,
    "momentseeker": moments.momentseeker,
    "vidore": documents.vidore,
    "visrag": documents.visrag,
}


def parse(task: Task, root: Path, prompts: Prompts) -> TaskData:
    """Read a task; nothing is decoded yet.

    Args:
        task: The task.
        root: The data root.
        prompts: How inputs are worded.

    Returns:
        The task's queries and candidates. Where annotations are missing it is empty, and ``missing`` names them.

    Raises:
        DatasetError: Annotations are malformed, or a right answer is not among the candidates.
    """
    source = Source(root, task)
    data = TaskData(task, source.missing)
    PARSERS[task.parser](source, prompts, data)
    if not data.missing.annotations and not (data.missing and not data.cases):
        data.check()
    return data
