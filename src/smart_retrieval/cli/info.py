"""``smart info``: what an index holds and how."""

from __future__ import annotations

from typing import Any

from .options import AsJson, IndexPath
from .output import console, echo_json, plural, printable, size

_LANGUAGES = {
    "english": "yes, English: word endings stripped, stop words left out",
    "other": "yes, words as they are",
    "auto": "yes, as English until there are enough words to tell the language",
}


def info(index_path: IndexPath, as_json: AsJson = False) -> None:
    """Show what INDEX holds: documents, files, sizes, model, codec."""
    from ..index.shards.sharded_index import open_index

    with open_index(index_path, mode="r") as index:
        found = index.info()
    if as_json:
        echo_json(found)
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    sizes = found["bytes"]
    held = sizes["database"] + sizes["wal"] + sizes["derived"]
    codec = f"{found['codec']}, {found['code_width']} bytes a token"
    if found["codec_packaged"]:
        codec += ", with the tables that the package ships"
    if found["codec_wanted"] != found["codec"]:
        codec += f" ({found['codec_wanted']} once there are enough tokens to fit it, or with optimize)"
    model = found["model"]
    limits = {"max_visual_tokens": "tokens a picture", "max_frames": "frames a video"}
    apart = ("name", *limits)
    details = ", ".join(f"{key} {value}" for key, value in model.items() if key not in apart and value is not None)
    seen = [f"{model[name]:,} {what}" for name, what in limits.items() if model.get(name) is not None]
    pictures = [plural(count, kind) for kind, count in found["pictures"].items()]
    rows = {
        "index": found["path"],
        "documents": f"{found['documents']:,} of {found['files']:,} files",
        **({"pictures": ", ".join(pictures)} if pictures else {}),
        "files as": found["files_as"],
        "tokens": f"{found['tokens']:,}",
        "size": f"{size(held)}: database {size(sizes['database'])}, log {size(sizes['wal'])}, "
        f"derived {size(sizes['derived'])}; {size(sizes['free'])} of it free",
        "codec": codec,
        "pooling": f"{found['pooling']:g}" if found["pooling"] else "none",
        "model": f"{model['name']} ({details})",
        **({"sees": f"at most {', '.join(seen)}"} if seen else {}),
        "readout": ", ".join(f"{key} {value}" for key, value in found["readout"].items()),
        "scoring": _scoring(found),
        "full text": _LANGUAGES[found["language"]] if found["lexical"] else "no",
        "format": str(found["format"]),
        "created": found["created"],
        "updated": f"{found['updated']} (commit {found['commit']:,})",
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    for name, value in rows.items():
        table.add_row(name, Text(printable(str(value))))
    console().print(table)


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
