"""LamRA's training pairs: ``query.jsonl`` and ``cand_pool.jsonl``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import DatasetError
from ...inputs import Item
from .examples import Collector, TrainingSet
from .pairs import image_source, json_lines


def read_lamra(folder: str | Path) -> TrainingSet:
    """Read a folder in LamRA's layout (the M-BEIR form).

    Queries have ``qid``, ``query_txt``, ``query_img_path``, ``pos_cand_list``, ``neg_cand_list``; candidates ``did``,
    ``txt``, ``img_path``. Paths are relative to the folder.

    Args:
        folder: Holds ``query.jsonl`` and ``cand_pool.jsonl``.

    Raises:
        DatasetError: A file is missing, a line malformed, or a candidate unknown.
    """
    folder = Path(folder)
    pool: dict[str, tuple[Item, str]] = {}
    for where, record in json_lines(folder / "cand_pool.jsonl"):
        did = record.get("did")
        if not isinstance(did, str) or not did or did in pool:
            raise DatasetError(f"{where}: found did {did!r}, expected a string, each once")
        pool[did] = _item(record, "txt", "img_path", folder, where)
    collector = Collector(folder.name)
    for where, record in json_lines(folder / "query.jsonl"):
        query, _ = _item(record, "query_txt", "query_img_path", folder, where)
        sides = []
        for name in ("pos_cand_list", "neg_cand_list"):
            known = record.get(name) or []
            if not isinstance(known, list) or (missing := [did for did in known if did not in pool]):
                raise DatasetError(f"{where}: found {name} with unknown candidates {missing[:3]!r}")
            sides.append([collector.document(*pool[did]) for did in known])
        if not sides[0]:
            raise DatasetError(f"{where}: found no pos_cand_list, expected at least one candidate")
        collector.add(query, *sides)
    return collector.finish()


def _item(record: dict[str, Any], text_key: str, image_key: str, folder: Path, where: str) -> tuple[Item, str]:
    text = record.get(text_key) or ""
    if not isinstance(text, str):
        raise DatasetError(f"{where}: found {type(text).__name__} as {text_key}, expected a string")
    images: tuple[Any, ...] = ()
    group = ""
    if record.get(image_key):
        image, group = image_source(record[image_key], folder, where)
        images = (image,)
    if not text.strip() and not images:
        raise DatasetError(f"{where}: found neither {text_key} nor {image_key}")
    return Item(text, images), group
