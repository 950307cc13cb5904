"""The development collections: three judged ones from a folder, and the standard library's own questions."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smart_retrieval.demo.stdlib_docs import stdlib_collection, write_beir
from smart_retrieval.errors import DatasetError

JUDGED = ("cranfield", "cacm", "npl")


def add_collections(parser: argparse.ArgumentParser) -> None:
    """The arguments that `named_collections` reads."""
    parser.add_argument("folders", type=Path, nargs="*", help="BEIR-layout folders")
    parser.add_argument("--data", type=Path, help=f"a folder with {', '.join(JUDGED)}")
    parser.add_argument("--no-stdlib", action="store_true", help="leave the project's own collection out")


@contextmanager
def named_collections(arguments: argparse.Namespace) -> Iterator[list[Path]]:
    """The folders of the command line, those in ``--data``, and the standard library unless it is left out."""
    with collections(arguments.data, stdlib=not arguments.no_stdlib) as found:
        yield [*arguments.folders, *found]


@contextmanager
def collections(data: Path | None, *, stdlib: bool = True) -> Iterator[list[Path]]:
    """The development collections as BEIR folders; the standard library's is made anew, in a temporary folder."""
    found = [] if data is None else [data / name for name in JUDGED]
    if missing := [str(folder) for folder in found if not (folder / "corpus.jsonl").is_file()]:
        raise DatasetError(f"found no collection {', '.join(missing)}, expected BEIR folders of these names")
    with tempfile.TemporaryDirectory() as temporary:
        if stdlib:
            own = stdlib_collection()
            write_beir(Path(temporary) / "stdlib", own.docs, own.questions)
            found.append(Path(temporary) / "stdlib")
        yield found
