"""One parser for each format of annotations: queries, candidates and labels out of a task's files."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

from .annotations import Row
from .prompts import Prompts
from .task_data import TaskData, TaskFiles
from .tasks import Task

#: The configurations of MVBench, in the benchmark's order.
MVBENCH_CONFIGS = (
    "episodic_reasoning", "action_sequence", "action_prediction", "action_antonym", "fine_grained_action",
    "unexpected_action", "object_existence", "object_interaction", "object_shuffle", "moving_direction",
    "action_localization", "scene_transition", "action_count", "moving_count", "moving_attribute", "state_change",
    "fine_grained_pose", "character_order", "egocentric_navigation", "counterfactual_inference",
)  # fmt: skip


class _Reader(TaskFiles):
    """A task's files, the wording of its inputs, and what has been read of it so far."""

    def __init__(self, task: Task, root: Path, prompts: Prompts) -> None:
        super().__init__(root, task)
        self.prompts, self.data = prompts, TaskData(task, self.missing)

    def candidate(self, name: str, text: str = "", **media: Any) -> int:
        """Add a candidate of a video or document task; its position."""
        return self.data.add_candidate(name, self.prompts.candidate(self.task, text, **media))

    def query(self, labels: Sequence[str], text: str = "", candidates: Sequence[int] = (), **media: Any) -> None:
        """Add a query of a video or document task."""
        self.data.add_query(self.prompts.query(self.task, text, **media), labels, candidates=candidates)

    def whole_video(self, name: str, row: Row) -> Any:
        """A folder of frames, of as many as a whole video may have."""
        return self.video(name, self.prompts.frames, row)

    def clip(self, name: str, row: Row) -> Any:
        """A folder of frames, of as many as the clip of a moment may have."""
        return self.video(name, self.prompts.clip_frames, row)


def parse(task: Task, root: Path, prompts: Prompts) -> TaskData:
    """Read a task's annotations and check them; no picture is decoded yet, and what is missing is only noted."""
    reader = _Reader(task, root, prompts)
    PARSERS[task.parser](reader)
    data = reader.data
    if not data.missing.annotations and (data.cases or not data.missing):
        data.check()
    return data


# -- images: one set of columns, used in three ways; the first target is the right one -------------------------------

_QUERY = ("qry_inst", "qry_text", "qry_img_path")
_TARGET_IMAGES = ("tgt_text", "tgt_img_path")


def _picture_to_texts(reader: _Reader) -> None:
    """A picture (and a question); its class, answer or caption among texts."""
    prompts, data = reader.prompts, reader.data
    for row in reader.rows((*_QUERY, "tgt_text")):
        image = reader.image(row.text("qry_img_path"), row)
        texts = _at_least_one(row, "tgt_text", "the right one and others")
        own = [data.add_candidate(text, prompts.image_candidate("", text)) for text in texts]
        query = prompts.image_query(row.text("qry_inst"), row.text("qry_text"), image=image)
        data.add_query(query, texts[:1], candidates=own)


def _text_to_pictures(reader: _Reader) -> None:
    """A text; its picture, known by its path, among others (with captions in WebQA and EDIS)."""
    # VLM2Vec ends VisDial's dialogues in two line breaks, as its first version did.
    line_breaks = 2 if reader.task.name == "VisDial" else 1
    for row in reader.rows(("qry_inst", "qry_text", *_TARGET_IMAGES), optional=("tgt_inst",)):
        paths, captions = _target_images(row)
        own = _pictures(reader, row, paths, paths, [caption.strip() for caption in captions])
        query = reader.prompts.image_query(row.text("qry_inst"), row.text("qry_text"), line_breaks=line_breaks)
        reader.data.add_query(query, paths[:1], candidates=own)


def _picture_to_pictures(reader: _Reader) -> None:
    """A picture and a text; a picture, known by path and caption: one picture may hold several right objects."""
    for row in reader.rows((*_QUERY, *_TARGET_IMAGES), optional=("tgt_inst",)):
        paths, captions = _target_images(row)
        names = [f"{path}:" + caption.strip('"') for path, caption in zip(paths, captions, strict=True)]
        if captions[0].strip():
            own = _pictures(reader, row, names, paths, captions)
        else:
            own = _pictures(reader, row, names, paths, [""] * len(paths), line_breaks=0)
        image = reader.image(row.text("qry_img_path"), row)
        query = reader.prompts.image_query(row.text("qry_inst"), row.text("qry_text"), image=image)
        reader.data.add_query(query, names[:1], candidates=own)


def _pictures(
    reader: _Reader, row: Row, names: Sequence[str], paths: Sequence[str], texts: Sequence[str], line_breaks: int = 1
) -> list[int]:
    instruction = row.text("tgt_inst") if "tgt_inst" in row.values else ""
    own = []
    for name, path, text in zip(names, paths, texts, strict=True):
        position = reader.data.find(name)
        if position is None:
            image = reader.image(path, row)
            item = reader.prompts.image_candidate(instruction, text, image=image, line_breaks=line_breaks)
            position = reader.data.add_candidate(name, item)
        own.append(position)
    return own


def _target_images(row: Row) -> tuple[list[str], list[str]]:
    paths, captions = _at_least_one(row, "tgt_img_path", "the right one and others"), row.texts("tgt_text")
    if len(captions) != len(paths):
        raise row.error(f"found {len(captions)} tgt_text for {len(paths)} tgt_img_path, expected as many")
    return paths, captions


def _at_least_one(row: Row, column: str, expected: str) -> list[str]:
    found = row.texts(column)
    if not found:
        raise row.error(f"found no {column}, expected {expected}")
    return found


# -- videos: classes, questions, captions -----------------------------------------------------------------------------


@cache
def class_names(task: str) -> tuple[str, ...]:
    """All classes of a video classification task."""
    text = files(__package__).joinpath("video_labels.toml").read_text(encoding="utf-8")
    return tuple(tomllib.loads(text)[task].split())


def _video_to_classes(reader: _Reader) -> None:
    """All classes are candidates, whether a query has them or not."""
    classes = class_names(reader.task.name)
    known = frozenset(classes)
    unknown: dict[str, None] = {}
    for row in reader.rows(("video_id", "pos_text")):
        label = row.text("pos_text")
        if label not in known:
            unknown[label] = None
        reader.candidate(label, label)
        reader.query([label], video=reader.whole_video(row.text("video_id"), row))
    for label in classes:
        reader.candidate(label, label)
    if unknown:
        shown = ", ".join(map(repr, list(unknown)[:3]))
        reader.data.notes.append(f"{len(unknown)} labels are none of the task's {len(known)} classes: {shown}")


def _ssv2(reader: _Reader) -> None:
    """The candidates of a query are its ``neg_text``, which hold the right one too."""
    for number, row in enumerate(reader.rows(("video_id", "pos_text", "neg_text"))):
        if reader.task.limit and number >= reader.task.limit:
            break
        own = [reader.candidate(text, text) for text in row.texts("neg_text")]
        reader.query([row.text("pos_text")], candidates=own, video=reader.whole_video(row.text("video_id"), row))


def _question(
    reader: _Reader, row: Row, video: str, question: str, names: Sequence[str], texts: Sequence[str], answer: int
) -> None:
    """A query of the video, the question and its options; each option is a candidate."""
    if not 0 <= answer < len(names):
        raise row.error(f"found answer {answer}, expected one of {len(names)} options")
    own = [reader.candidate(name, text) for name, text in zip(names, texts, strict=True)]
    reader.query([names[answer]], question, own, video=reader.whole_video(video, row))


def _mvbench(reader: _Reader) -> None:
    """Twenty configurations; options are candidates with their letters."""
    for config in MVBENCH_CONFIGS:
        for row in reader.rows(("question", "video", "candidates", "answer"), config=config):
            options = row.texts("candidates")
            question, lettered = _with_options(row.text("question"), options)
            answer = _option(row, options)
            _question(reader, row, f"{config}/{row.text('video')}", question, lettered, lettered, answer)


def _videomme(reader: _Reader) -> None:
    """Options come with letters; candidates are known by them and encoded without."""
    for row in reader.rows(("videoID", "question", "options", "answer")):
        options = row.texts("options")
        question = "\n".join([row.text("question"), *options])
        texts = [without_letter(option) for option in options]
        answer = "ABCDEFGH".find(row.text("answer") or "?")
        _question(reader, row, row.text("videoID"), question, options, texts, answer)


def _nextqa(reader: _Reader) -> None:
    """Five options in columns of their own; only ``qwen`` gives the candidates their letters."""
    columns = ("a0", "a1", "a2", "a3", "a4")
    for row in reader.rows(("video", "question", "answer", *columns)):
        options = [row.text(column) for column in columns]
        question, lettered = _with_options(row.text("question"), options)
        names = lettered if reader.prompts.name == "qwen" else options
        _question(reader, row, row.text("video"), question, names, names, int(row.number("answer")))


def _egoschema(reader: _Reader) -> None:
    """Options come with letters, behind the question in one line."""
    # VLM2Vec's code joins the first option to the question without a blank.
    between = " " if reader.prompts.name == "qwen" else ""
    for row in reader.rows(("video_idx", "question", "option", "answer")):
        options = row.texts("option")
        question = row.text("question") + between + " ".join(options)
        texts = [without_letter(option) for option in options]
        _question(reader, row, row.text("video_idx"), question, options, texts, int(row.number("answer")))


def _activitynetqa(reader: _Reader) -> None:
    """Yes or no."""
    options = ["yes", "no"]
    for row in reader.rows(("video_name", "question", "answer")):
        question = row.text("question") + "? (A) yes; (B) no."
        _question(reader, row, f"v_{row.text('video_name')}", question, options, options, _option(row, options))


def _with_options(question: str, options: list[str]) -> tuple[str, list[str]]:
    """A question with its lettered options below it, and those options."""
    lettered = [f"({chr(ord('A') + place)}) {option}" for place, option in enumerate(options)]
    return "\n".join([question, "Options:", *lettered]).rstrip(), lettered


def without_letter(option: str) -> str:
    """An option without the letter in front of it."""
    found = option.find(". ")
    return option[found:].strip(". ") if found >= 0 else option


def _option(row: Row, options: Sequence[str]) -> int:
    answer = row.text("answer")
    if answer not in options:
        raise row.error(f"found the answer {answer[:40]!r}, expected one of {[option[:40] for option in options]}")
    return list(options).index(answer)


def _text_to_videos(reader: _Reader, video: str, caption: str, *, several: bool = False, stem: bool = False) -> None:
    """A caption (the first of ``several``), and the video it was written for, among all videos of the task."""
    for row in reader.rows((video, caption)):
        name = PurePosixPath(row.text(video)).stem if stem else row.text(video)
        reader.candidate(name, video=reader.whole_video(name, row))
        text = _at_least_one(row, caption, "at least one caption")[0] if several else row.text(caption)
        reader.query([name], text)


# -- moments of a video: a video and a sentence (or less), and the clip that shows it, among the video's other clips ---


def _moment_retrieval(reader: _Reader) -> None:
    """One folder a video: ``query`` holds the whole, ``positive*`` what is looked for, every other one a wrong clip."""
    for row in reader.rows(("query", "video_path")):
        video = PurePosixPath(row.text("video_path")).stem
        clips = [f"{video}/{name}" for name in reader.subfolders(video, row) if name != "query"]
        right = [clip for clip in clips if clip.startswith(f"{video}/positive")]
        whole = reader.whole_video(f"{video}/query", row)
        if not right:
            reader.missing.files[str(reader.folder / video / "positive")] = None
            continue
        own = [reader.candidate(clip, video=reader.clip(clip, row)) for clip in clips]
        reader.query(right, row.text("query"), own, video=whole)


def _momentseeker(reader: _Reader) -> None:
    """Queries of three kinds: a text, a text and a picture, a text and a video; several clips may be right."""
    for row in reader.rows(("query", "positive_frames", "negative_frames", "input_frames")):
        given = row.text("input_frames")
        media: dict[str, Any] = {}
        if given.endswith(".mp4"):
            media["video"] = reader.clip(_frames_folder(given), row)
        elif given.endswith(".jpg"):
            media["image"] = reader.image(f"query_{given}", row)
        right, wrong = (
            [_frames_folder(clip.text("output_path")) for clip in row.rows(column)]
            for column in ("positive_frames", "negative_frames")
        )
        own = [reader.candidate(clip, video=reader.clip(clip, row)) for clip in (*right, *wrong)]
        reader.query(right, row.text("query"), own, **media)


def _frames_folder(path: str) -> str:
    """Where the frames of a clip lie: ``video_frames/movie_77_3`` for ``movie/77/3.mp4``."""
    return "video_frames/" + path.split(".mp4")[0].replace("/", "_")


# -- visual documents: a question, and the page pictures that answer it, among all of the collection ------------------


def shortened_page_file(name: str) -> str:
    """The file of a VisRAG page: fifty characters of its name, and a digest of the whole."""
    path = PurePosixPath(name)
    base = name.removesuffix(path.suffix)
    digest = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()[:8]
    return f"{base[:50]}_{digest}{path.suffix}"


#: How pages are named on disk, by the parsers of visual documents.
PAGE_FILES: dict[str, Callable[[str], str]] = {"vidore": "{}.png".format, "visrag": shortened_page_file}


def _documents(reader: _Reader) -> None:
    judged: dict[str, dict[str, float]] = {}
    for row in reader.rows(("query-id", "corpus-id", "score"), config="qrels"):
        grade = row.number("score")
        if grade > 0:  # of two grades of one pair the higher counts
            grades, name = judged.setdefault(row.text("query-id"), {}), row.text("corpus-id")
            grades[name] = max(grade, grades.get(name, 0.0))
    # A query or page that is listed twice counts as its last row.
    queries = {row.text("query-id"): row for row in reader.rows(("query-id", "query"), config="queries")}
    pages = {row.text("corpus-id"): row for row in reader.rows(("corpus-id",), config="corpus")}
    file_of = PAGE_FILES[reader.task.parser]

    def add(name: str, row: Row) -> None:
        reader.candidate(name, image=reader.image(file_of(name), row))

    for query, row in queries.items():
        grades = judged.get(query, {})
        if not grades:
            reader.data.left_out += 1
            continue
        # The pages of the queries come first, as in the benchmark's own code.
        for name in grades:
            add(name, pages.get(name, row))
        item = reader.prompts.query(reader.task, row.text("query"))
        reader.data.add_query(item, list(grades), list(grades.values()))
    for name, row in pages.items():
        add(name, row)
    if reader.data.left_out:
        reader.data.notes.append(f"queries without a relevant page left out ({reader.data.left_out})")


PARSERS: dict[str, Callable[[_Reader], None]] = {
    **dict.fromkeys(("image_cls", "image_qa", "image_i2t"), _picture_to_texts),
    "image_t2i": _text_to_pictures,
    "image_i2i_vg": _picture_to_pictures,
    "video_classification": _video_to_classes,
    "ssv2": _ssv2,
    "mvbench": _mvbench,
    "videomme": _videomme,
    "nextqa": _nextqa,
    "egoschema": _egoschema,
    "activitynetqa": _activitynetqa,
    "msrvtt": partial(_text_to_videos, video="video_id", caption="caption"),
    "msvd": partial(_text_to_videos, video="video_id", caption="caption", several=True),
    "didemo": partial(_text_to_videos, video="video", caption="caption", stem=True),
    "youcook2": partial(_text_to_videos, video="id", caption="sentence"),
    "vatex": partial(_text_to_videos, video="videoID", caption="enCap", several=True),
    "moment_retrieval": _moment_retrieval,
    "momentseeker": _momentseeker,
    **dict.fromkeys(PAGE_FILES, _documents),
}
