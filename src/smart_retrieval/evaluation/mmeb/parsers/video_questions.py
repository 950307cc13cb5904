"""Questions about a video: the query holds the video, the question and its options; each option is a candidate."""

from __future__ import annotations

from collections.abc import Sequence

from ..annotations import Row
from ..cases import TaskData
from ..layout import Source
from ..prompts import Prompts, options_text, without_letter

#: The configurations of MVBench, in the benchmark's order.
MVBENCH_CONFIGS = (
    "episodic_reasoning",
    "action_sequence",
    "action_prediction",
    "action_antonym",
    "fine_grained_action",
    "unexpected_action",
    "object_existence",
    "object_interaction",
    "object_shuffle",
    "moving_direction",
    "action_localization",
    "scene_transition",
    "action_count",
    "moving_count",
    "moving_attribute",
    "state_change",
    "fine_grained_pose",
    "character_order",
    "egocentric_navigation",
    "counterfactual_inference",
)


def _add(
    source: Source,
    prompts: Prompts,
    data: TaskData,
    row: Row,
    *,
    video: str,
    question: str,
    names: Sequence[str],
    texts: Sequence[str],
    answer: int,
) -> None:
    if not 0 <= answer < len(names):
        raise row.error(f"found answer {answer}, expected one of {len(names)} options")
    own = [
        data.add_candidate(name, prompts.candidate(source.task, text)) for name, text in zip(names, texts, strict=True)
    ]
    clip = source.video(video, prompts.frames, row)
    data.add_query(prompts.query(source.task, question, video=clip), [names[answer]], candidates=own)


def mvbench(source: Source, prompts: Prompts, data: TaskData) -> None:
    """Twenty configurations; options are candidates with their letters."""
    for config in MVBENCH_CONFIGS:
        for row in source.rows(("question", "video", "candidates", "answer"), config=config):
            options = row.texts("candidates")
            question, lettered = options_text(row.text("question"), options)
            answer = _place(row, options, row.text("answer"))
            video = f"{config}/{row.text('video')}"
            _add(
                source, prompts, data, row,
                video=video, question=question, names=lettered, texts=lettered, answer=answer,
            )  # fmt: skip


def videomme(source: Source, prompts: Prompts, data: TaskData) -> None:
    """Options come with letters; candidates are known by them and encoded without."""
    for row in source.rows(("videoID", "question", "options", "answer")):
        options = row.texts("options")
        question = "\n".join([row.text("question"), *options])
        texts = [without_letter(option) for option in options]
        answer = "ABCDEFGH".find(row.text("answer") or "?")
        _add(
            source, prompts, data, row,
            video=row.text("videoID"), question=question, names=options, texts=texts, answer=answer,
        )  # fmt: skip


def nextqa(source: Source, prompts: Prompts, data: TaskData) -> None:
    """Five options in columns of their own; with letters as candidates in the convention ``qwen`` alone."""
    columns = ("a0", "a1", "a2", "a3", "a4")
    for row in source.rows(("video", "question", "answer", *columns)):
        options = [row.text(column) for column in columns]
        question, lettered = options_text(row.text("question"), options)
        names = lettered if prompts.lettered_candidates else options
        _add(
            source, prompts, data, row,
            video=row.text("video"), question=question, names=names, texts=names, answer=int(row.number("answer")),
        )  # fmt: skip


def egoschema(source: Source, prompts: Prompts, data: TaskData) -> None:
    """Options come with letters, behind the question in one line."""
    for row in source.rows(("video_idx", "question", "option", "answer")):
        options = row.texts("option")
        # VLM2Vec's code joins the first option to the question without a blank.
        between = " " if prompts.name == "qwen" else ""
        question = row.text("question") + between + " ".join(options)
        texts = [without_letter(option) for option in options]
        _add(
            source, prompts, data, row,
            video=row.text("video_idx"), question=question, names=options, texts=texts,
            answer=int(row.number("answer")),
        )  # fmt: skip


def activitynetqa(source: Source, prompts: Prompts, data: TaskData) -> None:
    """Yes or no."""
    options = ["yes", "no"]
    for row in source.rows(("video_name", "question", "answer")):
        question = row.text("question") + "? (A) yes; (B) no."
        answer = _place(row, options, row.text("answer"))
        _add(
            source, prompts, data, row,
            video=f"v_{row.text('video_name')}", question=question, names=options, texts=options, answer=answer,
        )  # fmt: skip


def _place(row: Row, options: Sequence[str], answer: str) -> int:
    if answer not in options:
        raise row.error(f"found the answer {answer[:40]!r}, expected one of {[option[:40] for option in options]}")
    return list(options).index(answer)
