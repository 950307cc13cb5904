"""Throw damaged and hostile inputs at everything that reads: whatever is raised must be a named error.

    python dev/fuzz.py [--count 100000] [--seed 0] [--kind where] [--seconds 600]

Readers of files, `where` expressions, index folders (flipped bits, truncations, databases and derived files that
somebody made) and files of embeddings, each made from sound ones by a seeded generator. Prints how many of each kind
were read and refused, and every exception that is no `SmartError`, with the number of the input; `--kind K --only N`
runs that one again. Exits with status 1 if there was one. Memory is limited to 8 GiB more than at the start, and an
input to 30 seconds.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from smart_retrieval import SmartEmbeddings
from smart_retrieval.checksums import file_checksum
from smart_retrieval.core.presets import PRESETS
from smart_retrieval.documents.read import READERS, ReadOptions
from smart_retrieval.embeddings import Grid
from smart_retrieval.errors import IndexDamagedError, SmartError
from smart_retrieval.index.codec.factory import fit_codec
from smart_retrieval.index.mirror import ann, mirror
from smart_retrieval.index.mirror import filters as metadata_filters
from smart_retrieval.index.mirror.files import MirrorFiles
from smart_retrieval.index.search import first_stage, searcher
from smart_retrieval.index.smart_index import SmartIndex
from smart_retrieval.index.store.manifest import Manifest
from smart_retrieval.index.store.pictures import Media, PlacedGrid
from smart_retrieval.index.store.records import FileEntry, Record
from smart_retrieval.index.store.store import Store
from smart_retrieval.index.store.where import compile_where

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from fixtures import crafted  # type: ignore[import-not-found]

SECONDS, MEMORY = 30, 8 << 30
#: What a query says so that no model is needed.
PLAIN: dict[str, Any] = {"lambda_anchor": 1.0, "lambda_late": 1.0, "floor": None, "weights": None}

# -- mutations of bytes ------------------------------------------------------------------------------------------------

_PIECES = (
    *rb"""< </ <script/> <!-- &#x110000; &#0; " ' \ { NaN 1e999 -1 99999999999999999999 ==== obj endobj stream << >>
    /Length 999999999""".split(),
    *(
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"\r",
        b"\n\n",
        b"\t",
        b"---\n",
        b"\xc2\xad",
        b"\xe2\x80\xae",
    ),
    *(b"[" * 3000, b"| " * 200, b"> " * 300, b"* " * 300, b"|a| " * 300),
    *(b".. include:: /etc/passwd\n", b".. |a| replace:: " + b"x" * 200 + b"\n"),
)


def mutated(rng: random.Random, data: bytes) -> bytes:
    """The data after one to four mutations."""
    content = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        size = len(content)
        at, end = sorted((rng.randint(0, size), rng.randint(0, size)))
        end = min(end, at + 4096)
        how = rng.randrange(7)
        if how == 0 and size:
            content[rng.randrange(size)] ^= 1 << rng.randrange(8)
        elif how == 1:
            del content[at:]
        elif how == 2:
            content[at:at] = rng.choice(_PIECES)
        elif how == 3:
            del content[at:end]
        elif how == 4:
            content[at:at] = bytes(content[at:end]) * rng.randint(1, 5)
        elif how == 5:
            content[at : at + rng.randint(0, 16)] = rng.randbytes(rng.randint(0, 16))
        else:
            content[at:end] = bytes(end - at)
    return bytes(content[: 1 << 20])


# -- readers of files --------------------------------------------------------------------------------------------------

_DOCUMENTS = {
    "text": "A line.\n\nAnother paragraph, with words: ünïcödé.\n" * 5,
    "markdown": "---\ntitle: A\ntags: [a, b]\n---\n# One\n\ntext *with* `code`\n\n## Two\n\n| a | b |\n|---|---|\n"
    "| 1 | 2 |\n\n> quote\n\n1. first\n2. second\n\n```py\nx = 1\n```\n\n[link](http://x.y)\n",
    "rst": "Title\n=====\n\nText with |sub| and *emphasis*.\n\n.. |sub| replace:: words\n\n.. note:: Mind it.\n\n"
    "Section\n-------\n\n::\n\n   code\n\n====  ====\na     b\n====  ====\n1     2\n====  ====\n\n.. _t: http://x.y\n",
    "html": "<!DOCTYPE html><html><head><meta charset='utf-8'><title>T</title><style>a{}</style></head><body><h1>One"
    "</h1><p>text &amp; <b>bold</b></p><table><tr><td>1<td>2</table><ul><li>a<li>b</ul><pre>  x\n y</pre><details>"
    "<summary>Q</summary><p hidden>A</p></details><button>B</button><noscript>N</noscript></body></html>",
    "jsonl": '{"id": "a", "text": "words", "title": "T", "year": 2020, "tags": ["x"]}\n{"_id": "b", "text": "more"}\n'
    * 3,
}


def _pdf() -> bytes:
    """A small PDF of two pages."""
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 300] /Contents %d 0 R /Resources << /Font 8 0 R >> >>"
    texts = (b"(Words on page one) Tj 0 -20 Td (and below)", b"(Page two)")
    drawn = [b"BT /F 12 Tf 20 200 Td %s Tj ET" % text for text in texts]
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R 4 0 R] /Count 2 >>",
        *(page % number for number in (5, 6)),
        *(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(text), text) for text in drawn),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /F 7 0 R >>",
    ]
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    return bytes(out + b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start))


def reader(name: str, folder: Path) -> Callable[[random.Random], None]:
    """Reads mutated files of one format."""
    seed = _pdf() if name == "pdf" else _DOCUMENTS[name].encode()
    file, options = folder / f"input.{name}", ReadOptions(max_bytes=1 << 21, max_pages=100, ocr="never")

    def run(rng: random.Random) -> None:
        file.write_bytes(mutated(rng, seed) if rng.random() < 0.95 else rng.randbytes(rng.randint(0, 3000)))
        READERS[name](file, options)

    return run


# -- filters -----------------------------------------------------------------------------------------------------------


def _split(words: str) -> list[str]:
    return words.split()


_WORDS = (
    *_split("""year lang id source page heading tags a.b a.b.c "quoted = != < >= <> and or not in like is null between
    exists contains ( ) , ' " % _ \\ ; -- 'x' '%a_' 1 -1 1.5 1e999 9223372036854775808 true false NaN ﬁ é [ ] * $ ?
    ?1 :a json_each select"""),
    *("drop table documents", '"a name"', "\0", "\ud800"),
)
_FIELDS = ("year", "lang", "tags", "id", "source", "page", "heading", "a.b", '"a b"', "none")
_OPERANDS = (
    "1",
    "-2.5",
    "'en'",
    "'d%'",
    "''",
    "true",
    "null",
    "9223372036854775807",
    "1e308",
    "'\\ud83d\\ude00'",
    "'x''y'",
)


def _condition(rng: random.Random, depth: int = 0) -> str:
    """Mostly a filter that can be read."""
    field, operand = rng.choice(_FIELDS), rng.choice(_OPERANDS)
    how = rng.randrange(7 if depth < 4 else 4)
    if how == 0:
        return f"{field} {rng.choice(('in', 'not in'))} ({', '.join(rng.choices(_OPERANDS, k=rng.randint(1, 4)))})"
    if how == 1:
        return f"{field} {rng.choice(('like', 'not like', 'is', 'is not', 'contains', 'exists'))} {operand}"
    if how < 4:
        return f"{field} {rng.choice(('=', '!=', '<', '<=', '>', '>='))} {operand}"
    if how == 4:
        return f"not ({_condition(rng, depth + 1)})"
    return f"({_condition(rng, depth + 1)} {rng.choice(('and', 'or'))} {_condition(rng, depth + 1)})"


def filters(folder: Path) -> Callable[[random.Random], None]:
    """Compiles and runs `where` expressions."""
    store = Store.open(make_index(folder / "where.smart"), "r")

    def run(rng: random.Random) -> None:
        if rng.random() < 0.05:
            words = ["(" * rng.randint(1, 3000), "year = 1", ")" * rng.randint(1, 3000)]
        elif rng.random() < 0.5:
            words = [_condition(rng)]
        else:
            words = rng.choices(_WORDS, k=rng.randint(0, 12))
        where = rng.choice((" ", " ", "")).join(words)
        if rng.random() < 0.1:
            where = mutated(rng, where.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogateescape")
        compile_where(where)
        store.select(where)

    return run


# -- embeddings --------------------------------------------------------------------------------------------------------


def embeddings(count: int, seed: int) -> SmartEmbeddings:
    """Documents of random unit vectors with ids, roles and a grid."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 9, count))])
    tokens = rng.standard_normal((int(offsets[-1]), 16)).astype(np.float32)
    tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
    ids = rng.integers(-1, 40, len(tokens)).astype(np.int32)
    grids = [[Grid("image", 1, 1, 1)] if number % 3 else [] for number in range(count)]
    return SmartEmbeddings(rng.standard_normal((count, 12)).astype(np.float32), tokens, offsets, ids, grids=grids)


def embeddings_files(folder: Path) -> Callable[[random.Random], None]:
    """Loads damaged files and folders of embeddings; what loads must be what was saved."""
    sound = embeddings(20, 1)
    file, saved = sound.save(folder / "sound.safetensors"), sound.save(folder / "sound")
    target = folder / "broken"

    def run(rng: random.Random) -> None:
        shutil.rmtree(target, ignore_errors=True)
        if rng.random() < 0.4:
            path = folder / "broken.safetensors"
            path.write_bytes(mutated(rng, file.read_bytes()))
        else:
            path = Path(shutil.copytree(saved, target))
            chosen = rng.choice(sorted(path.iterdir()))
            chosen.write_bytes(mutated(rng, chosen.read_bytes()))
        found = SmartEmbeddings.load(path, mmap=rng.random() < 0.5)
        for name, array in sound.to_numpy().items():
            if not np.array_equal(array, found.to_numpy()[name]):
                raise AssertionError(f"{name} was loaded with other values")

    return run


# -- indexes -----------------------------------------------------------------------------------------------------------


def make_index(path: Path, codec_name: str = "anchored+1vq+norm") -> Path:
    """A small index that holds a bit of everything."""
    documents = embeddings(24, 2)
    codec = fit_codec(codec_name, documents)
    codes = codec.encode_documents(documents)
    scoring = {**PRESETS["default"].scoring.to_dict(), "weights": "uniform", "lambda_late": 1.0, "floor": None}
    manifest = Manifest(
        model={"name": "nobody/nothing"},
        codec=codec.name,
        anchor_dim=12,
        code_width=codec.bytes_per_token,
        readout=PRESETS["default"].readout.to_dict(),
        scoring=scoring,
        language="auto",
        folding=True,
    )
    with Store.create(path, manifest, codec.to_bytes()) as store:
        records = []
        for number, (start, stop) in enumerate(zip(documents.offsets[:-1], documents.offsets[1:], strict=True)):
            grid = PlacedGrid("image", 1, 1, 1, ((0, 1),))
            media = Media("image", 10, 10, (0.5,), (grid,), preview=b"picture") if number % 5 == 0 else None
            records.append(
                Record(
                    id=f"d{number}",
                    anchor=documents.anchors[number],
                    codes=codes[start:stop],
                    token_ids=documents.token_ids[start:stop],
                    text=f"the text of document {number} about logs",
                    source=f"f{number % 4}.txt",
                    page=number,
                    heading="A > B",
                    metadata={"year": 2000 + number, "lang": "en", "tags": ["a", "b"]},
                    media=media,
                )
            )
        store.add(records)
        store.files.put(FileEntry("f0.txt", 10, 5, "00"))
        store.delete(ids=["d3"])
    with SmartIndex.open(path) as index:
        index.search(embeddings(1, 3), **PLAIN)
    return path


_VALUES: tuple[Any, ...] = (
    *(-1, 0, 1, 7, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63), 1.5, float("inf"), None),
    *(
        "",
        "x",
        "9" * 40,
        "null",
        "NaN",
        "[1e999]",
        "{}",
        "true",
        "16",
        "1000000000000",
        '"auto"',
        '"float32"',
        "[" * 3000,
    ),
    *('{"a": 1}', '{"weights": "custom"}', '{"weights": "idf", "lambda_late": "x"}', '{"layers": "x"}', '{"name": 3}'),
    *('[["image",1,1,9,[[0,9]]]]', '[["image",1,1000000,1000000,[[0,1000000000000]]]]'),
    *(b"", b"\0" * 48, b"\xff" * 48, b"\xff" * 7, b"\xed\xa0\x80"),
)
_FACTS = (
    "codec anchor_dim code_width model limits scoring readout calibration pooling lexical language root prompts folding"
)


def craft(rng: random.Random, path: Path) -> None:
    """Change a database as somebody would who knows it."""
    with crafted.opened(path) as connection:
        connection.create_function("chance", 0, rng.random)  # SQLite's own would not be the same in a second run
        tables = rng.random() < 0.3
        if tables:
            crafted.execute(connection, rng.choice(crafted.TABLES))
        for _ in range(0 if tables else rng.randint(1, 3)):
            table = rng.choice(sorted(crafted.COLUMNS))
            column = rng.choice(crafted.COLUMNS[table].split())
            rowids = "1" if rng.random() < 0.3 else "chance() < 0.25"
            if table == "manifest":
                rowids = f"key = '{rng.choice(_FACTS.split())}'"
            with suppress(sqlite3.Error):
                statement = f"UPDATE OR IGNORE {table} SET {column} = ? WHERE {rowids}"
                connection.execute(statement, (rng.choice(_VALUES),))
    if rng.random() < 0.5:
        shutil.rmtree(path / "derived", ignore_errors=True)


def indexes(folder: Path) -> Callable[[random.Random], None]:
    """Uses indexes that are damaged or made by somebody: opening, searching, reading, verifying and writing."""
    bases = [
        make_index(folder / f"base{number}.smart", name) for number, name in enumerate(("anchored+1vq+norm", "float32"))
    ]
    query = embeddings(1, 3)
    path = folder / "broken.smart"
    aside = folder / "aside"

    def run(rng: random.Random) -> None:
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(rng.choice(bases), path)
        how = rng.random()
        if how < 0.55:
            craft(rng, path)
        else:
            files = [path / "index.sqlite"] if how < 0.8 else sorted(file for file in path.rglob("*") if file.is_file())
            chosen = rng.choice(files)
            content = bytearray(chosen.read_bytes())
            if rng.random() < 0.7 and content:
                for _ in range(rng.randint(1, 20)):
                    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            chosen.write_bytes(content if rng.random() < 0.7 else mutated(rng, bytes(content)))
        failures = []
        with SmartIndex.open(path, mode=rng.choice(("r", "w"))) as index:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            uses = crafted.uses(index, query, aside, **PLAIN)
            if rng.random() < 0.9:  # they take longer than all others
                del uses["backup"], uses["split"]
            for use in uses.values():
                try:
                    use()
                except SmartError as error:
                    failures.append(error)
        if failures:
            raise failures[0]

    return run


def flips(folder: Path) -> Callable[[random.Random], None]:
    """Flips one bit of a sound index's files, a third of them in the database's header: verify must find it."""
    base, path = make_index(folder / "base.smart"), folder / "broken.smart"
    with SmartIndex.open(base, mode="w") as index:
        index.store.optimize()
        index.search(embeddings(1, 3), **PLAIN)
    files = [base / "index.sqlite"] * 6 + sorted((base / "derived").iterdir())
    files = [file for file in files if file.name != "lock" and file.stat().st_size]

    def run(rng: random.Random) -> None:
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(base, path)
        chosen = path / rng.choice(files).relative_to(base)
        content = bytearray(chosen.read_bytes())
        header = 100 if chosen.suffix == ".sqlite" and rng.random() < 0.33 else len(content)
        place = rng.randrange(header)
        content[place] ^= 1 << rng.randrange(8)
        chosen.write_bytes(content)
        with SmartIndex.open(path, mode=rng.choice(("r", "w"))) as index:
            if index.verify().ok:
                raise AssertionError(f"verify did not find a flipped bit of byte {place} of {chosen.name}")
            raise IndexDamagedError("found by verify")

    return run


def _sign_derived(folder: Path, rng: random.Random) -> None:
    """A stamp with the right checksums of whatever the files hold by now, and now and then another number."""
    stamp = MirrorFiles(folder).stamp()
    assert stamp is not None
    sums = {file.name.split(".")[1]: file for file in folder.glob("g*.*")}
    sizes = {array: stamp.size(array) for array in stamp.checksums}
    stamp = replace(
        stamp,
        checksums={array: file_checksum(sums[array], size) for array, size in sizes.items()},
        dead_checksum=file_checksum(sums[f"dead-{stamp.commit}"], 8 * stamp.dead),
        ann=stamp.ann and _signed(folder, stamp.ann),
        columns=tuple(_signed(folder, made) for made in stamp.columns),
    )
    value: Any = rng.choice((0, 1, 7, 23, 25, 2**31, 2**40, 2**61))
    if rng.random() < 0.2:
        stamp = replace(stamp, **{rng.choice(("rows", "tokens", "dead", "anchor_dim", "code_width")): value})
    elif rng.random() < 0.2 and stamp.ann:
        stamp = replace(stamp, ann=replace(stamp.ann, **{rng.choice(("rows", "trained", "probes")): value}))
    elif rng.random() < 0.2 and stamp.columns:
        stamp = replace(stamp, columns=(replace(stamp.columns[0], **{rng.choice(("start", "rows")): value}),))
    (folder / "stamp.json").write_text(stamp.to_json(), encoding="utf-8")


def _signed(folder: Path, made: Any) -> Any:
    path = folder / made.file
    return replace(made, size=path.stat().st_size, checksum=file_checksum(path))


def derived(folder: Path) -> Callable[[random.Random], None]:
    """Searches indexes whose derived files somebody made, with right checksums."""
    base, path, query = make_index(folder / "base.smart"), folder / "broken.smart", embeddings(1, 3)

    def search(path: Path) -> None:
        with SmartIndex.open(path) as index:
            for where in (None, "year > 2005 and tags = 'a'", "lang contains 'e' or heading like 'A%'"):
                index.search(query, 1, candidates=2, where=where, **PLAIN)

    @contextmanager
    def small() -> Iterator[None]:
        """Anchor index and columns are made for a few documents."""
        with ExitStack() as stack:
            for module, name in ((ann, "ANN_ROWS"), (metadata_filters, "COLUMN_ROWS"), (first_stage, "FEW")):
                stack.enter_context(mock.patch.object(module, name, 2))
            stack.enter_context(mock.patch.object(searcher, "EXHAUSTIVE_PRODUCTS", -1))
            yield

    with small():
        search(base)

    def run(rng: random.Random) -> None:
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(base, path)
        chosen = rng.choice([file for file in sorted((path / "derived").glob("g*.*")) if file.stat().st_size])
        data, how = bytearray(chosen.read_bytes()), rng.random()
        if how < 0.4:
            for _ in range(rng.randint(1, 4)):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif how < 0.7:
            place = 4 * rng.randrange(len(data) // 4)
            data[place : place + 8] = rng.choice((0, 1, 255, 2**31, 2**40, 2**62, 2**64 - 1)).to_bytes(8, "little")
        else:
            data = bytearray(mutated(rng, bytes(data)))
        chosen.write_bytes(data)
        _sign_derived(path / "derived", rng)
        with small():
            search(path)

    return run


# -- running -----------------------------------------------------------------------------------------------------------

#: How many of a hundred inputs are of each kind.
SHARES = {
    "text": 6,
    "markdown": 10,
    "rst": 10,
    "html": 12,
    "jsonl": 8,
    "pdf": 4,
    "where": 34,
    "flips": 2,
    "embeddings": 10,
    "index": 3,
    "derived": 1,
}


def runner(kind: str, folder: Path) -> Callable[[random.Random], None]:
    """What runs one input of a kind."""
    special = {"where": filters, "embeddings": embeddings_files, "index": indexes, "flips": flips, "derived": derived}
    return special[kind](folder) if kind in special else reader(kind, folder)


@contextmanager
def _time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"an input took more than {SECONDS} seconds")

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fuzz(
    count: int, seed: int = 0, kinds: list[str] | None = None, *, only: int | None = None, seconds: float = float("inf")
) -> tuple[dict[str, Counter[str]], list[str]]:
    """Run inputs, ``count`` of all kinds together.

    Returns:
        By kind, how many were read and how many refused by which error; and every raw exception, in words.
    """
    chosen = kinds or list(SHARES)
    total = sum(SHARES[kind] for kind in chosen)
    results: dict[str, Counter[str]] = {}
    raw: list[str] = []
    end = time.monotonic() + seconds
    # No index is so small that it has no derived files.
    mapped = mock.patch.object(mirror, "SMALL_DOCUMENTS", -1)
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings(), mapped:
        warnings.simplefilter("ignore")
        for kind in chosen:
            folder = Path(name) / kind
            folder.mkdir()
            run, found = runner(kind, folder), results.setdefault(kind, Counter())
            for number in range(-(-count * SHARES[kind] // total)) if only is None else [only]:
                if time.monotonic() > end:
                    break
                try:
                    with _time_limit():
                        run(random.Random(f"{seed}/{kind}/{number}"))
                    found["read"] += 1
                except SmartError as error:
                    found[type(error).__name__] += 1
                except Exception as error:
                    found["RAW"] += 1
                    place = traceback.extract_tb(error.__traceback__)[-1]
                    where = f"{Path(place.filename).name}:{place.lineno}"
                    raw.append(f"{kind} {number}: {type(error).__name__} at {where}: {str(error)[:150]}")
                    if only is not None:
                        traceback.print_exc()
    return results, raw


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="inputs of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=list(SHARES), help="only this kind; may be repeated")
    parser.add_argument("--only", type=int, help="only the input of this number")
    parser.add_argument("--record", action="store_true", help="write fuzz.json among the benchmarks' results")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    given = parser.parse_args()
    with suppress(ImportError):
        import resource

        now = (
            int(Path("/proc/self/statm").read_text().split()[0]) * 4096
            if Path("/proc/self/statm").exists()
            else 1 << 35
        )
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    start = time.monotonic()
    results, raw = fuzz(given.count, given.seed, given.kind, only=given.only, seconds=given.seconds)
    for kind, found in results.items():
        print(f"{kind}: {sum(found.values())} inputs, {json.dumps(dict(found.most_common()))}")
    for line in raw[:200]:
        print(line)
    inputs = sum(sum(found.values()) for found in results.values())
    print(f"{inputs} inputs in {time.monotonic() - start:.0f} s, {len(raw)} raw exceptions")
    if given.record:
        sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
        from lib.record import record

        kinds = {kind: {"inputs": sum(found.values()), **found} for kind, found in results.items()}
        record("fuzz", {"seed": given.seed, "inputs": inputs, "raw_exceptions": len(raw), "kinds": kinds})
    sys.exit(bool(raw))


if __name__ == "__main__":
    main()
