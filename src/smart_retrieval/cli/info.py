"""``smart info``: what an index holds and how."""

from __future__ import annotations

from typing import Any

from .options import AsJson, IndexAddress
from .output import console, echo_json, on_terminal, plural, printable, size

_LANGUAGES = {
    "english": "yes, English: word endings stripped, stop words left out",
    "other": "yes, words as they are",
    "auto": "yes, as English until there are enough words to tell the language",
}


def info(index_path: IndexAddress, as_json: AsJson = False) -> None:
    """Show what INDEX holds: documents, files, sizes, model, codec."""
    from ..stores.opening import open_index

    with open_index(index_path, mode="r") as index:
        found = index.info()
    if as_json:
        echo_json(found)
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    codec = f"{found['codec']}, {found['code_width']} bytes a token"
    if found.get("codec_packaged"):
        codec += ", with the tables that the package ships"
    if found.get("codec_wanted", found["codec"]) != found["codec"]:
        codec += f" ({found['codec_wanted']} once there are enough tokens to fit it, or with optimize)"
    model = found["model"]
    limits = {"max_visual_tokens": "tokens a picture", "max_frames": "frames a video"}
    apart = ("name", *limits)
    details = ", ".join(f"{key} {value}" for key, value in model.items() if key not in apart and value is not None)
    seen = [f"{model[name]:,} {what}" for name, what in limits.items() if model.get(name) is not None]
    rows: dict[str, str] = {
        "index": str(found["path"]),
        **(_of_files(found) if "files" in found else _of_store(found)),
        "codec": codec,
        "token pooling": f"{found['pooling']:g}" if found["pooling"] else "none",
        "model": f"{model['name']} ({details})",
        **({"sees": f"at most {', '.join(seen)}"} if seen else {}),
        "readout": ", ".join(f"{key} {value}" for key, value in found["readout"].items()),
        "scoring": _scoring(found),
        "full text": _LANGUAGES[found["language"]] if found.get("lexical") else "no",
        **{name: str(found[name]) for name in ("format", "created") if name in found},
        "updated": f"{found['updated']} (commit {found['commit']:,})",
    }
    if not on_terminal():
        for name, value in rows.items():
            print(f"{name:<10} {printable(value)}")
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    for name, value in rows.items():
        table.add_row(name, Text(printable(value)))
    console().print(table)


def _of_files(found: dict[str, Any]) -> dict[str, str]:
    """What only an index of files has."""
    sizes, pictures = (
        found["bytes"],
        [
            plural(count, "piece of a recording" if kind == "audio" else kind)
            for kind, count in found["pictures"].items()
        ],
    )
    held = sizes["database"] + sizes["wal"] + sizes["derived"]
    return {
        "documents": f"{found['documents']:,} of {found['files']:,} files",
        **({"pictures": ", ".join(pictures)} if pictures else {}),
        "files as": found["files_as"],
        "tokens": f"{found['tokens']:,}",
        "size": f"{size(held)}: database {size(sizes['database'])}, log {size(sizes['wal'])}, "
        f"derived {size(sizes['derived'])}; {size(sizes['free'])} of it free",
    }


def _of_store(found: dict[str, Any]) -> dict[str, str]:
    """What an index in a store has; not every store knows its size."""
    rows = {"documents": f"{found['documents']:,}", "tokens": f"{found['tokens']:,}"}
    rows |= {"size": size(found["bytes"])} if "bytes" in found else {}
    shares = [f"{part['documents']:,}" for part in found.get("shards", ())]
    return rows | ({"servers": f"{len(shares)}, with {', '.join(shares)} documents"} if shares else {})


def _scoring(found: dict[str, Any]) -> str:
    """Weights, lambdas and floor; of calibrated ones the numbers, and where they come from."""
    scoring, calibration = found["scoring"], found["calibration"]
    if not scoring:
        return "that of version 0.1"
    parts, source = [f"{scoring['weights']} weights", f"λ_anchor {scoring['lambda_anchor']:g}"], ""
    for name, label in (("lambda_late", "λ_late"), ("floor", "floor")):
        value = scoring[name]
        if value == "calibrated":
            value = calibration.get(name)
            parts.append(f"{label} {'calibrated' if value is None else format(value, '.3g')}")
            source = _CALIBRATED[calibration.get("of", "documents")]
        else:
            parts.append(f"{label} {'none' if value is None else format(value, 'g')}")
    return ", ".join(parts) + source


_CALIBRATED = {
    "collection": " (calibrated on these documents)",
    "model": " (the model's calibration, until there are 64 documents)",
    "documents": " (on the documents there are, until there are 64)",
}
