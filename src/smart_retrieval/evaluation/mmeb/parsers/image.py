"""The 36 image tasks: one set of columns, five ways of using it. The first target is the right one."""

from __future__ import annotations

from ..annotations import Row
from ..cases import TaskData
from ..layout import Source
from ..prompts import Prompts

_QUERY = ("qry_inst", "qry_text", "qry_img_path")
_TARGET_IMAGES = ("tgt_text", "tgt_img_path")


def image_cls(source: Source, prompts: Prompts, data: TaskData) -> None:
    """A picture; its class among texts."""
    _picture_to_texts(source, prompts, data)


def image_qa(source: Source, prompts: Prompts, data: TaskData) -> None:
    """A picture and a question; its answer among texts."""
    _picture_to_texts(source, prompts, data)


def image_i2t(source: Source, prompts: Prompts, data: TaskData) -> None:
    """A picture; its caption among texts."""
    _picture_to_texts(source, prompts, data)


def _picture_to_texts(source: Source, prompts: Prompts, data: TaskData) -> None:
    for row in source.rows((*_QUERY, "tgt_text")):
        image = source.image(row.text("qry_img_path"), row)
        texts = _targets(row, "tgt_text")
        own = [data.add_candidate(text, prompts.image_candidate("", text)) for text in texts]
        query = prompts.image_query(row.text("qry_inst"), row.text("qry_text"), image=image)
        data.add_query(query, texts[:1], candidates=own)


def image_t2i(source: Source, prompts: Prompts, data: TaskData) -> None:
    """A text; its picture, known by its path, among others (with captions in WebQA and EDIS)."""
    # VLM2Vec ends VisDial's dialogues in two line breaks, as its first version did.
    line_breaks = 2 if source.task.name == "VisDial" else 1
    for row in source.rows(("qry_inst", "qry_text", *_TARGET_IMAGES), optional=("tgt_inst",)):
        paths, captions = _target_images(row)
        instruction = row.text("tgt_inst") if "tgt_inst" in row.values else ""
        own = []
        for path, caption in zip(paths, captions, strict=True):
            place = data.find(path)
            if place is None:
                item = prompts.image_candidate(instruction, caption.strip(), image=source.image(path, row))
                place = data.add_candidate(path, item)
            own.append(place)
        query = prompts.image_query(row.text("qry_inst"), row.text("qry_text"), line_breaks=line_breaks)
        data.add_query(query, paths[:1], candidates=own)


def image_i2i_vg(source: Source, prompts: Prompts, data: TaskData) -> None:
    """A picture and a text; a picture, known by path and caption: one may hold several right objects."""
    for row in source.rows((*_QUERY, *_TARGET_IMAGES), optional=("tgt_inst",)):
        paths, captions = _target_images(row)
        instruction = row.text("tgt_inst") if "tgt_inst" in row.values else ""
        names = [f"{path}:" + caption.strip('"') for path, caption in zip(paths, captions, strict=True)]
        captioned = bool(captions[0].strip())
        own = []
        for name, path, caption in zip(names, paths, captions, strict=True):
            place = data.find(name)
            if place is None:
                item = prompts.image_candidate(
                    instruction,
                    caption if captioned else "",
                    image=source.image(path, row),
                    line_breaks=1 if captioned else 0,
                )
                place = data.add_candidate(name, item)
            own.append(place)
        image = source.image(row.text("qry_img_path"), row)
        query = prompts.image_query(row.text("qry_inst"), row.text("qry_text"), image=image)
        data.add_query(query, names[:1], candidates=own)


def _targets(row: Row, column: str) -> list[str]:
    found = row.texts(column)
    if not found:
        raise row.error(f"found no {column}, expected the right one and others")
    return found


def _target_images(row: Row) -> tuple[list[str], list[str]]:
    paths, captions = _targets(row, "tgt_img_path"), row.texts("tgt_text")
    if len(captions) != len(paths):
        raise row.error(f"found {len(captions)} tgt_text for {len(paths)} tgt_img_path, expected as many")
    return paths, captions
