"""Title -> text pairs and check collections, made of documents that nobody has judged.

python sources.py OUT --data FOLDER_WITH_cranfield_AND_cacm [--translation F] [--packages F] [--foldoc F]

OUT/train/NAME.jsonl holds pairs {query, positive} to train on, OUT/check/NAME a collection in BEIR layout to choose
settings by. --translation: Translation-en (unpacked) of a Debian suite; --packages: output of `apt-cache dumpavail`;
--foldoc: foldoc.dict.dz of the package dict-foldoc. Docstrings come from the standard library (check) and from the
packages installed beside this project (training).

A "see also" check ranks the documents that another document's author points to: query = that document's title, the
document itself taken out of the collection's answers. It rewards being about the same matter, not shared words alone.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import random
import re
import sys
import sysconfig
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "default_preset"))
from known_item import FACETS, Pairs, titles, translation, write  # type: ignore[import-not-found]

RNG = random.Random(11)
PACKAGES = "torch scipy sklearn transformers sympy networkx pandas matplotlib sentence_transformers datasets mteb numba"


def unique(pairs: Pairs, most: int) -> Pairs:
    """Drop pairs whose query or document is not unique, then sample."""
    queries, documents = Counter(q.lower() for q, _ in pairs), Counter(d for _, d in pairs)
    kept = [(q, d) for q, d in pairs if queries[q.lower()] == 1 and documents[d] == 1]
    RNG.shuffle(kept)
    return kept[:most]


def training(folder: Path, name: str, pairs: Pairs, most: int) -> None:
    chosen = unique(pairs, most)
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"query": q, "positive": d}) + "\n" for q, d in chosen)
    (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    print("train", name, len(chosen), flush=True)


def known_item(folder: Path, pairs: Pairs, documents: int = 600, queries: int = 150) -> None:
    chosen = unique(pairs, documents)
    asked = sorted(RNG.sample(range(len(chosen)), min(queries, len(chosen))))
    write(folder, [d for _, d in chosen], {f"q{i}": chosen[i][0] for i in asked}, [(f"q{i}", i) for i in asked])


def see_also(folder: Path, entries: dict[str, tuple[str, str, list[str]]], most: int, queries: int = 150) -> None:
    """entries: name -> (title, text, names it points to). The document asked from is no answer (grade -1, masked)."""
    linked = Counter(t for _, _, targets in entries.values() for t in targets if t in entries)
    names = [n for n in entries if linked[n]] + [n for n in entries if not linked[n]]
    asked = [n for n in names if len(set(entries[n][2]) & set(names[:most]) - {n}) >= 2]
    RNG.shuffle(asked)
    asked = asked[:queries]
    kept = list(dict.fromkeys([*asked, *names]))[:most]
    number = {name: i for i, name in enumerate(kept)}
    relevant = []
    for name in asked:
        relevant += [(f"q{number[name]}", number[t]) for t in dict.fromkeys(entries[name][2]) if t in number]
    write(folder, [entries[n][1] for n in kept], {f"q{number[n]}": entries[n][0] for n in asked}, relevant)
    (folder / "masked.json").write_text(json.dumps({f"q{number[n]}": number[n] for n in asked}))


def dictionary(path: Path) -> dict[str, tuple[str, str, list[str]]]:
    """FOLDOC: headwords, and the headwords that their text names in braces."""
    found: dict[str, tuple[str, str, list[str]]] = {}
    for record in re.split(r"\n(?=\S)", gzip.decompress(path.read_bytes()).decode("utf-8", "ignore")):
        head, _, body = record.partition("\n")
        body = " ".join(body.split())
        text = re.sub(r"[{}]", "", body)
        if len(text.split()) >= 25 and not head.startswith("00"):
            sentence = re.split(r"(?<=[a-z]\.) ", re.sub(r"^(<[^>]*>|\([^)]*\)|\s)+", "", text))[0]
            # The title alone is often an abbreviation; with the first sentence's beginning it is a request.
            query = " ".join([head.strip(), *sentence.split()[:10]])
            found[head.strip().lower()] = (query, text, [t.lower() for t in re.findall(r"{([^}]*)}", body)])
    return found


def docstrings(root: Path, modules: list[str]) -> Pairs:
    """First line -> the rest, parsed and not imported."""
    pairs: dict[str, str] = {}
    for module in modules:
        for path in [*root.glob(f"{module}.py"), *sorted((root / module).rglob("*.py"))]:
            if "test" in path.as_posix().removeprefix(root.as_posix()):
                continue
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except (SyntaxError, UnicodeDecodeError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    first, _, rest = (ast.get_docstring(node) or "").partition("\n")
                    rest = " ".join(rest.split()[:250])
                    plain = "(" not in first and "->" not in first and 4 <= len(first.split()) <= 20
                    if plain and len(rest.split()) >= 20:
                        pairs[rest] = first
    return [(q, d) for d, q in pairs.items()]


def debtags(folder: Path, described: list[tuple[str, str, str]], packages: Path) -> set[str]:
    tags: dict[str, list[str]] = {}
    for record in packages.read_text(encoding="utf-8").split("\n\n"):
        name = re.search(r"^Package: (.*)", record)
        tag = re.search(r"^Tag: ((?:.*\n)(?: .*\n)*)", record + "\n", re.M)
        if name and tag:
            tags[name.group(1)] = [x.strip() for x in tag.group(1).replace("\n", " ").split(",")]
    text = {name: f"{short}. {long}" for name, short, long in described}
    names = sorted(n for n in tags if n in text and len(text[n].split()) >= 30 and "role::program" in tags[n])
    RNG.shuffle(names)
    names = names[:700]
    relevant = defaultdict(list)
    for i, package in enumerate(names):
        for tag_name in tags[package]:
            relevant[tag_name].append(i)
    kept = [t for t, docs in relevant.items() if 4 <= len(docs) <= 60 and t.split("::")[0] in FACETS.split()]
    queries = {f"t{i}": re.sub("[-:]+", " ", t) for i, t in enumerate(kept)}
    write(folder, [text[n] for n in names], queries, [(f"t{i}", d) for i, t in enumerate(kept) for d in relevant[t]])
    return set(names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--translation", type=Path)
    parser.add_argument("--packages", type=Path)
    parser.add_argument("--foldoc", type=Path)
    args = parser.parse_args()
    train, check = args.out / "train", args.out / "check"
    for name in ("cacm", "cranfield"):
        training(train, name, titles(args.data / name / "corpus.jsonl"), 2000)
    training(train, "packages", docstrings(Path(sysconfig.get_paths()["purelib"]), PACKAGES.split()), 800)
    library = sorted(n for n in sys.stdlib_module_names if not n.startswith("_") and n not in ("test", "idlelib"))
    known_item(check / "stdlib", docstrings(Path(sysconfig.get_paths()["stdlib"]), library))
    if args.translation and args.packages:
        described = translation(args.translation)
        held = debtags(check / "debtags", described, args.packages)
        # One source package often has several binaries with nearly one text.
        openings = {long[:80] for name, _, long in described if name in held}
        pairs = [
            (short, long)
            for name, short, long in described
            if name not in held and long[:80] not in openings and len(short.split()) >= 4 and len(long.split()) >= 40
        ]
        first: dict[str, tuple[str, str]] = {}
        for pair in pairs:
            first.setdefault(pair[1][:80], pair)
        training(train, "debian", list(first.values()), 1200)
    if args.foldoc:
        see_also(check / "foldoc_also", dictionary(args.foldoc), 700)


if __name__ == "__main__":
    main()
