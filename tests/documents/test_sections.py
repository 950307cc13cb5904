"""Sections: no heading lost, and text that can be tokenized and stored."""

from __future__ import annotations

from smart_retrieval.documents.sections import SectionBuilder, clean_text


def test_builder_loses_no_heading() -> None:
    builder = SectionBuilder()
    for level, title in [(2, "A"), (3, "B"), (1, "C"), (1, ""), (5, "D")]:
        builder.heading(level, title)
    assert [(part.heading, part.text) for part in builder.sections()] == [(("A",), "B"), (("C",), "D")]


def test_clean_text_removes_what_tokenizers_and_databases_refuse() -> None:
    cleaned = clean_text("a\x00b\ud800c\u2028d\u00ade\ufefff")
    assert cleaned == "ab\ufffdc\ndef"
    cleaned.encode()
    assert clean_text("plain") == "plain"


def test_what_is_too_long_for_a_heading_is_text() -> None:
    builder = SectionBuilder()
    builder.heading(1, "A")
    builder.heading(2, "word " * 400)
    builder.paragraph("under it")
    assert [(part.heading, part.text) for part in builder.sections()] == [(("A",), "word " * 399 + "word\n\nunder it")]
