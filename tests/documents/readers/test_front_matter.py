"""Front matter in YAML, TOML and JSON; what only looks like it; and the metadata of other formats."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from typing import Any

import pytest

from smart_retrieval.documents.readers.front_matter import split_front_matter


@pytest.mark.parametrize(
    ("block", "entries"),
    [
        ("title: A: b\ndate: 2024-05-01", {"title": "A: b", "date": "2024-05-01"}),
        ("n: 3\nx: -1.5e2\nyes: true\nno: False\nnone: null\nempty:", {"n": 3, "x": -150.0, "yes": True, "no": False}),
        ("a: 'it''s' # why\nb: \"q\\n\\u00e9\"\nc: plain # why", {"a": "it's", "b": "q\né", "c": "plain"}),
        ("tags: [a, 'b, c', 3]\nmore:\n- x\n- y: z\n  - w", {"tags": ["a", "b, c", 3], "more": ["x", {"y": "z - w"}]}),
        ("a: 1\nnested:\n  b: 2\n  c: null\nd: |\n  long\n  text", {"a": 1, "nested": {"b": 2}, "d": "long\ntext\n"}),
        ("version: 007\nhuge: 99999999999999999999", {"version": "007", "huge": "99999999999999999999"}),
        ("", {}),
        (
            "title: Foo: bar\ntags: [a,\n  b]\nlist:\n- x # why\n- 1",
            {"title": "Foo: bar", "tags": ["a", "b"], "list": ["x", 1]},
        ),
        (
            "a: &x long\nb: *x\nc: [*x, d]\ne: &y [f]\ng: *y",
            {"a": "long", "b": "long", "c": ["long", "d"], "e": ["f"], "g": ["f"]},
        ),
        (
            "on: off\nt: 12:30:00\no: 0x1F\nd: 2024-05-01 10:00:00",
            {"on": "off", "t": "12:30:00", "o": "0x1F", "d": "2024-05-01 10:00:00"},
        ),
        ("a: !!python/object/apply:os.getcwd []\nb: !!int x\nc: 1", {"a": [], "b": "x", "c": 1}),
        (
            "handle: @me\ntags: [@a, 'b']\nempty: []\ntab:\tx",
            {"handle": "@me", "tags": ["@a", "b"], "empty": [], "tab": "x"},
        ),
        ('half: "\\ud800"\nzero: "\\0x"', {"half": "\ufffd", "zero": "x"}),
        ('a: "\\Uffffffff"\nb: 1', {"a": '"\\Uffffffff"', "b": 1}),
    ],
)
def test_front_matter(block: str, entries: dict[str, Any]) -> None:
    assert split_front_matter(f"---\n{block}\n---\nText.") == (entries, "Text.", [])


@pytest.mark.parametrize(
    "text",
    ["---\nJust text.\n---\nMore.", "---\nno end: here\n", "--- \n", "x\n---\na: b\n---", "---\na: b\n}{\n---\n"],
)
def test_blocks_that_are_not_front_matter_stay_text(text: str) -> None:
    assert split_front_matter(text) == ({}, text, [])


@pytest.mark.parametrize(
    "block",
    [
        "[" * 60_000,
        "a: " + "{" * 60_000,
        "a: b: c\n" * 7_000,
        "k:\n" + "- a: b: c\n" * 6_000,
        "? " * 30_000,
        "- " * 30_000,
    ],
)
def test_hostile_front_matter_takes_bounded_time(block: str) -> None:
    began = time.process_time()
    split_front_matter(f"---\n{block}\n---\nText.")
    assert time.process_time() - began < 60  # unbounded, it would take hours


def test_objects_and_lists_of_them_are_stored() -> None:
    yaml = """\
base: &base {city: Rome, when: 2024-05-01}
author:
  name: Ada
  born: 1815
  links: [{site: a}, {site: b, note: Foo}]
editor: {<<: *base, city: Oslo}
"""
    told = {"city": "Rome", "when": "2024-05-01"}
    author = {"name": "Ada", "born": 1815, "links": [{"site": "a"}, {"site": "b", "note": "Foo"}]}
    expected = {"base": told, "author": author, "editor": {"city": "Oslo", "when": "2024-05-01"}}
    assert split_front_matter(f"---\n{yaml}---\nText.") == (expected, "Text.", [])


def test_an_entry_that_yaml_refuses_costs_nothing_around_it() -> None:
    block = "a:\n  t: Foo: bar\n  n: 1\nl:\n  - name: X: y\n    n: 2\n  - z: w\n  - p: q: r"
    entries = {"a": {"t": "Foo: bar", "n": 1}, "l": [{"name": "X: y", "n": 2}, {"z": "w"}, {"p": "q: r"}]}
    assert split_front_matter(f"---\n{block}\n---\n") == (entries, "", [])


TOML = 'title = "T"\nday = 2024-05-01\nat = 2024-05-01T10:00:00Z\n[author]\nname = "Ada"\n[[parts]]\nn = 1\n'
OF_TOML = {
    "title": "T",
    "day": "2024-05-01",
    "at": "2024-05-01T10:00:00+00:00",
    "author": {"name": "Ada"},
    "parts": [{"n": 1}],
}
JSON = {"title": "T", "author": {"name": "Ada"}, "parts": [{"n": 1}, [2]]}


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        (f"+++\n{TOML}+++\nText.", OF_TOML),
        (f"---toml\n{TOML}---\nText.", OF_TOML),
        (f"---json\n{json.dumps(JSON)}\n---\nText.", JSON),
        (f"{json.dumps(JSON, indent=1)}\nText.", JSON),
    ],
)
def test_toml_and_json(text: str, entries: dict[str, Any]) -> None:
    found, rest, notes = split_front_matter(text)
    assert (found, rest.strip(), notes) == (entries, "Text.", [])


@pytest.mark.parametrize(
    "text", ['{"a": 1}', '{"a": 1} is an object\n', "{x}\ny", "+++\nno toml\n+++\n", "+++\na = 1\n"]
)
def test_what_is_no_toml_or_json_stays_text(text: str) -> None:
    assert split_front_matter(text) == ({}, text, [])


@pytest.mark.parametrize(
    ("text", "entries", "left_out"),
    [
        ("---\na: {b: 1, [c]: 2}\n---\n", {"a": {"b": 1}}, "a.? sequence (its key is no text)"),
        ("+++\na = inf\nb = 0x" + "f" * 20 + "\nc = 1\n+++\n", {"c": 1}, "a (no finite number); b (a number of"),
        ('{"a": NaN, "b": 1}\nText', {"b": 1}, "a (no finite number)"),
        ("---\na: " + "[" * 30 + "]" * 30 + "\nb: 1\n---\n", {"b": 1}, "a (deeper than 20 levels)"),
        ("---\na: &a {b: *a, c: 1}\n---\n", None, "(deeper than 20 levels)"),
    ],
)
def test_what_cannot_be_stored_is_named(text: str, entries: dict[str, Any] | None, left_out: str) -> None:
    found, _, notes = split_front_matter(text)
    assert entries is None or found == entries
    assert len(notes) == 1
    assert notes[0].startswith("front matter left out: ")
    assert left_out in notes[0]


def test_yaml_aliases_unfold_to_a_bounded_size() -> None:
    lists = [f"{key}: &{key} [{', '.join([f'*{before}'] * 9)}]" for before, key in pairwise("abcdefghij")]
    entries, _, notes = split_front_matter("\n".join(["---", "a: &a [x, y]", *lists, "---"]))
    assert entries["b"] == [["x", "y"]] * 9
    assert "j" not in entries
    assert len(json.dumps(entries)) < 2_000_000
    assert "j (more than 131,072 characters in all)" in notes[0]
    text = "x" * 30_000
    entries, _, notes = split_front_matter(f"---\na: &a {text}\nb: [{', '.join(['*a'] * 8_000)}]\n---\n")
    assert entries == {"a": text}
    assert notes == ["front matter left out: b (more than 131,072 characters in all)"]


def test_front_matter_of_pages_and_notebooks(read: Any) -> None:
    page = read("a.html", "---\nauthor: {name: Ada}\ntitle: 2024\n---\n<html lang=en><p>Text.</p>")
    assert page.metadata == {"author": {"name": "Ada"}, "title": 2024, "language": "en"}
    assert [(one.heading, one.text) for one in page.sections] == [(("2024",), "Text.")]
    told = {"title": "Below", "authors": [{"name": "Ada"}], "widgets": {"state": "x" * 9}}
    cells = [
        {"cell_type": "raw", "source": "---\ntitle: Above\nday: 2024-05-01\n---"},
        {"cell_type": "markdown", "source": "Text."},
    ]
    book = read("a.ipynb", json.dumps({"cells": cells, "metadata": told}))
    assert book.metadata == {"title": "Above", "authors": [{"name": "Ada"}], "day": "2024-05-01"}
    assert [(one.heading, one.text) for one in book.sections] == [(("Above",), "Text.")]


def test_fields_of_rst_and_names_in_a_page_head(read: Any) -> None:
    assert read("a.rst", ":year: 2024\n:by: Ada\n\nText.").metadata == {"year": 2024, "by": "Ada"}
    head = '<meta name=Author content="Ada"><meta name="keywords" content="a, b"><title>T</title>'
    assert read("a.html", f"{head}<p>Text").metadata == {"author": "Ada", "keywords": "a, b", "title": "T"}
