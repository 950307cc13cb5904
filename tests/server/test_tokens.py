from __future__ import annotations

import hashlib
import os
import time

import pytest

from smart_retrieval.errors import ServerError
from smart_retrieval.server.tokens import TokenFile

TOKEN = "0123456789abcdef"


@pytest.fixture
def write(tmp_path):
    def write(text, mode=0o600):
        path = tmp_path / "tokens"
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return path

    return write


def test_tokens_are_roles_and_tenants(write):
    hashed = hashlib.sha256(b"a secret of some length").hexdigest()
    tokens = TokenFile(write(f"# mine\n\n{TOKEN} read\n  sha256:{hashed}\twrite  acme \n"), "team")
    reader, writer = tokens.caller(TOKEN), tokens.caller("a secret of some length")
    assert (reader.role, reader.fixed) == ("read", None)
    assert (writer.role, writer.fixed) == ("write", "(`team` = 'acme')")
    for wrong in ("", TOKEN[:-1], TOKEN + "0", f"sha256:{hashed}", hashed, "\ud800", "é" * 20):
        assert tokens.caller(wrong) is None
    assert TOKEN not in repr(reader)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no token"),
        ("# nothing\n", "no token"),
        ("short read\n", "16 or more"),
        (f"{TOKEN}\n", "line 1"),
        (f"{TOKEN} admin\n", "line 1"),
        (f"\n{TOKEN} read acme more\n", "line 2"),
        (f"{TOKEN} read\n{TOKEN} write\n", "line 2: found a token that an earlier"),
        (f"{TOKEN} read acme\n", "--tenant-field"),
        ("sha256:abc read\n", "64 hexadecimal"),
        ("sha256:" + "g" * 64 + " read\n", "64 hexadecimal"),
    ],
)
def test_lines_that_do_not_fit_are_named_without_the_token(write, text, message):
    with pytest.raises(ServerError, match=message) as raised:
        TokenFile(write(text))
    assert TOKEN not in str(raised.value)


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX's")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o602])
def test_a_file_that_others_can_read_or_write_is_refused(write, mode):
    with pytest.raises(ServerError, match="chmod 600"):
        TokenFile(write(f"{TOKEN} read\n", mode))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ServerError, match="cannot be read"):
        TokenFile(tmp_path / "nothing")


def test_a_changed_file_is_read_again_and_a_wrong_one_lets_nobody_in(write, monkeypatch):
    tokens = TokenFile(write(f"{TOKEN} read\n"))
    clock = time.monotonic()
    monkeypatch.setattr("smart_retrieval.server.tokens.time.monotonic", lambda: clock)

    def later():
        nonlocal clock
        clock += 2

    assert tokens.caller(TOKEN)
    path = write("another-token-of-length write\n")
    later()
    assert tokens.caller(TOKEN) is None
    assert tokens.caller("another-token-of-length").role == "write"
    path.write_text("no\n")
    later()
    assert tokens.caller("another-token-of-length") is None
    path.unlink()
    later()
    assert tokens.caller(TOKEN) is None
    write(f"{TOKEN} write\n")
    later()
    assert tokens.caller(TOKEN).role == "write"
