"""The codecs that come with the package, made by ``dev/general_codec.py``.

An index names the one it uses by its hash (:attr:`Codec.hash`) instead of holding its tables. So a file that was once
released is never changed and never removed; a better codec is a new file, and new indexes take the newest that is
listed for their model.
"""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from ..._version import __version__
from ...errors import CodecMissingError

_FOLDER = "smart_retrieval.index.codec"
_HASH = re.compile(r"[0-9a-f]{32}")


def find(name: str, identity: Mapping[str, Any]) -> str | None:
    """Hash of the newest codec of that name for a model; None if there is none."""
    for entry in _listed():
        if entry["name"] == name and all(identity.get(key) == value for key, value in entry["model"].items()):
            return str(entry["hash"])
    return None


def read(hash: str, package: str = "") -> bytes:
    """The bytes of the codec of that hash; ``package`` is the version that used it, for the message."""
    if _HASH.fullmatch(hash):
        file = importlib.resources.files(_FOLDER) / "data" / f"{hash}.codec"
        if file.is_file():
            return file.read_bytes()
    raise CodecMissingError(
        f"codec: found the hash {hash[:64]!r}, which smart-retrieval {__version__} does not ship; it was used "
        f"by version {package or 'unknown'}: install that version or a later one "
        f"(pip install 'smart-retrieval>={package or __version__}'), or index the documents again"
    )


@cache
def _listed() -> list[dict[str, Any]]:
    file = importlib.resources.files(_FOLDER) / "data" / "codecs.json"
    found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return found
