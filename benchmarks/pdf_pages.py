"""A 200-page PDF to page images, and to an index: pages a second, and resident memory along the way.

The PDF is made on the fly: every page holds a scanned picture of its own and vector text; one page is damaged. Pages
are drawn as an index draws them, one by one through `visual_inputs`; then the same file is indexed with the packaged
small visual model as `smart index --as pages` does it, once whole and once with half the pages, so that growth with
their number can be seen.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from lib.record import record
from PIL import Image, ImageDraw

from smart_retrieval.errors import MediaError
from smart_retrieval.files import SkipLog
from smart_retrieval.index.smart_index import SmartIndex
from smart_retrieval.pictures.pdf_pages import PAGE_PIXELS
from smart_retrieval.pictures.sources import ImageSource
from smart_retrieval.pictures.visual_inputs import visual_inputs

VISUAL_TOKENS = 256  # a page, for the index
_MIB = 2**20
_RNG = np.random.default_rng(0)


def scan(page: int) -> bytes:
    """A JPEG as a scanner makes it: grain, lines of text, a figure; no two alike."""
    image = Image.fromarray(_RNG.integers(215, 256, (1600, 1200, 3), dtype=np.uint8))
    draw = ImageDraw.Draw(image)
    for line in range(40):
        draw.text((80, 60 + 36 * line), f"page {page}, line {line}: " + "words upon words " * 4, fill=(20, 20, 20))
    draw.rectangle((600, 900, 600 + page % 500, 1300), fill=(200, page % 256, 40))
    out = BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()


def write_pdf(path: Path, count: int, damaged: int) -> None:
    """``count`` pages, the one numbered ``damaged`` (from 1) without a readable page object; written page by page."""
    offsets: dict[int, int] = {}
    with path.open("wb") as file:

        def put(number: int, content: bytes) -> None:
            offsets[number] = file.tell()
            file.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))

        def stream(entries: bytes, data: bytes) -> bytes:
            return b"<<%s/Length %d>>stream\n%s\nendstream" % (entries, len(data), data)

        file.write(b"%PDF-1.7\n")
        put(1, b"<</Type/Catalog/Pages 2 0 R>>")
        kids = b" ".join(b"%d 0 R" % (4 + 3 * page) for page in range(count))
        put(2, b"<</Type/Pages/Count %d/Kids[%s]>>" % (count, kids))
        put(3, b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>")
        for page in range(count):
            first = 4 + 3 * page
            whole = (
                b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents %d 0 R"
                b"/Resources<</Font<</F 3 0 R>>/XObject<</I %d 0 R>>>>>>" % (first + 1, first + 2)
            )
            put(first, b"((( damaged" if page + 1 == damaged else whole)
            text = b"".join(
                b"BT /F 9 Tf 40 %d Td (%d: vector text upon vector text) Tj ET " % (800 - 11 * line, line)
                for line in range(60)
            )
            put(first + 1, stream(b"", b"q 297 0 0 396 280 20 cm /I Do Q " + text))
            picture = b"/Type/XObject/Subtype/Image/Width 1200/Height 1600/BitsPerComponent 8/ColorSpace/DeviceRGB"
            put(first + 2, stream(picture + b"/Filter/DCTDecode", scan(page + 1)))
        start, size = file.tell(), max(offsets) + 1
        file.write(b"xref\n0 %d\n0000000000 65535 f \n" % size)
        file.writelines(b"%010d 00000 n \n" % offsets[number] for number in range(1, size))
        file.write(b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (size, start))


def measure(path: Path, page_pixels: int) -> dict[str, Any]:
    """Draw all pages once; seconds, and resident memory every ten pages."""
    process = psutil.Process()
    resident = [round(process.memory_info().rss / _MIB, 1)]
    skipped = SkipLog()
    begun, computed = time.perf_counter(), time.process_time()
    drawn = failed = 0
    for seen in visual_inputs(path, skipped=skipped, page_pixels=page_pixels):
        assert isinstance(seen.source, ImageSource)
        try:
            image = seen.source.load()
        except MediaError:
            failed += 1
            continue
        assert image.size == (seen.width, seen.height)
        drawn += 1
        if drawn % 10 == 0:
            resident.append(round(process.memory_info().rss / _MIB, 1))
    seconds, computed = time.perf_counter() - begun, time.process_time() - computed
    return {
        "pages_drawn": drawn,
        "pages_passed_over": failed + skipped.counts.total(),
        "problems": [f"{Path(found.path).name}: {found.reason} ({found.detail})" for found in skipped],
        "seconds": round(seconds, 2),
        "pages_per_second": round(drawn / seconds, 1),
        "cpu_seconds": round(computed, 2),
        "pages_per_cpu_second": round(drawn / computed, 1),  # on a machine that is shared
        "resident_mib_every_10_pages": resident,
        "growth_mib_after_20_pages": round(resident[-1] - resident[min(2, len(resident) - 1)], 1),
    }


def index(path: Path, folder: Path) -> dict[str, Any]:
    """Index a folder with one PDF; seconds, and resident memory ten times a second."""
    process, resident, done = psutil.Process(), list[float](), threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            resident.append(process.memory_info().rss / _MIB)

    watcher = threading.Thread(target=watch)
    with SmartIndex.open_or_create(folder, "glyph", files_as="pages", max_visual_tokens=VISUAL_TOKENS) as opened:
        opened.model.encode_document(["warm"])  # the model is loaded before the clock starts
        watcher.start()
        begun, computed = time.perf_counter(), time.process_time()
        report = opened.index_folder(path.parent)
        seconds, computed = time.perf_counter() - begun, time.process_time() - computed
        done.set()
        watcher.join()
        pages = len(opened)
    middle, last = resident[len(resident) // 3 : 2 * len(resident) // 3], resident[2 * len(resident) // 3 :]
    return {
        "pages_indexed": pages,
        "max_visual_tokens": VISUAL_TOKENS,
        "reasons": report.reasons(),
        "seconds": round(seconds, 2),
        "pages_per_second": round(pages / seconds, 1),
        "pages_per_cpu_second": round(pages / computed, 1),
        "resident_mib_at_start": round(resident[0], 1),
        "resident_mib_peak": round(max(resident), 1),
        "growth_mib_last_third_over_middle_third": round(float(np.median(last) - np.median(middle)), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--damaged", type=int, default=57, help="which page is damaged, from 1")
    parser.add_argument("--pixels", type=int, default=PAGE_PIXELS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pages" / "pages.pdf"
        path.parent.mkdir()
        write_pdf(path, arguments.pages, arguments.damaged)
        figures = {"file_mib": round(path.stat().st_size / _MIB, 1), "page_pixels": arguments.pixels}
        figures |= measure(path, arguments.pixels)
        figures["index"] = index(path, Path(folder) / "whole.smart")
        half = Path(folder) / "half" / "pages.pdf"
        half.parent.mkdir()
        write_pdf(half, arguments.pages // 2, arguments.damaged)
        figures["index_of_half_the_pages"] = index(half, Path(folder) / "half.smart")
    print({name: value for name, value in figures.items() if name != "problems"})
    record("pdf_pages", figures)


if __name__ == "__main__":
    main()
