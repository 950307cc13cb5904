"""Markdown: structure found, marks removed."""

from __future__ import annotations

from typing import Any

from fixtures.documents import outline


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
