"""What the readers of HTML and of encodings find, beside browsers of the terminal and labels that people gave.

HTML: the pages in source distributions on PyPI and in this machine's ``/usr/share/doc``. Recall is the share of the
words (with repetition) that ``w3m -dump`` shows which the reader has too: once of the whole page, once of the page
without navigation and forms, which the reader leaves out by design, and without pictures that have no alternative text,
of which w3m shows the file's name. Encodings: the files of chardet's tests, whose
folders name their encoding; a file is right if 99 % of its characters, in their places, are what its encoding says.
Files are read as text, so without the encoding that a page declares; as the detector was made with these files in mind,
sentences of our own in many encodings are measured too, cut to several lengths.

Needs ``apt-get install w3m`` and pip; downloads 8 MB once into ``--cache``.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lib.record import record
from selectolax.lexbor import LexborHTMLParser

from smart_retrieval.documents.read import ReadOptions, read_file
from smart_retrieval.documents.readers.text import codec_of, decode
from smart_retrieval.documents.sections import clean_text
from smart_retrieval.errors import MediaError

HTML_PACKAGES = (
    "beautifulsoup4", "html2text", "html-text", "inscriptis", "trafilatura", "w3lib", "markitdown",
    "justext", "breadability", "goose3", "newspaper3k", "extruct", "readability-lxml", "chardet==5.2.0",
    "lxml", "bleach", "pyquery", "weasyprint",
)  # fmt: skip
ENCODING_PACKAGE = "chardet==5.2.0"
DOCS = Path("/usr/share/doc")
PER_FOLDER = 10  # pages of a folder of /usr/share/doc: hundreds of one kind would drown the others
FEWEST_WORDS = 20
LEFT_OUT = "nav, [role=navigation], select, textarea, template, noscript, a.headerlink, img:not([alt])"
GOOD = 0.9
_WORD = re.compile(r"[぀-ヿ㐀-鿿가-힯]|\w+")
_ADDED = re.compile(r"\d{1,2}$|s$|ins$|del$")  # numbers of list items and marks that w3m writes itself
_LANGUAGE = re.compile(r"-[a-z]{4,}$")
SENTENCES = {
    "windows-1251 koi8-r ibm866 iso-8859-5 x-mac-cyrillic": "Сегодня мы собрались, чтобы обсудить важное.",
    "windows-1253 iso-8859-7": "Η γρήγορη αλεπού πηδάει πάνω από το τεμπέλικο σκυλί. Σήμερα είναι μια όμορφη μέρα.",
    "windows-1250 iso-8859-2": "Včera jsme byli v kině na výborném filmu přítele. Příliš žluťoučký kůň.",
    "windows-1254": "Dün akşam arkadaşımızla sinemaya gittik. Pijamalı hasta yağız şoföre çabucak güvendi.",
    "windows-1252": "Übermorgen fällt die Prüfung aus, weil „Zwölf Boxkämpfer“ über den großen Deich jagen.",
    "windows-1255": "היום הוא יום יפה מאוד. דג סקרן שט בים מאוכזב ולפתע מצא לו חברה.",
    "windows-1256 iso-8859-6": "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر ومغلف بجلد أزرق",
    "windows-874": "วันนี้อากาศดีมาก เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน",
    "shift_jis euc-jp iso-2022-jp utf-16": "今日は天気がいいので、公園を散歩しました。検索エンジンのテストです。",
    "gb18030 hz-gb-2312": "今天天气很好，我们一起去公园散步吧。这是一个关于编码的测试文件。",
    "big5": "今天天氣很好，我們一起去公園散步吧。這是一個關於編碼的測試檔案。",
    "euc-kr iso-2022-kr": "오늘은 날씨가 좋아서 공원을 산책했습니다. 이것은 인코딩 시험 파일입니다.",
}
CUTS = (30, 60, 200)


def unpacked(cache: Path, package: str) -> Path | None:
    """The folder with a package's source distribution, downloaded once; None if it cannot be had."""
    folder = cache / package.replace("==", "-")
    if not folder.exists():
        with tempfile.TemporaryDirectory() as temporary:
            command = ["pip", "download", "-q", "--no-binary", ":all:", "--no-deps", "-d", temporary, package]
            subprocess.run([sys.executable, "-m", *command], capture_output=True, check=False, timeout=300)
            archives = list(Path(temporary).glob("*.tar.gz"))
            if not archives:
                print(f"{package}: no source distribution, left out", file=sys.stderr)
                return None
            with tarfile.open(archives[0]) as archive:
                archive.extractall(folder, filter="data")
    return folder


def pages(cache: Path) -> Iterator[tuple[str, Path]]:
    """(corpus, page)."""
    for package in HTML_PACKAGES:
        if folder := unpacked(cache, package):
            for path in sorted(folder.rglob("*")):
                if path.suffix.lower() in {".html", ".htm", ".xhtml"} and path.is_file():
                    yield package, path
    taken: Counter[Path] = Counter()
    for path in sorted(DOCS.rglob("*.*htm*")):
        top = DOCS / path.relative_to(DOCS).parts[0]
        if path.suffix in {".html", ".htm", ".xhtml"} and path.is_file() and taken[top] < PER_FOLDER:
            taken[top] += 1
            yield "debian", path


def words(text: str) -> Counter[str]:
    return Counter(_WORD.findall(clean_text(text).casefold()))


def shown(markup: str) -> Counter[str]:
    """The words of a page as w3m shows it."""
    markup = re.sub(r"(?i)(charset|encoding)\s*=\s*[\"']?[\w-]+", r"\1=utf-8", markup)
    command = ["w3m", "-dump", "-cols", "400", "-I", "UTF-8", "-O", "UTF-8", "-T", "text/html"]
    done = subprocess.run(command, input=markup.encode(), capture_output=True, check=False, timeout=60)
    found = words(done.stdout.decode("utf-8", "replace"))
    return Counter({word: count for word, count in found.items() if not _ADDED.match(word)})


def references(path: Path) -> tuple[Counter[str], Counter[str]]:
    """The words that w3m shows of a page, and of it without the parts that the reader leaves out by design."""
    data = path.read_bytes()
    declared = re.search(rb"(?:charset|encoding)\s*=\s*[\"']?([\w-]+)", data[:4096])
    try:
        markup = decode(data, path, declared[1].decode() if declared else "")[0]
    except MediaError:  # refused by the reader, which counts as missed
        markup = data.decode("latin-1").replace("\x00", "")
    tree = LexborHTMLParser(markup)
    for node in tree.css(LEFT_OUT):
        node.decompose()
    return shown(markup), shown(tree.html or "")


def recall(reference: Counter[str], found: Counter[str]) -> float:
    return (reference & found).total() / max(1, reference.total())


def html_recall(cache: Path) -> dict[str, Any]:
    found = list(dict.fromkeys(pages(cache)))
    with ThreadPoolExecutor(2) as pool:
        expected = list(pool.map(lambda page: references(page[1]), found))
    rows: list[dict[str, Any]] = []
    for (corpus, path), (everything, content) in zip(found, expected, strict=True):
        if everything.total() < FEWEST_WORDS:
            continue
        try:
            document = read_file(path, ReadOptions(formats={path.suffix.lower(): "html"}))
            text = " ".join(word for section in document.sections for word in (*section.heading, section.text))
        except MediaError as error:
            text = ""
            print(error, file=sys.stderr)
        rows.append(
            {
                "corpus": corpus,
                "file": str(path.relative_to(DOCS if corpus == "debian" else cache)),
                "words": everything.total(),
                "recall": round(recall(everything, words(text)), 3),
                "recall_of_content": round(recall(content, words(text)), 3),
            }
        )
    by_corpus = {
        corpus: {"pages": count, **_good([row for row in rows if row["corpus"] == corpus])}
        for corpus, count in Counter(row["corpus"] for row in rows).items()
    }
    below = sorted((row for row in rows if row["recall"] < GOOD), key=lambda row: row["recall_of_content"])
    return {"pages": len(rows), **_good(rows), "by_corpus": by_corpus, "below": below}


def _good(rows: list[dict[str, Any]]) -> dict[str, int]:
    return {f"{name}_at_least_0.9": sum(row[name] >= GOOD for row in rows) for name in ("recall", "recall_of_content")}


def same(text: str, truth: str) -> bool:
    return len(text) == len(truth) and sum(map(str.__eq__, text, truth)) >= 0.99 * len(truth)


def encodings(cache: Path) -> dict[str, Any]:
    folder = unpacked(cache, ENCODING_PACKAGE)
    files = sorted(folder.glob("*/tests/*/*")) if folder else []
    right = total = 0
    missed = []
    for path in files:
        codec = (
            path.parent.name
            if path.parent.name in {"UTF-16", "UTF-32"}
            else codec_of(path.parent.name) or codec_of(_LANGUAGE.sub("", path.parent.name))
        )
        if not codec:
            continue  # EUC-TW, which Python does not know
        data = path.read_bytes()
        truth = data.decode("utf-8-sig" if codec == "utf-8" else codec, "replace").removeprefix("\ufeff")
        total += 1
        try:
            text, notes = decode(data, path)
        except MediaError as error:
            text, notes = "", [type(error).__name__]
        if same(text, truth):
            right += 1
        else:
            missed.append({"file": f"{path.parent.name}/{path.name}", "notes": notes})
    return {"files": total, "right": right, "missed": missed}


def sentences() -> dict[str, Any]:
    right: Counter[int] = Counter()
    total: Counter[int] = Counter()
    for labels, sentence in SENTENCES.items():
        for label in labels.split():
            for cut in CUTS:
                data = sentence[:cut].encode(codec_of(label), "replace")
                total[cut] += 1
                try:
                    right[cut] += decode(data, Path("sentence"))[0] == data.decode(codec_of(label))
                except MediaError as error:  # refused, so not read wrong, but not read
                    print(label, error, file=sys.stderr)
    return {f"first_{cut}_characters": [right[cut], total[cut]] for cut in CUTS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder for downloads, outside the repository")
    arguments = parser.parse_args()
    if not shutil.which("w3m"):
        parser.error("w3m is not installed: apt-get install w3m")
    arguments.cache.mkdir(parents=True, exist_ok=True)
    figures = {
        "html": html_recall(arguments.cache),
        "encodings": encodings(arguments.cache),
        "sentences": sentences(),
    }
    record("reader_recall", figures)
    print({name: value for name, value in figures["html"].items() if isinstance(value, int)})
    print(figures["encodings"]["right"], "of", figures["encodings"]["files"], "encodings;", figures["sentences"])


if __name__ == "__main__":
    main()
