from __future__ import annotations

from pathlib import Path

import pytest

from smart_retrieval.errors import IndexDamagedError
from smart_retrieval.files import UnreadableFileError
from smart_retrieval.server.work.messages import Messages, shown_model, shown_source

MESSAGES = Messages({"docs": Path("/srv/data/docs.smart"), "old": Path("/srv/data/docs.smart/old")})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("index '/srv/data/docs.smart': found no index", "index 'docs': found no index"),
        ("index '/srv/data/docs.smart/old': gone", "index 'old': gone"),
        ("model '/opt/models/mine'", "model 'mine'"),
        (r"cannot read C:\Users\ann\x.pdf: empty", "cannot read x.pdf: empty"),
        (r"at \\server\share\x.pdf", "at x.pdf"),
        ("see https://example.org/a/b and and/or", "see https://example.org/a/b and and/or"),
        ("file:///etc/passwd", "passwd"),
        ("~/secret/x", "x"),
        ("source 'guide/logs.md'", "source 'guide/logs.md'"),
        ("1 / 2", "1 / 2"),
    ],
)
def test_paths_are_taken_out_of_messages(text, shown):
    assert MESSAGES.of(IndexDamagedError(text)) == shown


def test_a_files_path_is_taken_out_whatever_is_in_it():
    assert MESSAGES.of(UnreadableFileError("/home/ann's/a b/x.pdf", "empty")) == "cannot read x.pdf: empty"


def test_errors_that_nobody_foresaw_say_nothing():
    assert "/x" not in MESSAGES.of(OSError(2, "no such file", "/x/y"))


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (None, None), ("a/b.md", "a/b.md"), ("/srv/a/b.md", "b.md"), (r"C:\a\b.md", "b.md"), ("file:///a/b.md", "b.md"),
        (r"\\host\a\b.md", "b.md"), ("https://a.org/b", "https://a.org/b"),
    ],
)  # fmt: skip
def test_sources_are_relative(source, shown):
    assert shown_source(source) == shown


def test_models_are_names():
    assert shown_model("/opt/models/mine") == "mine"
    assert shown_model("BAAI/bge-m3@http://10.0.0.1:8000") == "BAAI/bge-m3"
