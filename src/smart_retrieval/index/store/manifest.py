"""What an index was made with: everything a reader must agree with before it trusts a score."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ...errors import IndexDamagedError, IndexMismatchError
from .checksums import checksum
from .schema import now


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Facts about an index that no document changes; kept as JSON values in the database.

    Args:
        model: Identity of the model: name, revision, fingerprint.
        codec: Name of the codec, ``"codebook:32x1"`` for one.
        anchor_dim: Da.
        code_width: B, bytes of one token's code.
        readout: The readout's configuration.
        prompts: Query and document prompt.
        pooling: Token pooling; ``None`` for none.
        limits: Token and pixel limits that documents were encoded under.
        lexical: Keep a full-text index beside the vectors.
        package: Version of the package that made it; a note, never compared.
        uuid: Of this index; drawn when left out.
        created: Time of making; now when left out.
        root: The folder whose files it holds; ``""`` until one is indexed.

    Example:
        >>> Manifest(model={"name": "minilm"}, codec="int8", anchor_dim=384, code_width=384).lexical
        True
    """

    model: Mapping[str, Any]
    codec: str
    anchor_dim: int
    code_width: int
    readout: Mapping[str, Any] = field(default_factory=dict)
    prompts: Mapping[str, Any] = field(default_factory=dict)
    pooling: Any = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    lexical: bool = True
    package: str = ""
    uuid: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: str = field(default_factory=now)
    root: str = ""

    def require(self, **expected: Any) -> None:
        """Compare with what the caller is about to use the index with.

        Args:
            **expected: Fields of the manifest by name: ``model=``, ``readout=``, ``codec=``, ``pooling=``, ... Of a
                mapping, only the keys given are compared.

        Raises:
            IndexMismatchError: Something differs; the message names every difference.
        """
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
        row = (key, json.dumps(value, ensure_ascii=False))
        connection.execute("INSERT OR REPLACE INTO manifest VALUES (?, ?, ?)", (*row, checksum(*row)))

    @classmethod
    def read(cls, connection: sqlite3.Connection) -> Manifest:
        """Read all fields; those of a later package of the same format are passed over.

        Raises:
            IndexDamagedError: A value does not match its checksum, or is missing.
        """
        values: dict[str, Any] = {}
        for key, value, stored in connection.execute("SELECT key, value, checksum FROM manifest"):
            if checksum(key, value) != stored:
                raise IndexDamagedError(f"manifest: {key!r} does not match its checksum; restore a copy of the index")
            values[key] = json.loads(value)
        names = {part.name for part in fields(cls)}
        missing = sorted({"model", "codec", "anchor_dim", "code_width", "uuid"} - set(values))
        if missing:
            raise IndexDamagedError(f"manifest: found no {', '.join(missing)}; restore a copy of the index")
        return cls(**{key: value for key, value in values.items() if key in names})


def _plain(value: Any) -> Any:
    """A value as JSON gives it back, so that tuples equal lists."""
    return json.loads(json.dumps(value))
