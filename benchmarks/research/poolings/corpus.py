"""Passages for the students: descriptions and manuals of Debian packages, dictionaries, and short queries out of them.

    apt-get install --yes wordnet-base dict-gcide dict-foldoc dict-jargon
    apt-get download linux-doc-6.1 debian-handbook debian-faq manpages manpages-dev perl-doc gimp-help-en \\
        libreoffice-help-en-us gnome-user-docs anarchism postgresql-doc-15 git-doc sqlite3-doc octave-doc maxima-doc \\
        apache2-doc openjdk-17-doc rust-doc fp-docs-3.2.2 r-doc-html
    for file in *.deb; do dpkg -x "$file" MANUALS; done
    python benchmarks/research/poolings/corpus.py MANUALS OUT

None is part of a development collection. Writes OUT/corpus.npz: token ids of MiniLM's vocabulary, and lengths.
"""

from __future__ import annotations

import argparse
import gzip
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from selectolax.lexbor import LexborHTMLParser
from tokenizers import Tokenizer

from smart_retrieval.backbones.checkpoints import resolve_model

LONGEST = 96  # tokens
MOST = 60_000  # passages of one source
QUERIES = 120_000
WORDS = (15, 30, 60, 90)
DICTIONARIES = ("gcide", "foldoc", "jargon")
# Of paths within the folder of manuals.
_FOREIGN = re.compile(r"/(?!en)[a-z]{2}([-_][A-Za-z]{2})?/|\.([a-z]{2}|pt-br|zh-cn)\.(html|xhtml|utf8)")
_MARKUP = re.compile(r"\.(html?|xhtml|page|en|utf8)$")
_PLAIN = re.compile(r"\.(rst|txt|[1-8])$")


def descriptions() -> Iterator[str]:
    """Titles and paragraphs of all packages that apt knows."""
    known = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, errors="replace", check=True)
    for block in known.stdout.split("\n\n"):
        found = re.search(r"^Description(?:-en)?: (.*?)(?=^\S|\Z)", block, re.M | re.S)
        if found:
            title, _, body = found[1].partition("\n")
            yield title
            yield from re.split(r"\n \.\n", body)


def glosses() -> Iterator[str]:
    """Words of one meaning, and what WordNet says of it."""
    for file in sorted(Path("/usr/share/wordnet").glob("data.*")):
        for line in file.read_text(errors="replace").splitlines():
            left, bar, gloss = line.partition("|")
            if bar and not line.startswith("  "):
                fields = left.split(" ")
                words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
                yield f"{', '.join(words).replace('_', ' ')}: {gloss}"


def dictionary(name: str) -> Iterator[str]:
    with gzip.open(f"/usr/share/dictd/{name}.dict.dz", "rt", errors="replace") as file:
        yield from re.split(r"\n\n+|\n(?=\S)", file.read())


def manual(file: Path) -> Iterator[str]:
    """Paragraphs of a manual's file; of what is longer, pieces of 15 to 90 words."""
    name = file.name.removesuffix(".gz")
    if not (_MARKUP.search(name) or _PLAIN.search(name)):
        return
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
        text = opened.read(3_000_000).decode("utf-8", "replace")
    if _MARKUP.search(name):
        parts = [node.text(separator=" ") for node in LexborHTMLParser(text).css("p,li,h1,h2,h3,title,dd")]
    else:
        parts = re.split(r"\n\s*\n", re.sub(r"^[.'][^\n]*$|\\f.|\\", "", text, flags=re.M))
    for part in parts:
        words = part.split()
        while len(words) > WORDS[-1] + WORDS[0]:
            size = random.choice(WORDS)
            yield " ".join(words[:size])
            words = words[size:]
        yield " ".join(words)


def files_by_package(manuals: Path) -> dict[str, list[Path]]:
    """The English files of each package."""
    found = dict[str, list[Path]]()
    for file in sorted(path for path in manuals.rglob("*") if path.is_file() and not path.is_symlink()):
        within = file.relative_to(manuals)
        if not _FOREIGN.search(f"/{within.as_posix()}"):
            found.setdefault("/".join(within.parts[:4]), []).append(file)
    return found


def kept(texts: Iterator[str], seen: set[str]) -> list[str]:
    """Of one source, what reads like language and was not met before."""
    found = list[str]()
    for text in texts:
        text = re.sub(r"\s+", " ", text).strip()
        letters = sum(character.isalpha() for character in text)
        if 20 <= len(text) <= 1200 and letters > 0.6 * len(text) and text not in seen:
            seen.add(text)
            found.append(text)
    random.shuffle(found)
    return found[:MOST]


def queries(passages: list[str]) -> Iterator[str]:
    """3 to 12 words in a row, out of one sentence each."""
    for passage in random.sample(passages, min(QUERIES, len(passages))):
        words = random.choice(re.split(r"(?<=[.!?;:]) ", passage)).split()
        if len(words) > 4:
            size = random.randint(3, 12)
            start = random.randint(0, max(0, len(words) - size))
            yield " ".join(words[start : start + size])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manuals", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    random.seed(0)
    sources = {"packages": descriptions(), "wordnet": glosses()} | {name: dictionary(name) for name in DICTIONARIES}
    packages = files_by_package(arguments.manuals)
    sources |= {name: (text for file in files for text in manual(file)) for name, files in sorted(packages.items())}
    seen, passages = set[str](), list[str]()
    for name, texts in sources.items():
        found = kept(texts, seen)
        passages += found
        print(f"{name:40} {len(found):6}", flush=True)
    passages += queries(passages)
    random.shuffle(passages)
    tokenizer = Tokenizer.from_file(str(Path(resolve_model("minilm")) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    ids = [
        np.array(encoding.ids, np.uint16)
        for start in range(0, len(passages), 10_000)
        for encoding in tokenizer.encode_batch(passages[start : start + 10_000])
    ]
    arguments.out.mkdir(parents=True, exist_ok=True)
    lengths = np.array([len(one) for one in ids], np.uint8)
    np.savez_compressed(arguments.out / "corpus.npz", ids=np.concatenate(ids), lengths=lengths)
    print(f"{len(ids)} passages, {lengths.sum(dtype=np.int64)} tokens")


if __name__ == "__main__":
    main()
