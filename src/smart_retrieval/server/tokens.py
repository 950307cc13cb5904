"""The file of tokens: who may do what."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import time
from contextlib import suppress
from pathlib import Path

from ..errors import ServerError
from .access import Caller, Tenant

_SHORTEST = 16
_HASHED = "sha256:"
_LOOK_AGAIN_S = 1.0
_READABLE = (stat.S_IRWXG | stat.S_IRWXO) & ~stat.S_IXGRP & ~stat.S_IXOTH


class TokenFile:
    """Callers by token, one a line: ``TOKEN ROLE [TENANT]``; blank lines and those that begin with ``#`` are left out.

    ROLE is ``read`` or ``write``. A TOKEN may be given as ``sha256:`` and the hash of it in hexadecimal digits, so that
    the file holds no secret. A caller without a tenant sees everything. The file is read again when it changes; one
    that cannot be read then lets nobody in.

    Args:
        path: The file, which nobody else may read.
        tenant_field: Metadata field of the tenants.

    Raises:
        ServerError: The file cannot be read, is open to others, or has a line that does not fit.
    """

    def __init__(self, path: Path, tenant_field: str | None = None) -> None:
        self._path, self._field = path, tenant_field
        self._looked = time.monotonic()
        self._stamp = self._stat()
        self._callers = self._read()

    def caller(self, token: str) -> Caller | None:
        """Whose token it is; None for nobody's. All are compared, each in the same time."""
        self._look_again()
        given, found = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest(), None
        for digest, caller in self._callers:
            if hmac.compare_digest(digest, given):
                found = caller
        return found

    def _look_again(self) -> None:
        now = time.monotonic()
        if now < self._looked + _LOOK_AGAIN_S:
            return
        self._looked, stamp = now, self._stat()
        if stamp != self._stamp:
            self._stamp, self._callers = stamp, []
            with suppress(ServerError):
                self._callers = self._read()

    def _stat(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode

    def _read(self) -> list[tuple[bytes, Caller]]:
        try:
            mode, lines = self._path.stat().st_mode, self._path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ServerError(f"token file {str(self._path)!r}: it cannot be read ({error})") from error
        if os.name == "posix" and mode & _READABLE:
            raise ServerError(f"token file {str(self._path)!r}: others can read or write it; run  chmod 600 on it")
        found: dict[bytes, Caller] = {}
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.lstrip().startswith("#"):
                digest, caller = self._caller(number, line.split())
                if digest in found:
                    raise ServerError(f"token file, line {number}: found a token that an earlier line has, too")
                found[digest] = caller
        if not found:
            raise ServerError(f"token file {str(self._path)!r}: found no token, expected lines such as: TOKEN read")
        return list(found.items())

    def _caller(self, number: int, parts: list[str]) -> tuple[bytes, Caller]:
        where = f"token file, line {number}"
        if not 2 <= len(parts) <= 3 or parts[1] not in ("read", "write"):
            raise ServerError(f"{where}: expected TOKEN, 'read' or 'write', and possibly a tenant, between blanks")
        token = parts[0]
        if token.startswith(_HASHED):
            try:
                digest = bytes.fromhex(token.removeprefix(_HASHED))
            except ValueError:
                digest = b""
            if len(digest) != 32:
                raise ServerError(f"{where}: found a hash that is none, expected sha256: and 64 hexadecimal digits")
        elif len(token) < _SHORTEST:
            raise ServerError(f"{where}: found a token of {len(token)} characters, expected {_SHORTEST} or more")
        else:
            digest = hashlib.sha256(token.encode()).digest()
        tenant = None
        if len(parts) == 3:
            if self._field is None:
                raise ServerError(
                    f"{where}: found a tenant, and no tenant field is set; start with --tenant-field FIELD"
                )
            tenant = Tenant(self._field, parts[2])
        role = "write" if parts[1] == "write" else "read"
        return digest, Caller(role, name=digest.hex()[:8], tenant=tenant)  # type: ignore[arg-type]
