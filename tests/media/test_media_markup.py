"""Markdown, HTML and reStructuredText: structure found, marks removed, nothing loaded, nothing lost."""

from __future__ import annotations

import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.documents import read as readers
from smart_retrieval.documents.read import read_file
from smart_retrieval.documents.readers.html import html_blocks
from smart_retrieval.documents.readers.markdown import split_front_matter
from smart_retrieval.documents.readers.rst import plain_inline
from smart_retrieval.documents.sections import Document, SectionBuilder
from smart_retrieval.files import UnreadableFileError


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def write_and_read(name: str, content: str | bytes) -> Document:
        path = tmp_path / name
        path.write_bytes(dedent(content).encode() if isinstance(content, str) else content)
        return read_file(path)

    return write_and_read


def outline(document: Document) -> list[tuple[tuple[str, ...], str]]:
    return [(section.heading, section.text) for section in document.sections]


NESTED = [
    ((), "Before."),
    (("One",), "Text one."),
    (("One", "Deep"), "Text deep."),
    (("One", "Two"), "Text two."),
    (("One",), "Empty at its end"),
    (("Next",), "Text next."),
]


def test_nested_and_skipped_heading_levels_in_all_three(read: Any) -> None:
    markdown = """\
        Before.

        # One
        Text one.

        #### Deep
        Text deep.

        Two
        ---
        Text two.

        ## Empty at its end

        Next
        ====
        Text next.
        """
    html = """Before.<h1>One</h1><p>Text one.<h4>Deep</h4>Text deep.<h2>Two</h2><p>Text two.</p>
        <h2>Empty at its end</h2><h1>Next</h1>Text next."""
    rst = """\
        Before.

        One
        ===
        Text one.

        Deep
        ----
        Text deep.

        Two
        ---
        Text two.

        Empty at its end
        ----------------

        Next
        ====
        Text next.
        """
    for newline in ("\n", "\r\n"):
        assert outline(read("a.md", dedent(markdown).replace("\n", newline).encode())) == NESTED
        assert outline(read("a.html", html.replace("\n", newline).encode())) == NESTED
        assert outline(read("a.rst", dedent(rst).replace("\n", newline).encode())) == NESTED


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
    ],
)
def test_front_matter(block: str, entries: dict[str, Any]) -> None:
    assert split_front_matter(f"---\n{block}\n---\nText.") == (entries, "Text.")


@pytest.mark.parametrize(
    "text",
    ["---\nJust text.\n---\nMore.", "---\nno end: here\n", "--- \n", "x\n---\na: b\n---", "---\na: b\n}{\n---\n"],
)
def test_what_is_no_front_matter_stays_text(text: str) -> None:
    assert split_front_matter(text) == ({}, text)


def test_title_of_front_matter_or_page_heads_a_document_without_one(read: Any) -> None:
    assert outline(read("a.md", "---\ntitle: Rotate\n---\n## Use\nGo.")) == [(("Rotate", "Use"), "Go.")]
    assert outline(read("a.md", "---\ntitle: Rotate\n---\n# Use\nGo.")) == [(("Use",), "Go.")]
    document = read("a.html", "<html lang=en><title>Rotate\n &amp; go</title><h2>Use</h2>Go.")
    assert outline(document) == [(("Rotate & go", "Use"), "Go.")]
    assert document.metadata == {"title": "Rotate & go", "language": "en"}


def test_html_content(read: Any) -> None:
    document = read(
        "a.html",
        """\
        <!DOCTYPE html><html><head><style>p { color: red }</style><script src=x.js>if (a < b) { "<p>no" }</script>
        <meta name=description content="What  it is"></head><body>
        <nav>Home <nav>inner</nav> About</nav><div hidden>secret</div><a class=headerlink>x</a>
        <h1>T&eacute;st &#x41;<a class="headerlink" href=#>¶</a></h1>
        <p>One<br>two <b>bo</b>ld &lt;tag&gt; &nbsp;end<img src=http://127.0.0.1:9/ alt="a cat"><p>Next
        <ul><li>a<li><p>b</p><ul><li>c</ul></ul>
        <table><tr><th>k<th>v</tr><tr><td><p>1</p></td><td>2</td></tr></table>
        <pre>  x = 1
            y</pre><svg><text>no</text></svg><!-- <p>no --> <![odd]> <?php no ?>
        <textarea>no</textarea>end""",
    )
    assert document.metadata == {"description": "What it is"}
    assert document.sections[0].heading == ("Tést A",)
    assert document.sections[0].text.split("\n\n") == [
        "One\ntwo bold <tag> end a cat",
        "Next",
        "- a\n- b\n- c",
        "k | v\n1 | 2",
        "  x = 1\n    y",
        "end",
    ]


def test_html_encodings(read: Any) -> None:
    page = '<meta charset="{}"><p>日本'
    assert read("a.html", page.format("shift_jis").encode("shift_jis")).sections[0].text == "日本"
    assert read("a.html", page.format("no-such").encode()).sections[0].text == "日本"
    assert read("a.html", page.format("punycode").encode()).sections[0].text == "日本"
    assert read("a.html", page.format("ascii").encode("utf-16")).sections[0].text == "日本"
    assert (
        read("a.html", b'<?xml version="1.0" encoding="ISO-8859-1"?><p>caf\xe9 \x93x\x94').sections[0].text
        == "café “x”"
    )
    with pytest.raises(UnreadableFileError, match="binary"):
        read("a.html", b"<p>\x00")


def test_unclosed_navigation_does_not_swallow_the_page() -> None:
    assert "text" in "".join(block.text for block in html_blocks("<nav>menu <p>text"))
    html_blocks("<script>never closed <p>text")  # lost, as in a browser; some versions of Python keep it
    assert [block.text for block in html_blocks("a <!-- never closed <p>text</p>")] == ["a <!-- never closed", "text"]


def test_entities_are_not_expanded(read: Any) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;"><!ENTITY c SYSTEM "file:///etc/passwd">]><p>&b; &c;</p>'
    text = read("a.xhtml", bomb).sections[0].text
    assert "ha" not in text
    assert "root:" not in text


def test_rst_content(read: Any) -> None:
    document = read(
        "a.rst",
        """\
        :author: Ada
        :orphan:

        .. _label:

        ######
         Logs
        ######

        .. comment, not
           shown

        See :func:`~logs.rotate`, :ref:`the guide <guide>`, `site <https://a.org>`_ and ``*raw*`` *or* **bold**
        in |name| [1]_ with snake_case::

            code  here

              more

        .. |name| replace:: *Smart*

        .. note:: Mind
           the gap.

           - one
           - two
             goes on

        .. versionadded:: 1.2
           More.

        .. py:function:: f(*args)
                         g(x)
           :noindex:

           Does it.

        .. code-block:: python
           :caption: Example

           def f():
               pass

        .. image:: x.png
           :alt: A cat

        .. toctree::
           :maxdepth: 2

           other

        .. include:: /etc/passwd
        .. [1] A footnote
           in two lines.

        term
            Its definition.

        :param x: The *x*.
        :raises: Never

        +-----+-----+
        | a   | b   |
        |     | c   |
        +=====+=====+
        | 1   | 2   |
        +-----+-----+

        ===  ====
        k    v
        ===  ====
        1    two
             rows
        ===  ====

        | verse one
        | verse two

        >>> 1 + 1
        2
        """,
    )
    assert document.metadata == {"author": "Ada"}
    assert {section.heading for section in document.sections} == {("Logs",)}
    assert document.sections[0].text.split("\n\n") == [
        "See logs.rotate, the guide, site and *raw* or bold in Smart [1] with snake_case:",
        "code  here",
        "  more",
        "Mind the gap.",
        "- one\n- two goes on",
        "Added in version 1.2: More.",
        "f(*args)\ng(x)",
        "Does it.",
        "Example",
        "def f():\n    pass",
        "A cat",
        "[1] A footnote in two lines.",
        "term",
        "Its definition.",
        "param x: The x.\nraises: Never",
        "a | b c\n1 | 2",
        "k | v\n1 | two rows",
        "verse one\nverse two",
        ">>> 1 + 1\n2",
    ]


@pytest.mark.parametrize(
    ("marked", "plain"),
    [
        (":doc:`x`", "x"),
        ("`a`_ b__ c_", "a b c"),
        (r"\*no\* a\ b", "*no* ab"),
        ("2 * 3 * 4 and **kwargs", "2 * 3 * 4 and **kwargs"),
        ("snake_case_ name __init__ f(x_)", "snake_case name __init__ f(x)"),
        ("``a `b` c``", "a `b` c"),
        ("|unknown|", "|unknown|"),
    ],
)
def test_rst_inline(marked: str, plain: str) -> None:
    assert plain_inline(marked) == plain


def test_builder_loses_no_heading() -> None:
    builder = SectionBuilder()
    for level, title in [(2, "A"), (3, "B"), (1, "C"), (1, ""), (5, "D")]:
        builder.heading(level, title)
    assert [(part.heading, part.text) for part in builder.sections()] == [(("A",), "B"), (("C",), "D")]


@pytest.mark.parametrize("suffix", [".md", ".html", ".rst", ".txt"])
@given(content=st.text(alphabet=st.sampled_from("ab \n\t<>/!-=*_`[]()|:.#&;\"'\\é漢\u0301"), max_size=300))
def test_no_markup_whatever_stops_a_reader(tmp_path: Path, suffix: str, content: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text(content, encoding="utf-8")
    for section in read_file(path).sections:
        assert section.text.strip()


@pytest.mark.parametrize(
    ("suffix", "pattern"),
    [
        (".html", "<!--"),
        (".html", "<a "),
        (".html", "<div>"),
        (".html", '<a b="'),
        (".html", "<![CDATA["),
        (".html", "<h1>"),
        (".rst", "``"),
        (".rst", "*a "),
        (".rst", ".. note::\n"),
        (".rst", "|a "),
        (".md", "- a\n"),
        (".md", "> "),
    ],
)
def test_hostile_repetition_takes_linear_time(tmp_path: Path, suffix: str, pattern: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text(pattern * 6_000 + ">text")
    began = time.perf_counter()
    read_file(path)
    assert time.perf_counter() - began < 3


def test_deep_indentation_and_nesting(tmp_path: Path) -> None:
    path = tmp_path / "a.rst"
    path.write_text("\n".join(" " * depth + "x" for depth in range(500)))
    assert sum(section.text.count("x") for section in read_file(path).sections) == 500
    path = tmp_path / "a.md"
    path.write_text("".join("  " * depth + "- x\n" for depth in range(20)))
    assert read_file(path).sections[0].text.endswith("\n" + " " * 38 + "- x")
    path.write_text("> " * 1_000 + "deep")
    assert "deep" in read_file(path).sections[0].text


def test_a_readers_own_fault_becomes_a_named_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, options: readers.ReadOptions) -> Document:
        raise RecursionError("too deep")

    monkeypatch.setattr(readers, "READERS", {**readers.READERS, "text": fail})
    with pytest.raises(UnreadableFileError, match=r"a\.txt: its reader failed \(RecursionError: too deep\)"):
        read_file(tmp_path / "a.txt")
