"""HTML: structure found, markup removed, nothing loaded."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.documents.readers.html import html_blocks
from smart_retrieval.files import UnreadableFileError


def test_html_content(read: Any) -> None:
    document = read(
        "a.html",
        """\
        <!DOCTYPE html><html><head><style>p { color: red }</style><script src=x.js>if (a < b) { "<p>no" }</script>
        <meta name=description content="What  it is"></head><body>
        <nav>Home <nav>inner</nav> About</nav><div hidden>shown on demand</div><a class=headerlink>x</a>
        <h1>T&eacute;st &#x41;<a class="headerlink" href=#>¶</a></h1>
        <p>One<br>two <b>bo</b>ld &lt;tag&gt; &nbsp;end<img src=http://127.0.0.1:9/ alt="a cat"><p>Next
        <ul><li>a<li><p>b</p><ul><li>c</ul></ul>
        <table><tr><th>k<th>v</tr><tr><td><p>1</p></td><td>2</td></tr></table>
        <pre>  x = 1
            y</pre><svg><title>no</title><text>a label</text></svg><!-- <p>no --> <![odd]> <?php no ?>
        <textarea>no</textarea>end""",
    )
    assert document.metadata == {"description": "What it is"}
    assert (document.sections[0].heading, document.sections[0].text) == ((), "shown on demand")
    assert document.sections[1].heading == ("Tést A",)
    assert document.sections[1].text.split("\n\n") == [
        "One\ntwo bold <tag> end a cat",
        "Next",
        "- a\n- b\n- c",
        "k | v\n1 | 2",
        "  x = 1\n    y",
        "a label\nend",
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


@pytest.mark.parametrize(
    ("page", "outline"),
    [
        # XHTML closes elements where HTML leaves them open.
        ("<?xml version='1.0'?><html><head><title/></head><body><p>Text.</p></body></html>", [("", "Text.")]),
        ("<head><script src='a.js'/></head><p>Text.</p><script>x()</script>", [("", "Text.")]),
        ("<?xml version='1.0'?><h2><a id='x'/>Head</h2><div/><p>One <b>two</b></p>", [("Head", "One two")]),
        ("<p><![CDATA[a <b> & c]]></p>", [("", "a <b> & c")]),
        # What a reader may reveal is text.
        ("<h2><button>Question?</button></h2><div hidden><p>Answer.</p></div>", [("Question?", "Answer.")]),
        ("<button>Question?</button><div style='display:none'>Answer.</div>", [("", "Question?\n\nAnswer.")]),
        ("<div aria-hidden=true>Page below a dialog.</div>", [("", "Page below a dialog.")]),
        ("<details><summary>More</summary><p>Details.</p></details>", [("", "More\n\nDetails.")]),
        ("<dialog>Shown on a click.</dialog>", [("", "Shown on a click.")]),
        ("<object data=a.svg>In words.</object>", [("", "In words.")]),
        # These only where there is next to nothing else.
        (
            "<noscript><p>Opening hours nine to five.</p></noscript><div id=root></div>",
            [("", "Opening hours nine to five.")],
        ),
        ("<div>Loading…</div><noscript>Hours nine to five.</noscript>", [("", "Loading…\n\nHours nine to five.")]),
        ("<noscript>No.</noscript><p>A page with some more words.</p>", [("", "A page with some more words.")]),
        ("<nav>Home</nav><p>A page with some more words.</p>", [("", "A page with some more words.")]),
        (
            "<div role='navigation'>Home</div><p>A page with some more words.</p>",
            [("", "A page with some more words.")],
        ),
        ("<nav><ul><li>One<li>Two</ul></nav>", [("", "- One\n- Two")]),
        ("<template>Row</template><select><option>A<option>B</select>", [("", "Row\n\nA\nB")]),
        ("<frameset><noframes><p>For old browsers.</noframes></frameset>", [("", "For old browsers.")]),
        ("<textarea><b>code</b></textarea>", [("", "<b>code</b>")]),
        # Elements that are never closed, or closed in the wrong order.
        ("<div><nav>menu <p>item</div><p>A page with some more words.", [("", "A page with some more words.")]),
        ("<table><tr><td><div>a<td>b<tr><td>c</div>d</table>e", [("", "a | b\ncd\n\ne")]),
        ("<ul><li>a<ul><li>b</li></li><li>c</ul>d", [("", "- a\n- b\n- c\nd")]),
        ("<h1>Head</h2>text", [("Head", "text")]),
        ("<b><p>one</b> two<i>three", [("", "one twothree")]),
        ("text <script>never closed <p>code", [("", "text")]),
        ("a <!-- never closed <p>text</p>", [("", "a <!-- never closed\n\ntext")]),
        ("<p title='>'>x <a href=\"a>b\">y</a> 1 < 2 <3 <<b>i> z", [("", "x y 1 < 2 <3 <i> z")]),
        ('<p>a <a href="never closed>b</a> c', [("", "a b c")]),
        ("<title>T</title><svg><title>icon</title></svg><p>x", [("T", "x")]),
        ("<xmp><b>kept</b></xmp>", [("", "<b>kept</b>")]),
        ("<img alt='A &amp;amp; \"B\"'>", [("", 'A &amp; "B"')]),
    ],
)
def test_trees(read: Any, page: str, outline: list[tuple[str, str]]) -> None:
    found = [(" > ".join(section.heading), section.text) for section in read("a.html", page).sections]
    assert found == outline


def test_a_page_without_text_is_an_error_and_an_empty_one_is_not(read: Any) -> None:
    with pytest.raises(UnreadableFileError, match="holds no text that can be read"):
        read("a.html", "<title>App</title><div id=root></div><script>start()</script>")
    assert read("a.html", " \n").sections == []


TAGS = """<p> </p> <div> </div> <ul> <li> </li> </ul> <dl> <dd> </dd> <table> <tr> <td> </td> </table> <h1> </h2> <b>
</b> <pre> </pre> <button> <svg> </svg> --> <x/> &lt; < > <br> <dialog> </dialog>"""


@given(st.lists(st.sampled_from(TAGS.split()), max_size=60))
def test_no_word_is_lost_whatever_the_tags(tags: list[str]) -> None:
    words = [f"w{number}" for number in range(len(tags))]
    markup = "".join(f" {word} {tag}" for word, tag in zip(words, tags, strict=True)) + " end "
    found = " ".join(block.text for block in html_blocks(markup))
    assert {word for word in words if word not in found} == set()


@pytest.mark.parametrize(
    "pattern",
    ["<div>", "<ul><li>", "<table><tr><td>", "<b id={}><p>", "<p><li><p><dd>", "<font id={}>", "<svg><g>", "<h1><ol>",
     '<a b=">" ', "<!-- ", "<![CDATA[", "<xmp>", "<img alt='", "<p a{}=1 ", "<title>", "</p>", "&", "<"],
)  # fmt: skip
def test_time_is_linear_in_hostile_markup(pattern: str) -> None:
    took = []
    for count in (4_000, 16_000):
        page = "".join(pattern.format(number) for number in range(count)) + ">text"
        began = time.process_time()
        html_blocks(page)
        took.append(time.process_time() - began)
    assert took[1] < 8 * took[0] + 0.3


def test_entities_are_not_expanded(read: Any) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;"><!ENTITY c SYSTEM "file:///etc/passwd">]><p>&b; &c;</p>'
    text = read("a.xhtml", bomb).sections[0].text
    assert "ha" not in text
    assert "root:" not in text
