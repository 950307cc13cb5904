"""PDFs read and drawn in the guarded child, beside the same functions in this process; and what hostile files cost.

The PDFs are made on the fly: pages of text, and pages that each hold a scanned picture and vector text. Both ways take
turns; the figures are medians of what a file, or a page, took, and the best of it, which other work on the machine
disturbs least. Before each there is a pause, as a model takes between them: right after the other way, a process that
has slept wakes on a core that another one has warmed for itself. The child is running when the clock starts; its start
is measured by itself.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from lib.record import record
from pdf_pages import write_pdf

from smart_retrieval.documents.readers.pdf import read
from smart_retrieval.errors import MediaError
from smart_retrieval.guarded import stop
from smart_retrieval.pictures import pdf_drawing
from smart_retrieval.pictures.pdf_pages import PAGE_PIXELS

_MIB = 2**20
_PAUSE_SECONDS = 0.02


def write_text(path: Path, count: int) -> None:
    """Pages of 45 lines of text."""
    objects = {1: b"<</Type/Catalog/Pages 2 0 R>>", 3: b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"}
    kids = b" ".join(b"%d 0 R" % (4 + 2 * page) for page in range(count))
    objects[2] = b"<</Type/Pages/Count %d/Kids[%s]>>" % (count, kids)
    for page in range(count):
        first = 4 + 2 * page
        lines = b"".join(
            b"BT /F 10 Tf 40 %d Td (Line %d of page %d goes on with some ordinary words about otters and rivers) Tj ET "
            % (800 - 16 * line, line, page)
            for line in range(45)
        )
        resources = b"/Resources<</Font<</F 3 0 R>>>>"
        objects[first] = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]%s/Contents %d 0 R>>" % (resources, first + 1)
        objects[first + 1] = b"<</Length %d>>stream\n%s\nendstream" % (len(lines), lines)
    body = b"".join(b"%d 0 obj\n%s\nendobj\n" % item for item in sorted(objects.items()))
    path.write_bytes(b"%PDF-1.7\n" + body + b"trailer<</Root 1 0 R>>\n")


def side_by_side(guarded: Callable[[int], Any], here: Callable[[int], Any], rounds: int, parts: int) -> dict[str, Any]:
    """Milliseconds and processor time both ways, in turns, part by part (a part is a page, or a whole file)."""
    times = {name: [[0.0] * rounds for _ in range(parts)] for name in ("guarded", "in_this_process")}
    processor = dict.fromkeys(times, 0.0)
    for turn in range(-1, rounds):  # the first warms both
        for name, call in (("guarded", guarded), ("in_this_process", here)):
            before = processor_seconds()
            for part in range(parts):
                time.sleep(_PAUSE_SECONDS)
                begun = time.perf_counter()
                call(part + 1)
                if turn >= 0:
                    times[name][part][turn] = 1000 * (time.perf_counter() - begun)
            if turn >= 0:
                processor[name] += processor_seconds() - before
    figures: dict[str, Any] = {}
    for label, choose in (("median", median), ("best", min)):
        both = [sum(choose(found) for found in times[name]) for name in times]
        figures[f"ms_{label}"] = dict(zip(times, (round(one, 2) for one in both), strict=True))
        figures[f"ratio_of_{label}s"] = round(both[0] / both[1], 3)
    figures["processor_ms"] = {name: round(1000 * seconds / rounds, 1) for name, seconds in processor.items()}
    return figures


def processor_seconds() -> float:
    """Of this process and its children."""
    here = psutil.Process()
    return float(sum(one.cpu_times().user + one.cpu_times().system for one in (here, *here.children())))


def draw(path: Path, page: int, draw_page: Callable[..., pdf_drawing.Pixels]) -> None:
    """A page of a PDF as Pillow's picture."""
    from PIL import Image

    pixels = draw_page(path, page, PAGE_PIXELS, False)
    data: Any = pixels.data
    Image.frombuffer("RGB", (pixels.width, pixels.height), data, "raw", "BGR", pixels.stride, 1)


def child_memory() -> float:
    """Resident MiB of the child."""
    return round(max((one.memory_info().rss for one in psutil.Process().children()), default=0) / _MIB, 1)


def hostile(path: Path) -> dict[str, Any]:
    """What happens with a file of which PDFium would take all memory."""
    begun = time.perf_counter()
    try:
        read(path, 2**26, 10_000)
        found = "read"
    except MediaError as error:
        found = str(error).replace(f"{path.parent}/", "")
    return {"file_bytes": path.stat().st_size, "seconds": round(time.perf_counter() - begun, 2), "what": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    pages, figures = arguments.pages, dict[str, Any](pages=arguments.pages, rounds=arguments.rounds)
    read_here: Any = read.__wrapped__  # type: ignore[attr-defined]
    draw_here: Any = pdf_drawing.draw_page.__wrapped__  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        texts, scans = Path(folder) / "texts.pdf", Path(folder) / "scans.pdf"
        write_text(texts, pages)
        write_pdf(scans, pages, 0)
        begun = time.perf_counter()
        read(texts, 2**26, 10_000)
        figures["first_read_with_the_start_of_the_child_ms"] = round(1000 * (time.perf_counter() - begun), 1)
        figures["child_mib_at_start"] = child_memory()
        for name, path in (("texts", texts), ("scans", scans)):
            figures[f"read_{name}"] = side_by_side(
                lambda _, path=path: read(path, 2**28, 10_000),  # type: ignore[misc]
                lambda _, path=path: read_here(path, 2**28, 10_000),  # type: ignore[misc]
                arguments.rounds,
                1,
            )
            figures[f"draw_{name}"] = side_by_side(
                lambda page, path=path: draw(path, page, pdf_drawing.draw_page),  # type: ignore[misc]
                lambda page, path=path: draw(path, page, draw_here),  # type: ignore[misc]
                arguments.rounds,
                pages,
            )
        figures["child_mib_at_end"] = child_memory()
        stop()
        for name, content in hostile_files().items():
            path = Path(folder) / f"{name}.pdf"
            path.write_bytes(content)
            figures[f"hostile_{name}"] = hostile(path)
    print(figures)
    record("pdf_guard", figures)


def hostile_files() -> dict[str, bytes]:
    """A form that draws itself, and drawing commands compressed twice."""
    import zlib

    def pdf(resources: bytes, content: bytes, entries: bytes = b"", more: bytes = b"") -> bytes:
        return (
            b"%%PDF-1.7\n1 0 obj<</Type/Catalog/Pages 2 0 R>> endobj\n"
            b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>> endobj\n"
            b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R/Resources<<%s>>>> endobj\n"
            b"4 0 obj<<%s/Length %d>>stream\n%s\nendstream endobj\n%s\ntrailer<</Root 1 0 R>>\n"
            % (resources, entries, len(content), content, more)
        )

    form = b"5 0 obj<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X 5 0 R>>>>/Length 11>>stream\n"
    packed = zlib.compress(zlib.compress(b"BT /F 12 Tf (a) Tj ET\n" * 10_000_000, 9), 9)
    return {
        "loop": pdf(b"/XObject<</X 5 0 R>>", b"/X Do", more=form + b"/X Do /X Do\nendstream endobj"),
        "compressed_twice": pdf(
            b"/Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>", packed, b"/Filter[/FlateDecode/FlateDecode]"
        ),
    }


if __name__ == "__main__":
    main()
