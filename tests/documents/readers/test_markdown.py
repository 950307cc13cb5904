"""Markdown: structure found, marks removed; front matter, and what only looks like it."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest
from fixtures.documents import outline

from smart_retrieval.documents.readers.markdown import split_front_matter


def test_markdown_content(read: Any) -> None:
    document = read(
        "a.md",
        """\
        # Title *with* `code` {#anchor}
        See [the guide](https://example.org/x "t"), ![a picture](http://127.0.0.1:9/p.png) &amp; <b>bold</b>
        next line<br>broken <!-- gone -->

        - one
        - two
          - inner

            more
        3. three

        | a | b |
        |---|---|
        | 1 | 2 `x` |

        > quoted
        >
        > twice

        ```python
        def f():

            return 1
        ```

        <div><h2>In HTML</h2><script>bad()</script>kept</div>

        ***
        end\\*
        """,
    )
    assert document.sections[0].heading == ("Title with code",)
    assert document.sections[0].text.split("\n\n") == [
        "See the guide, a picture & bold next line\nbroken",
        "- one\n- two\n  - inner\n    more",
        "3. three",
        "a | b\n1 | 2 x",
        "quoted",
        "twice",
        "def f():",
        "    return 1",
    ]
    assert outline(document)[1] == (("Title with code", "In HTML"), "kept\n\nend*")


@pytest.mark.parametrize(
    ("block", "entries"),
    [
        ("title: A: b\ndate: 2024-05-01", {"title": "A: b", "date": "2024-05-01"}),
        ("n: 3\nx: -1.5e2\nyes: true\nno: False\nnone: null\nempty:", {"n": 3, "x": -150.0, "yes": True, "no": False}),
        ("a: 'it''s' # why\nb: \"q\\n\\u00e9\"\nc: plain # why", {"a": "it's", "b": "q\né", "c": "plain"}),
        ("tags: [a, 'b, c', 3]\nmore:\n- x\n- y: z\n  - w", {"tags": ["a", "b, c", 3], "more": ["x", "w"]}),
        ("a: 1\nnested:\n  b: 2\n  c: 3\nd: |\n  long\n  text", {"a": 1}),
        ("version: 007\nhuge: 99999999999999999999", {"version": "007", "huge": "99999999999999999999"}),
        ("", {}),
        (
            "title: Foo: bar\ntags: [a,\n  b]\nlist:\n- x # why\n- 1",
            {"title": "Foo: bar", "tags": ["a", "b"], "list": ["x", 1]},
        ),
        ("a: &x long\nb: *x\nc: [*x, d]\ne: &y [f]\ng: *y", {"a": "long", "c": ["d"], "e": ["f"]}),
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
    assert split_front_matter(f"---\n{block}\n---\nText.") == (entries, "Text.")


@pytest.mark.parametrize(
    "text",
    ["---\nJust text.\n---\nMore.", "---\nno end: here\n", "--- \n", "x\n---\na: b\n---", "---\na: b\n}{\n---\n"],
)
def test_blocks_that_are_not_front_matter_stay_text(text: str) -> None:
    assert split_front_matter(text) == ({}, text)


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


def test_yaml_aliases_are_not_expanded() -> None:
    lists = [f"{key}: &{key} [{', '.join([f'*{before}'] * 4)}]" for before, key in pairwise("abcdefghij")]
    entries, _ = split_front_matter("\n".join(["---", "a: &a [x, y]", *lists, "---"]))
    assert entries == {"a": ["x", "y"]}
    text = "x" * 30_000
    entries, _ = split_front_matter(f"---\na: &a {text}\nb: [{', '.join(['*a'] * 8_000)}]\n---\n")
    assert entries == {"a": text}
