"""HTML: structure found, markup removed, nothing loaded."""

from __future__ import annotations

from typing import Any

import pytest

from smart_retrieval.documents.readers.html import html_blocks
from smart_retrieval.files import UnreadableFileError


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


def test_unclosed_navigation_does_not_hide_the_page() -> None:
    assert "text" in "".join(block.text for block in html_blocks("<nav>menu <p>text"))
    html_blocks("<script>never closed <p>text")  # lost, as in a browser; some versions of Python keep it
    assert [block.text for block in html_blocks("a <!-- never closed <p>text</p>")] == ["a <!-- never closed", "text"]


def test_entities_are_not_expanded(read: Any) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;"><!ENTITY c SYSTEM "file:///etc/passwd">]><p>&b; &c;</p>'
    text = read("a.xhtml", bomb).sections[0].text
    assert "ha" not in text
    assert "root:" not in text
