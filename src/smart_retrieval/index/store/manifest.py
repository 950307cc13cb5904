"""What an index was made with: everything a reader must agree with before it trusts a score."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_args

from ...errors import IndexDamagedError, IndexMismatchError
from ..text.language import Language
from .anchors import ANCHOR_TYPES, AnchorType
from .schema import checksum, now

LANGUAGES: tuple[Language, ...] = get_args(Language)
MOST_WIDTH = 1 << 20  # dimensions of an anchor, bytes of a token's code


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Facts about an index that no document changes; kept as JSON values in the database.

    Example:
        >>> Manifest(model={"name": "minilm"}, codec="int8", anchor_dim=384, code_width=384).lexical
        True
    """

    model: Mapping[str, Any]  # identity of the model: name, revision, fingerprint
    codec: str  # its name
    anchor_dim: int
    code_width: int  # bytes of one token's code
    anchors: AnchorType = "float32"  # how anchors are kept
    readout: Mapping[str, Any] = field(default_factory=dict)
    prompts: Mapping[str, Any] = field(default_factory=dict)
    pooling: Any = None  # factor of the token pooling
    limits: Mapping[str, Any] = field(default_factory=dict)  # token and pixel limits of the encoding, and more
    scoring: Mapping[str, Any] = field(default_factory=dict)  # as Scoring.to_dict() gives it; empty in version 0.1
    calibration: Mapping[str, Any] = field(default_factory=dict)  # of the collection, once it is fixed
    model_calibration: Mapping[str, Any] = field(default_factory=dict)  # until then, if the model has one
    lexical: bool = True  # whether there is a full-text index beside the vectors
    # Of what version 0.1.0 made, which noted neither: it stemmed as in English, and folded nothing.
    language: Language = "english"  # of the full-text index; "auto" until there are enough words to tell
    folding: bool = False  # whether compatibility forms are folded, in what is encoded and in the full-text index
    package: str = ""  # version of the package that made it; a note, never compared
    uuid: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: str = field(default_factory=now)
    root: str = ""  # the folder whose files it holds, once one is indexed

    def require(self, **expected: Any) -> None:
        """Compare fields with what the caller is about to use the index with; of a mapping, only the keys given."""
        differences: list[str] = []
        for name, value in expected.items():
            found = getattr(self, name)
            if isinstance(value, Mapping) and isinstance(found, Mapping):
                pairs = [(f"{name}.{key}", found.get(key), part) for key, part in value.items()]
            else:
                pairs = [(name, found, value)]
            differences += [
                f"{label} is {have!r}, not {want!r}" for label, have, want in pairs if _plain(have) != _plain(want)
            ]
        if differences:
            raise IndexMismatchError(
                f"the index was made with something else: its {'; its '.join(differences)}. Open it with what it was "
                "made with, or index the documents again"
            )

    def write(self, connection: sqlite3.Connection) -> None:
        """Store all fields."""
        for key, value in asdict(self).items():
            self.put(connection, key, value)

    @staticmethod
    def put(connection: sqlite3.Connection, key: str, value: Any) -> None:
        """Store one field."""
        row = (key, json.dumps(value))  # in ASCII, since a path may hold bytes that are no UTF-8
        connection.execute("INSERT OR REPLACE INTO manifest VALUES (?, ?, ?)", (*row, checksum(*row)))

    @classmethod
    def read(cls, connection: sqlite3.Connection) -> Manifest:
        """Read all fields; those of a later package of the same format are passed over."""
        texts = {}
        for key, value, stored in connection.execute("SELECT key, value, checksum FROM manifest"):
            if checksum(key, value) != stored:
                raise IndexDamagedError(f"manifest: {key!r} does not match its checksum; restore a copy of the index")
            texts[key] = value
        return cls.from_texts(texts)

    def to_texts(self) -> dict[str, str]:
        """All fields as JSON."""
        # In ASCII, since a path may hold bytes that are no UTF-8.
        return {key: json.dumps(value) for key, value in asdict(self).items()}

    @classmethod
    def from_texts(cls, texts: Mapping[Any, Any]) -> Manifest:
        """The inverse of :meth:`to_texts`; fields of a later package are passed over."""
        values: dict[str, Any] = {}
        for key, value in texts.items():
            try:
                values[key] = _read_value(key, value)
            except (TypeError, ValueError, RecursionError) as error:
                raise IndexDamagedError(
                    f"manifest: {str(key)[:60]!r} cannot be read ({error}); restore a copy"
                ) from error
        names = {part.name for part in fields(cls)}
        missing = sorted({"model", "codec", "anchor_dim", "code_width", "uuid"} - set(values))
        if missing:
            raise IndexDamagedError(f"manifest: found no {', '.join(missing)}; restore a copy of the index")
        return cls(**{key: value for key, value in values.items() if key in names})


_TEXTS = ("codec", "package", "uuid", "created", "root")
_OBJECTS = ("model", "readout", "prompts", "limits", "scoring", "calibration", "model_calibration")


def _read_value(key: Any, text: Any) -> Any:
    """A field's value, of the type that it must have."""
    value = json.loads(text, parse_constant=_refused)
    expected = {
        **dict.fromkeys(_TEXTS, isinstance(value, str)),
        **dict.fromkeys(_OBJECTS, isinstance(value, dict)),
        **dict.fromkeys(("lexical", "folding"), isinstance(value, bool)),
        **dict.fromkeys(("anchor_dim", "code_width"), type(value) is int and 0 < value <= MOST_WIDTH),
        "language": value in LANGUAGES,
        "anchors": value in ANCHOR_TYPES,
        "pooling": value is None or (type(value) in (int, float) and 0 <= value <= MOST_WIDTH),
    }
    if not expected.get(key, True):
        raise ValueError(f"found {text[:60]!r}")
    return value


def _refused(constant: str) -> Any:
    raise ValueError(f"found {constant}")


def _plain(value: Any) -> Any:
    """A value as JSON gives it back, so that tuples equal lists."""
    return json.loads(json.dumps(value))
