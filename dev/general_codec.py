"""Fit the codec that the package ships for a model, on mixed text made from Debian packages.

    apt-get download dict-gcide dict-wn debian-reference-en debian-handbook debian-faq debian-policy octave-doc \\
        perl-doc libreoffice-help-en-us gnome-user-docs gimp-help-en fortunes manpages maxima-doc \\
        r-doc-html manpages-de manpages-fr manpages-es
    for package in *.deb; do dpkg-deb -x "$package" SOURCES; done
    python dev/general_codec.py SOURCES [--model minilm]

Writes the codec into the package, under its hash, and lists it for the model. What is shipped are means and
quantisers, from which no text can be read. None of the judged collections is among the sources. A codec that was once
released stays in the package for ever: indexes name it by its hash.
"""

from __future__ import annotations

import argparse
import gzip
import html
import json
import random
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from smart_retrieval import SmartEmbeddings, SmartModel
from smart_retrieval.index.codec.base import Codec
from smart_retrieval.index.codec.codebook import CodebookCodec
from smart_retrieval.index.codec.names import parse_codec
from smart_retrieval.index.codec.sample import gather_sample
from smart_retrieval.index.codec.tables import IN_PACKAGE
from smart_retrieval.index.codec_fitting import vocabulary_of
from smart_retrieval.index.smart_index import DEFAULT_CODEC

DATA = Path(__file__).resolve().parents[1] / "src/smart_retrieval/index/codec/data"
SAMPLE = 80_000  # tokens that the context and the quantisers are fitted to; means take all

#: Passages of each kind of text, by files below SOURCES.
KINDS = {
    "dictionary": (6000, ("usr/share/dictd/gcide.dict.dz",)),
    "wordnet": (4000, ("usr/share/dictd/wn.dict.dz",)),
    "handbook": (1500, ("usr/share/doc/debian-handbook/html/en-US/**/*.html", "usr/share/debian-reference/*.en.html")),
    "policy": (700, ("usr/share/doc/debian-policy/**/*.html", "usr/share/doc/debian/FAQ/*.en.html")),
    "numerics": (
        2200,
        ("usr/share/doc/octave/**/*.html", "usr/share/doc/maxima-doc/**/*.html", "usr/share/R/**/*.html"),
    ),
    "office": (1800, ("usr/share/libreoffice/help/en-US/**/*.html", "usr/share/gimp/2.0/help/en/**/*.html")),
    "desktop": (1200, ("usr/share/help/C/**/*.page",)),
    "perl": (1500, ("usr/share/perl/**/*.pod",)),
    "manual": (1500, ("usr/share/man/man*/*.gz",)),
    "sayings": (1200, ("usr/share/games/fortunes/*",)),
    "other languages": (1400, ("usr/share/man/??/man*/*.gz",)),
}
_WORDS = (20, 170)  # of a passage
_TAGS = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_BLOCKS = re.compile(r"</?(p|div|li|h\d|tr|dt|dd|pre|section|title|br)\b[^>]*>", re.IGNORECASE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", type=Path)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--codec", default=DEFAULT_CODEC)
    arguments = parser.parse_args()
    model = SmartModel(arguments.model)
    texts = [text for found in gather(arguments.sources).values() for text in found]
    random.Random(0).shuffle(texts)
    vocabulary = vocabulary_of(model)
    sample = gather_sample(encoded(model, texts), limit=SAMPLE)
    print(f"{len(texts)} passages, {sample.counts.sum()} tokens, {len(sample.ids)} ids", file=sys.stderr)
    codec = CodebookCodec.fit(parse_codec(arguments.codec), sample, vocabulary, 0, IN_PACKAGE)
    print(ship(codec, model.identity()))


def encoded(model: SmartModel, texts: list[str]) -> Iterator[SmartEmbeddings]:
    """The passages, encoded in bfloat16: means over many tokens, which its rounding does not move."""
    model.encoder.bfloat16()
    for start in range(0, len(texts), 512):
        yield model.encode_document(texts[start : start + 512], show_progress=True)


def ship(codec: Codec, identity: Mapping[str, Any]) -> str:
    """Put a codec into the package as the newest for a model; its hash."""
    data, name = codec.to_bytes(whole=True), codec.hash
    (DATA / f"{name}.codec").write_bytes(data)
    listed = json.loads((DATA / "codecs.json").read_text(encoding="utf-8"))
    model = {key: identity[key] for key in ("fingerprint", "pooling", "readout")}
    entry = {"name": codec.name, "hash": name, "of": identity["name"], "model": model}
    listed = [entry, *(one for one in listed if one["hash"] != name)]
    (DATA / "codecs.json").write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
    return name


def gather(sources: Path, seed: int = 0) -> dict[str, list[str]]:
    """Passages by kind of text, drawn at random, no two alike."""
    found: dict[str, list[str]] = {}
    for kind, (most, patterns) in KINDS.items():
        rng = random.Random(f"{seed} {kind}")
        files = sorted({file for pattern in patterns for file in sources.glob(pattern) if file.is_file()})
        rng.shuffle(files)
        texts: set[str] = set()
        for file in files:
            own = sorted({*passages(paragraphs(file), rng)})
            # A file gives what its share is, so that no single one decides; a lone file gives all.
            share = most if len(files) < 4 else max(4, 4 * most // len(files))
            texts.update(rng.sample(own, min(share, len(own))))
            if len(texts) > most:
                break
        found[kind] = sorted(rng.sample(sorted(texts), min(most, len(texts))))
    return found


def paragraphs(file: Path) -> Iterator[str]:
    """A file's paragraphs as plain text."""
    data = file.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    text = data.decode("utf-8", "replace")
    if "man" in file.parts:
        text = re.sub(
            r"^[.'](\\\"|(SH|SS|TH|TP|PP|P|IP|LP|RS|RE|nf|fi|br|sp|de|ie|el|so)\b).*$", "\n", text, flags=re.M
        )
        text = re.sub(r"^\.[A-Za-z]{1,2} ?", "", text, flags=re.M)
        text = re.sub(r"\\f(\[[^]]*\]|\(..|.)|\\[&/,|^%]|\\s[-+]?\d", "", text)
        text = text.replace("\\-", "-").replace("\\(aq", "'").replace("\\e", "\\")
    elif file.suffix in (".html", ".page"):
        text = html.unescape(_TAGS.sub(" ", _BLOCKS.sub("\n\n", re.sub(r"\s*\n\s*", " ", text))))
    elif file.suffix == ".pod":
        text = re.sub(r"^=.*$", "", text, flags=re.M)
        text = re.sub(r"[A-Z]<+\s?([^<>]*?)\s?>+", r"\1", text)
    elif file.suffix == ".dz":
        text = re.sub(r"\n(?=\S)", "\n\n", text)  # an entry begins at the margin
        text = re.sub(r"[{}\\]|\[1913 Webster\]|\[PJC\]|\[WordNet 1.5\]", "", text)
    elif "fortunes" in file.parts:
        text = text.replace("\n%\n", "\n\n")
    for part in re.split(r"\n\s*\n", text):
        yield " ".join(part.split())


def passages(found: Iterator[str], rng: random.Random) -> Iterator[str]:
    """Paragraphs put together or cut to lengths between a sentence and a page; half of them stay as they are."""
    waiting: list[str] = []
    target = rng.randint(*_WORDS)
    for paragraph in found:
        letters = sum(character.isalpha() for character in paragraph)
        if letters < 0.6 * len(paragraph) or len(paragraph) < 30:
            continue
        waiting += paragraph.split()
        if len(waiting) >= target or rng.random() < 0.3:
            for start in range(0, len(waiting), _WORDS[1]):
                yield " ".join(waiting[start : start + _WORDS[1]])
            waiting, target = [], rng.randint(*_WORDS)
    if waiting:
        yield " ".join(waiting[: _WORDS[1]])


if __name__ == "__main__":
    main()
