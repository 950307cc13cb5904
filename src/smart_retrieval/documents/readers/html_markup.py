"""HTML reduced to the few tags that make up its structure, in linear time, before a tree is built of it.

A tree builder that follows the standard takes time, and for unclosed inline marks memory, that grows with the square of
the depth: 60 kB of ``<div>`` cost seconds, 27 kB of ``<b id=1><p>`` 700 MB. So inline marks, attributes and all that is
never text go first, and what nests deeper than any page is flattened. It is also where XHTML is understood: to HTML
``<script/>`` and ``<title/>`` are left open and swallow the page.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from html import unescape

from ..sections import one_line

#: The class of parts that are text only where a page has no other.
ASIDE = "aside"

_DEEPEST = 200  # browsers stop at 512
_SAID = frozenset({"description", "author", "keywords"})
_LONGEST = 1_000  # characters of what the head says, which is kept with every passage
_BLOCKS = frozenset(
    """address article aside blockquote center details dialog div fieldset figcaption figure footer form header hgroup
    legend main nav noframes noscript section select summary template textarea""".split()  # noqa: SIM905
)
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_CLOSED_BY_OTHERS = frozenset({"p", "tr", "td", "th"})  # so they nest only in what is counted
_LISTS = frozenset({"ul", "ol", "dl", "menu", "dir"})
_ITEMS = {"li": {"li"}, "dt": {"dt", "dd"}, "dd": {"dt", "dd"}}  # and the ones before that they close
_KEPT = _HEADINGS | _CLOSED_BY_OTHERS | _ITEMS.keys() | {"ul", "ol", "dl", "table", "caption", "pre"}
_TAGS = {**dict.fromkeys(_BLOCKS, "div"), **{name: name for name in _KEPT}, "menu": "ul", "dir": "ul", "xmp": "pre"}
_BREAKS = {"br": "<br>", "hr": "<hr>", **dict.fromkeys(("option", "button", "text", "foreignobject"), "<br>")}
_ASIDE = frozenset({"nav", "noscript", "noframes", "template", "select", "textarea"})
# What stands in them is not markup.
_RAW = frozenset({"script", "style", "title", "textarea", "iframe", "noembed", "xmp", "annotation", "annotation-xml"})

_MARK = re.compile(r"<(?:[!?]|/?[a-zA-Z])")
_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]*+)((?:[^>=]++|=\s*+(?:\"[^\"]*+\"|'[^']*+')|=)*+)>")
_TAG_WITHOUT_QUOTES = re.compile(r"<(/?)([a-zA-Z][^\s/>]*+)([^>]*+)>")
_ATTRIBUTE = re.compile(r"([^\s/>=\"']+)(?:\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>\"']+)))?")
_EMPTY = re.compile(r"(?:^|[\s\"'])/\s*$")
_PERMALINK = re.compile(r"[^<]{0,20}</a\s*>", re.IGNORECASE)


class Markup:
    """A page's structure as markup of few tags, and what its head says."""

    def __init__(self, markup: str) -> None:
        self.said: dict[str, str] = {}
        self._markup = markup
        self._xhtml = markup.lstrip().startswith("<?xml") or "xhtml" in markup[:1000].lower()
        self._last = markup.rfind(">") + 1  # after it no tag can end
        self._parts: list[str] = []
        self._open: list[str] = []  # as they were called
        self._unfinished: set[str] = set()  # what nothing closes any more, so that it is looked for only once
        self._drawings = 0  # <svg> that are open
        self.body = self._reduced()

    def _reduced(self) -> str:
        markup, position = self._markup, 0
        while match := _MARK.search(markup, position, self._last):
            self._text(markup[position : match.start()])
            position = self._mark(match.start())
        self._text(markup[position:])
        return "".join(self._parts)

    def _text(self, text: str) -> None:
        if text:
            self._parts.append(text.replace("<", "&lt;"))

    def _mark(self, start: int) -> int:
        """Reduce the comment, declaration or tag that begins here; where it ends."""
        markup = self._markup
        if markup.startswith("<!--", start):
            end = self._find("-->", start + 2)
            if end < 0:  # to a browser the rest of the page is gone
                self._parts.append("&lt;!--")
            return end + 3 if end >= 0 else start + 4
        if markup.startswith("<![CDATA[", start) and (end := self._find("]]>", start)) >= 0:
            self._parts.append(markup[start + 9 : end].replace("&", "&amp;").replace("<", "&lt;"))
            return end + 3
        if markup[start + 1] in "!?":
            return markup.find(">", start) + 1
        tag = None if "quotes" in self._unfinished else _TAG.match(markup, start, self._last)
        if tag is None:
            self._unfinished.add("quotes")
            tag = _TAG_WITHOUT_QUOTES.match(markup, start, self._last)
        if tag is None:
            return self._last
        name = tag[2].lower()
        if tag[1]:
            self._end(name)
            return tag.end()
        empty = bool(_EMPTY.search(tag[3]))
        if name in _RAW and not empty:
            return self._raw(name, tag.end())
        self._start(name, tag[3], empty)
        if name == "a" and "headerlink" in tag[3] and (link := _PERMALINK.match(markup, tag.end())):
            return link.end()
        return tag.end()

    def _find(self, what: str, start: int) -> int:
        end = -1 if what in self._unfinished else self._markup.find(what, start, self._last)
        if end < 0:
            self._unfinished.add(what)
        return end

    def _raw(self, name: str, start: int) -> int:
        """Skip or keep what an element holds that is not markup; where the element ends."""
        close = None
        if name not in self._unfinished:
            close = re.compile(rf"</{name}(?=[\s/>])[^>]*>", re.IGNORECASE).search(self._markup, start, self._last)
        if close is None:
            self._unfinished.add(name)
            return len(self._markup) if name in {"script", "style"} else start
        text = self._markup[start : close.start()]
        if name == "title" and not self._drawings:
            self._say("title", unescape(text))
        elif name in {"textarea", "xmp"}:
            self._start(name, "", False)
            self._text(text)
            self._end(name)
        return close.end()

    def _start(self, name: str, attributes: str, empty: bool) -> None:
        if name == "svg":
            self._drawings += not empty
        elif name in _BREAKS:
            self._parts.append(_BREAKS[name])
        elif name in {"img", "html", "meta"}:
            self._about(name, {key.lower(): unescape("".join(rest)) for key, *rest in _ATTRIBUTE.findall(attributes)})
        elif name in _CLOSED_BY_OTHERS:
            if name in {"tr", "td", "th"} and "table" in self._open:
                self._close_above("table")
            self._parts.append(f"<{name}>")
        elif name in _TAGS:
            if name in _ITEMS:
                self._close_innermost(_ITEMS[name], within=_LISTS)
            if len(self._open) == _DEEPEST:
                self._parts.append("<br>")
                return
            aside = name in _ASIDE or re.search(r"\brole\s*=\s*[\"']?navigation", attributes, re.IGNORECASE)
            self._open.append(name)
            self._parts.append(f"<{_TAGS[name]} class={ASIDE}>" if aside else f"<{_TAGS[name]}>")
            if empty and self._xhtml:
                self._end(name)

    def _about(self, name: str, attributes: dict[str, str]) -> None:
        if name == "img":
            self._text(f" {one_line(attributes.get('alt', '')).replace('&', '&amp;')} ")
        elif name == "html":
            self._say("language", attributes.get("lang") or attributes.get("xml:lang") or "")
        elif (said := attributes.get("name", "").lower()) in _SAID:
            self._say(said, attributes.get("content", ""))

    def _say(self, name: str, text: str) -> None:
        if (value := one_line(text)[:_LONGEST]) and name not in self.said:
            self.said[name] = value

    def _end(self, name: str) -> None:
        if name == "svg":
            self._drawings = max(0, self._drawings - 1)
        elif name in _BREAKS:
            self._parts.append("<br>")
        elif name in _CLOSED_BY_OTHERS:
            self._parts.append(f"</{name}>")
        elif name in _HEADINGS:  # any of them closes any other
            self._close_innermost(_HEADINGS)
        elif name in _TAGS:
            self._close_innermost({name}, within=_LISTS if name in _ITEMS else frozenset())

    def _close_innermost(self, names: Collection[str], within: frozenset[str] = frozenset()) -> None:
        """Close the innermost of these with what is open in it; from a cell nothing outside its table is closed."""
        for name in reversed(self._open):
            if name in names:
                self._close_above(name)
                self._close()
            if name in names or name in within or name == "table":
                return

    def _close_above(self, name: str) -> None:
        while self._open[-1] != name:
            self._close()

    def _close(self) -> None:
        self._parts.append(f"</{_TAGS[self._open.pop()]}>")
