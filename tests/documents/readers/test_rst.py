"""reStructuredText: structure found, markup removed, nothing included."""

from __future__ import annotations

from typing import Any

import pytest

from smart_retrieval.documents.readers.rst import plain_inline


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


def test_substitutions_do_not_multiply_a_file(read: Any) -> None:
    document = read(
        "a.rst", ".. |a| replace:: " + "x" * 30_000 + "\n.. |b| replace:: Bee\n\n|b| " + "|a| " * 15_000 + "\n"
    )
    assert document.sections[0].text.startswith("Bee xxx")
    assert sum(len(section.text) for section in document.sections) < 300_000
    assert document.notes[0].startswith("substitutions not expanded: 14,99")
    assert read("b.rst", ".. |a| replace:: Ay\n\n" + "|a| " * 9_000).notes == []
