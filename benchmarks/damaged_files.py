"""Flipped bits, and indexes that somebody made: is all damage found, and is every error a named one?

    python benchmarks/damaged_files.py [--flips 100] [--seed 0] [--commands 25]

One bit at a time is flipped in every file of an index (of its database, in each byte of the header and in twice as many
others), of saved embeddings, the caches of evaluation, MMEB-V2 and training, an exported model, a codec and an adapter.
Then the databases of tests/fixtures/crafted.py are used in every way: all by the library, a sample by the command line.
Writes results/damaged_files.json; exits with status 1 if damage was missed, or anything else than a named error raised.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from lib.record import ROOT, record

from smart_retrieval import SmartEmbeddings, SmartModel
from smart_retrieval.core.adapter import Adapter, AdapterConfig
from smart_retrieval.errors import SmartError, SmartWarning
from smart_retrieval.evaluation.cache import EncodingCache
from smart_retrieval.evaluation.mmeb.store import EncodingStore
from smart_retrieval.index.codec.factory import Codec, fit_codec
from smart_retrieval.index.mirror import mirror
from smart_retrieval.index.smart_index import SmartIndex
from smart_retrieval.inputs import Item
from smart_retrieval.model.light.entry import EntryKey, UntrustedEntryError, read_entry
from smart_retrieval.model.light.export import export_light
from smart_retrieval.model.saving import read_tensors, write_tensors
from smart_retrieval.training.hidden_states import cache_states

sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "dev")]

TEXTS = [f"the {animal} swims in the {place} river" for animal in ("otter", "pike") for place in ("cold", "old")]
SECONDS, MEMORY = 30, 1 << 30  # of one use


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", type=int, default=25, help="crafted indexes that the command line uses")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="smart-damaged-") as name:
        os.environ["SMART_CACHE"] = f"{name}/cache"
        folder, model = Path(name), SmartModel("minilm", device="cpu")
        found: dict[str, dict[str, int]] = {}
        for what, make in KINDS.items():
            (folder / what).mkdir()
            found |= flips(folder / what, make(folder / what, model), what, arguments.flips, chance)
        figures: dict[str, Any] = {"flips": arguments.flips, "seed": arguments.seed, "flipped": found}
        figures["flipped_by_command"] = flipped_by_command(folder, chance)
        figures["crafted"] = crafted_in_library(folder / "crafted")
        figures["crafted_by_command"] = crafted_by_command(folder / "commands", arguments.commands, chance)
    record("damaged_files", figures)
    missed = sum(counts["silently_wrong"] + counts["raw"] for counts in found.values())
    sys.exit(bool(missed or any(figures[part]["wrong"] for part in list(figures)[3:])))


# -- flipped bits ------------------------------------------------------------------------------------------------------


def flips(
    folder: Path, read: Callable[[], list[Any]], what: str, count: int, chance: random.Random
) -> dict[str, dict[str, int]]:
    """By file: how often a flipped bit was refused by name, said and mended, or changed nothing of what was read."""
    sound, kept = read(), folder.with_name(f"{what}.kept")
    shutil.copytree(folder, kept)
    found = {}
    for file in sorted(path for path in kept.rglob("*") if path.is_file() and path.stat().st_size):
        counts = Counter(refused=0, mended_and_said=0, same=0, silently_wrong=0, raw=0)
        data, relative = file.read_bytes(), file.relative_to(kept)
        places = [chance.randrange(len(data)) for _ in range(count)]
        if file.name == "index.sqlite":
            places = [*range(100), *(chance.randrange(100, len(data)) for _ in range(2 * count))]
        for place in places:
            shutil.rmtree(folder)
            shutil.copytree(kept, folder)
            changed = bytearray(data)
            changed[place] ^= 1 << chance.randrange(8)
            (folder / relative).write_bytes(changed)
            counts[outcome(read, sound)] += 1
        # A random part of a name is left out, so that files of two runs can be compared.
        found[f"{what}: {re.sub('[0-9a-f]{10,}', '*', str(relative))}"] = dict(counts)
        print(f"{what}: {relative}: {len(places)} flips, {dict(counts)}", flush=True)
    return found


def outcome(read: Callable[[], list[Any]], sound: list[Any]) -> str:
    """What became of one flip."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = read()
        except SmartError:
            return "refused"
        except Exception as error:
            print(f"raw: {error!r}", file=sys.stderr)
            return "raw"
    same = len(found) == len(sound) and all(np.array_equal(a, b) for a, b in zip(found, sound, strict=True))
    if not same:
        return "silently_wrong"
    return "mended_and_said" if any(issubclass(one.category, SmartWarning) for one in said) else "same"


def arrays(embeddings: SmartEmbeddings) -> list[Any]:
    """What is compared of embeddings."""
    return [np.array(array) for array in embeddings.to_numpy().values()]


def index(folder: Path, model: SmartModel) -> Callable[[], list[Any]]:
    """Whether it is opened, and verify finds nothing: a flip that neither finds is silently wrong."""
    import fuzz

    with mock.patch.object(mirror, "SMALL_DOCUMENTS", -1):
        path = fuzz.make_index(folder / "index.smart")
        with SmartIndex.open(path, mode="w") as opened:
            opened.optimize()
            opened.search(fuzz.embeddings(1, 3), **fuzz.PLAIN)
    asked: list[bool] = []

    def read() -> list[Any]:
        asked.append(True)
        with SmartIndex.open(path, mode="w" if len(asked) % 2 else "r") as opened:
            if not opened.verify().ok:
                raise SmartError("damaged")
        return ["sound" if len(asked) == 1 else "not found"]

    return read


def searched(folder: Path, model: SmartModel) -> Callable[[], list[Any]]:
    """What a search finds, whichever of the derived files is damaged."""
    import fuzz

    index(folder, model)
    query = fuzz.embeddings(1, 3)

    def read() -> list[Any]:
        with (
            mock.patch.object(mirror, "SMALL_DOCUMENTS", -1),
            SmartIndex.open(folder / "index.smart", mode="r") as opened,
        ):
            return [(hit.id, hit.score, hit.late, hit.text) for hit in opened.search(query, 9, **fuzz.PLAIN)[0]]

    return read


def embeddings_file(folder: Path, model: SmartModel) -> Callable[[], list[Any]]:
    path = model.encode_document(TEXTS).save(folder / "embeddings.safetensors")
    return lambda: arrays(SmartEmbeddings.load(path))


def embeddings_folder(folder: Path, model: SmartModel) -> Callable[[], list[Any]]:
    path = model.encode_document(TEXTS).save(folder / "embeddings")
    return lambda: arrays(SmartEmbeddings.load(path, mmap=True))


def evaluation_cache(folder: Path, model: SmartModel) -> Callable[[], list[Any]]:
    found, cache = model.encode_document(TEXTS), EncodingCache(folder)
    load = functools.partial(SmartEmbeddings.load, mmap=True)
    return lambda: arrays(cache.get_or_encode({"of": "texts"}, found.save, load)[0])


def mmeb_store(folder: Path, model: SmartModel) -> Callable[[], list[Any]]:
    from fixtures.fake_encoder import FakeEncoder  # type: ignore[import-not-found]

    def read() -> list[Any]:
        store = EncodingStore(folder, FakeEncoder(), shard_items=2)
        store.ensure("document", TEXTS, [Item(text) for text in TEXTS])
        return arrays(store.gather("document", TEXTS))

    return read


def hidden_states(folder: Path, model: SmartModel) -> Callable[[], list[Any]]:
    def read() -> list[Any]:
        cached = cache_states(model, [Item(text) for text in TEXTS], "query", folder, budget=1 << 30)
        assert cached is not None
        batch = cached.batch(range(len(TEXTS)))
        return [batch.lengths.numpy(), batch.anchors.numpy(), *(layer.numpy() for layer in batch.states)]

    return read


def exported_model(folder: Path, model: SmartModel) -> Callable[[], list[Any]]:
    identity = model.identity()
    key = EntryKey(identity.pop("name"), identity)
    with mock.patch.dict(os.environ, SMART_CACHE=str(folder)):
        export_light(model, key)
        entry = key.folder()
    assert entry is not None

    def read() -> list[Any]:
        try:
            found = read_entry(entry)
        except UntrustedEntryError as error:  # which no user sees: the model is exported again
            raise SmartError(str(error)) from error
        assert found is not None
        return [json.dumps(found.about, sort_keys=True), found.tokenizer, found.exported]

    return read


def codec_file(folder: Path, model: SmartModel) -> Callable[[], list[Any]]:
    path = fit_codec("anchored+1vq+norm", model.encode_document(TEXTS)).save(folder / "codec.smartcodec")
    return lambda: [Codec.load(path).to_bytes()]


def adapter_file(folder: Path, model: SmartModel) -> Callable[[], list[Any]]:
    write_tensors(folder / "adapter.safetensors", Adapter(AdapterConfig(64, 32, 1)).state_dict())
    return lambda: [tensor.numpy() for _, tensor in sorted(read_tensors(folder / "adapter.safetensors").items())]


KINDS: dict[str, Callable[[Path, SmartModel], Callable[[], list[Any]]]] = {
    "index": index,
    "search": searched,
    "embeddings file": embeddings_file,
    "embeddings folder": embeddings_folder,
    "evaluation cache": evaluation_cache,
    "MMEB store": mmeb_store,
    "hidden states": hidden_states,
    "exported model": exported_model,
    "codec": codec_file,
    "adapter": adapter_file,
}


def flipped_by_command(folder: Path, chance: random.Random) -> dict[str, int]:
    """``smart verify`` on ten flipped bits of a database and its derived files: status 1, and one word that says so."""
    from fixtures.forked_commands import ForkedCommands  # type: ignore[import-not-found]

    kept, path = folder / "index.kept" / "index.smart", folder / "index" / "index.smart"
    files = [file for file in sorted(kept.rglob("*")) if file.is_file() and file.stat().st_size]
    (folder / "verified").mkdir()
    commands, counts = ForkedCommands(folder / "verified"), Counter(tried=0, found=0, wrong=0)
    for number in range(10):
        shutil.rmtree(path)
        shutil.copytree(kept, path)
        file = files[number % len(files)].relative_to(kept)
        data = bytearray((path / file).read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        (path / file).write_bytes(data)
        status, out, errors = commands.start("verify", path).wait()
        found = status == 1 and (": damaged: " in out or errors.startswith("smart: error: ")) and "Trace" not in errors
        counts.update(tried=1, found=found, wrong=not found)
        if not found:
            print(f"verify of {file}: {status} {out} {errors}", file=sys.stderr)
    commands.close()
    return dict(counts)


# -- crafted indexes ---------------------------------------------------------------------------------------------------


def crafted_in_library(folder: Path) -> dict[str, Any]:
    """Every crafted database, used in every way: what was raised, how long and how much memory it took at most."""
    import fuzz
    from fixtures import crafted  # type: ignore[import-not-found]

    folder.mkdir()
    base, path, aside = fuzz.make_index(folder / "base.smart"), folder / "made.smart", folder / "aside"
    query = fuzz.embeddings(1, 3)
    counts, slowest, most = Counter(databases=0, uses=0, refused=0, wrong=0), 0.0, 0
    for sql in (*crafted.TABLES, *crafted.ROWS, *crafted.wrong_types()):
        for made in (path, aside):
            shutil.rmtree(made, ignore_errors=True)
        aside.mkdir()
        shutil.copytree(base, path)
        crafted.craft(path, sql)
        refused, sound, wrong = [], True, []
        reset_peak()
        before, longest = peak(), 0.0
        try:
            with SmartIndex.open(path, mode="w") as index, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for name, use in crafted.uses(index, query, aside, **fuzz.PLAIN).items():
                    counts["uses"] += 1
                    begun = time.perf_counter()
                    try:
                        found = use()
                        sound = sound and not (name == "verify" and not found.ok)
                    except SmartError as error:
                        refused.append(f"{name}: {type(error).__name__}")
                    except Exception as error:
                        wrong.append(f"{name}: raw {error!r}")
                    longest = max(longest, time.perf_counter() - begun)
        except SmartError as error:
            refused, sound = [f"open: {type(error).__name__}"], False
        except Exception as error:
            wrong.append(f"open: raw {error!r}")
        memory = peak() - before
        if any("Damaged" in one or "Codec" in one for one in refused) and sound:
            wrong.append(f"verify found nothing, yet {refused}")
        if memory > MEMORY or longest > SECONDS:
            wrong.append(f"{longest:.0f} s, {memory >> 20} MiB")
        counts.update(databases=1, refused=len(refused), wrong=bool(wrong))
        slowest, most = max(slowest, longest), max(most, memory)
        for line in wrong:
            print(f"{sql[:120]}: {line}", file=sys.stderr, flush=True)
        if not counts["databases"] % 50:
            print(f"crafted: {dict(counts)}, {most >> 20} MiB, {slowest:.1f} s", flush=True)
    return {**counts, "slowest_use_s": round(slowest, 1), "most_memory_mib": most >> 20}


def reset_peak() -> None:
    """Forget the most memory that this process had."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The most memory since, in bytes; what files are mapped is left out."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


def crafted_by_command(folder: Path, count: int, chance: random.Random) -> dict[str, Any]:
    """A sample of the crafted databases, as an index that ``smart index`` made: what the commands say of them."""
    from fixtures import crafted
    from fixtures.forked_commands import ForkedCommands

    (folder / "runs").mkdir(parents=True)
    (folder / "docs").mkdir()
    for number in range(9):
        (folder / "docs" / f"{number}.md").write_text(f"# Doc {number}\n\nThe otter swims in river {number}.\n")
    commands = ForkedCommands(folder / "runs")
    base, path, model = folder / "base.smart", folder / "made.smart", ("--model", "minilm")
    status, _, errors = commands.start("index", folder / "docs", "--index", base, *model).wait()
    assert not status, errors
    filters = ("--where", "page is null or source like '1%'", "--lexical", "--exact", "--feedback", ".2")
    uses: list[tuple[Any, ...]] = [
        ("info", path, "--json"),
        ("verify", path, "--json"),
        ("search", path, "otter", *model),
        ("search", path, "otter", *model, *filters, "-k", 10**12, "--json"),
        ("explain", path, "otter", "1.md#0", *model, "--out", folder / "page.html"),
        ("backup", path, folder / "aside" / "backup.smart"),
        ("split", path, folder / "aside" / "shards", "--shards", "2"),
        ("export", "lancedb", folder / "aside" / "lance", path),
        ("index", folder / "docs", "--index", path, *model, "--sync"),
        ("delete", path, "2.md#0"),
        ("optimize", path),
    ]
    counts, most = Counter(databases=0, commands=0, refused=0, wrong=0), 0
    for sql in chance.sample((*crafted.TABLES, *crafted.ROWS, *crafted.wrong_types()), count):
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(base, path)
        crafted.craft(path, sql)
        counts["databases"] += 1
        for use in uses:
            shutil.rmtree(folder / "aside", ignore_errors=True)
            (folder / "aside").mkdir()
            command = commands.start(*use)
            status, out, errors = command.wait()
            wrong = problem(status, out, errors, "--json" in use)
            counts.update(commands=1, refused=status == 1, wrong=bool(wrong))
            most = max(most, command.peak)
            if wrong:
                print(f"{sql[:120]}: {' '.join(map(str, use[:1]))}: {wrong}", file=sys.stderr, flush=True)
    commands.close()
    return {**counts, "most_memory_mib": most >> 10}


def problem(status: int, out: str, errors: str, as_json: bool) -> str:
    """What is wrong with how a command ended."""
    lines = [line for line in errors.splitlines() if not line.startswith(("note:", "warning:", "smart: warning:"))]
    if status not in (0, 1) or "Traceback" in errors or (status and not out and len(lines) != 1):
        return f"status {status}: {errors[-300:]}"
    if re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", out + errors):
        return "control characters"
    if as_json and out:
        try:
            json.loads(out, parse_constant=lambda constant: 1 / 0)
        except (ValueError, ZeroDivisionError) as error:
            return f"no JSON: {error!r}"
    return ""


if __name__ == "__main__":
    main()
