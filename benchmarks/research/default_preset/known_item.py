"""Build judgment-free check collections in BEIR layout from text that any Debian machine can get.

python known_item.py OUT [--data FOLDER_WITH_cranfield_AND_cacm] [--translation F] [--packages F] [--foldoc F]

Known item: the query is a line that was cut out of its document (title, first line, short description); exactly one
document is relevant. debtags: the query is the words of a package tag; every sampled package with it is relevant.
--translation: Translation-en (unpacked) of a Debian suite; --packages: output of `apt-cache dumpavail`;
--foldoc: foldoc.dict.dz of the package dict-foldoc. man reads /usr/share/man, pydoc the standard library.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import inspect
import json
import pkgutil
import random
import re
import subprocess
import sys
import warnings
from collections import Counter, defaultdict
from pathlib import Path

Pairs = list[tuple[str, str]]
RNG = random.Random(7)
FACETS = "use works-with field science game web mail network security biology sound office admin hardware protocol"
FACETS += " works-with-format implemented-in devel education accessibility made-of scope"


def write(folder: Path, documents: list[str], queries: dict[str, str], relevant: list[tuple[str, int]]) -> None:
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    rows = [{"_id": str(i), "title": "", "text": text} for i, text in enumerate(documents)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    lines = [json.dumps({"_id": key, "text": text}) + "\n" for key, text in queries.items()]
    (folder / "queries.jsonl").write_text("".join(lines))
    judged = "".join(f"{key}\t{document}\t1\n" for key, document in relevant)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    print(folder.name, len(documents), len(queries))


def known_item(folder: Path, pairs: Pairs, documents: int = 3000, queries: int = 300) -> None:
    """Drop pairs whose query or document is not unique, then sample."""
    seen_q, seen_d = Counter(q.lower() for q, _ in pairs), Counter(d for _, d in pairs)
    pairs = [(q, d) for q, d in pairs if seen_q[q.lower()] == 1 and seen_d[d] == 1]
    RNG.shuffle(pairs)
    pairs = pairs[:documents]
    chosen = sorted(RNG.sample(range(len(pairs)), min(queries, len(pairs))))
    write(folder, [d for _, d in pairs], {f"q{i}": pairs[i][0] for i in chosen}, [(f"q{i}", i) for i in chosen])


def titles(corpus: Path) -> Pairs:
    pairs = []
    for line in corpus.read_text().splitlines():
        document = json.loads(line)
        title, text = document["title"].strip(), document["text"].strip()
        if text.lower().startswith(title.lower()):
            text = text[len(title) :].lstrip(" .")
        if len(title.split()) >= 3 and len(text.split()) >= 20:
            pairs.append((title, text))
    return pairs


def modules() -> list[object]:
    out: list[object] = []
    for name in sorted(sys.stdlib_module_names):
        if name.startswith("_") or name in ("this", "antigravity", "idlelib", "turtledemo", "test", "lib2to3"):
            continue
        try:
            out.append(importlib.import_module(name))
        except Exception:
            continue
        for sub in pkgutil.iter_modules(getattr(out[-1], "__path__", [])):
            if sub.name not in ("__main__", "test", "tests"):
                try:
                    out.append(importlib.import_module(f"{name}.{sub.name}"))
                except BaseException:
                    continue
    return out


def pydoc() -> Pairs:
    pairs: dict[str, str] = {}
    for module in modules():
        objects = [module] + [value for _, value in inspect.getmembers(module)]
        for item in list(objects):
            if inspect.isclass(item):
                objects += [value for key, value in vars(item).items() if not key.startswith("__")]
        for item in objects:
            text = getattr(item, "__doc__", None)
            if not isinstance(text, str) or not (inspect.ismodule(item) or inspect.isclass(item) or callable(item)):
                continue
            first, _, rest = inspect.cleandoc(text).partition("\n")
            rest = " ".join(rest.split())
            if "(" not in first and "->" not in first and 4 <= len(first.split()) <= 20 and len(rest.split()) >= 20:
                pairs[rest] = first
    return [(q, d) for d, q in pairs.items()]


def translation(path: Path) -> list[tuple[str, str, str]]:
    """(package, short description, long description)."""
    out = []
    pattern = r"^Package: (.*)\n[\s\S]*?^Description-en: (.*)\n((?: .*\n?)+)"
    for record in path.read_text(encoding="utf-8").split("\n\n"):
        match = re.search(pattern, record, re.M)
        if match:
            text = " ".join(x.strip() for x in match.group(3).split("\n") if x.strip() != ".")
            out.append((match.group(1), match.group(2), text))
    return out


def debtags(folder: Path, described: list[tuple[str, str, str]], packages: Path) -> None:
    tags: dict[str, list[str]] = {}
    for record in packages.read_text(encoding="utf-8").split("\n\n"):
        name = re.search(r"^Package: (.*)", record)
        tag = re.search(r"^Tag: ((?:.*\n)(?: .*\n)*)", record + "\n", re.M)
        if name and tag:
            tags[name.group(1)] = [x.strip() for x in tag.group(1).replace("\n", " ").split(",")]
    text = {name: f"{short}. {long}" for name, short, long in described}
    names = [n for n in tags if n in text and len(text[n].split()) >= 30 and "role::program" in tags[n]]
    RNG.shuffle(names)
    names = names[:3000]
    relevant = defaultdict(list)
    for i, name in enumerate(names):
        for tag_name in tags[name]:
            relevant[tag_name].append(i)
    kept = [t for t, docs in relevant.items() if 4 <= len(docs) <= 80 and t.split("::")[0] in FACETS.split()]
    queries = {f"t{i}": re.sub("[-:]+", " ", t) for i, t in enumerate(kept)}
    write(folder, [text[n] for n in names], queries, [(f"t{i}", d) for i, t in enumerate(kept) for d in relevant[t]])


def man() -> Pairs:
    files, pairs = sorted(Path("/usr/share/man").glob("man[1-8]/*.gz")), []
    RNG.shuffle(files)
    for path in files[:6000]:
        if len(pairs) >= 2200:
            break
        source = gzip.decompress(path.read_bytes())
        roff = subprocess.run(["groff", "-man", "-Tascii", "-P-cbou"], input=source, capture_output=True, check=False)
        text = roff.stdout.decode("ascii", "ignore")
        name = re.search(r"^NAME\n((?:\s+.*\n)+?)\n*(?=^[A-Z])", text, re.M)
        body = re.search(r"^DESCRIPTION\n((?:\s+.*\n|\n)+?)(?=^[A-Z]|\Z)", text, re.M)
        if not name or not body:
            continue
        parts = re.split(r"\s-+\s", " ".join(name.group(1).split()), maxsplit=1)
        words = re.sub(r"-\s+(?=[a-z])", "", " ".join(body.group(1).split())).split()
        if len(parts) == 2 and len(parts[1].split()) >= 3 and len(words) >= 30:
            pairs.append((parts[1], " ".join(words[:300])))
    return pairs


def foldoc(path: Path) -> Pairs:
    pairs = []
    for record in re.split(r"\n(?=\S)", gzip.decompress(path.read_bytes()).decode("utf-8", "ignore")):
        head, _, body = record.partition("\n")
        body = " ".join(re.sub(r"[{}]", "", body).split())
        if 2 <= len(head.split()) <= 8 and len(body.split()) >= 25 and not head.startswith("00"):
            pairs.append((head.strip(), body))
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    for name in ("data", "translation", "packages", "foldoc"):
        parser.add_argument(f"--{name}", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.data:
        for name in ("cranfield", "cacm"):
            known_item(args.out / f"{name}_titles", titles(args.data / name / "corpus.jsonl"))
    if args.translation:
        described = translation(args.translation)
        pairs = [(s, t) for _, s, t in described if len(s.split()) >= 4 and len(t.split()) >= 40]
        known_item(args.out / "debian", pairs)
        if args.packages:
            debtags(args.out / "debtags", described, args.packages)
    if args.foldoc:
        known_item(args.out / "foldoc", foldoc(args.foldoc))
    known_item(args.out / "pydoc", pydoc())
    known_item(args.out / "man", man(), documents=2000)


if __name__ == "__main__":
    main()
