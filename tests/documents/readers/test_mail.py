"""E-mail: messages with all they may hold, mailboxes, and what is broken."""

from __future__ import annotations

from contextlib import suppress
from email.message import EmailMessage
from typing import Any

import pytest
from fixtures.documents import outline, written
from hypothesis import given, settings
from hypothesis import strategies as st

from smart_retrieval.documents.read import read_file
from smart_retrieval.documents.readers.mail import NOT_READ, TOO_DEEP
from smart_retrieval.files import UnreadableFileError


def message(subject: str = "Füße", text: str = "Prime the pump.\n\nSoon.", **headers: str) -> EmailMessage:
    made = EmailMessage()
    made["Subject"], made["From"], made["To"] = subject, "Ann <ann@example.org>", "b@example.org, Cé <c@example.org>"
    made["Date"] = "Thu, 26 Nov 2026 14:00:00 +0100"
    for name, value in headers.items():
        made[name] = value
    made.set_content(text)
    return made


def test_a_message_with_alternatives_attachments_and_a_forwarded_one(read: Any) -> None:
    outer = message()
    outer.add_alternative("<p>In <b>HTML</b>.</p>", subtype="html")
    outer.add_attachment(b"\0", maintype="image", subtype="png", filename="pumpe-ä.png")
    outer.add_attachment("not the message's text", filename="notes.txt")
    outer.add_attachment(message("Inner", "forwarded text"))
    found = read("a.eml", outer.as_bytes())
    assert outline(found) == [
        (("Füße",), "Prime the pump.\n\nSoon.\n\nAttachments: pumpe-ä.png, notes.txt"),
        (("Inner",), "forwarded text"),
    ]
    assert found.metadata == {
        "subject": "Füße",
        "from": "Ann <ann@example.org>",
        "to": ["b@example.org", "Cé <c@example.org>"],
        "date": "2026-11-26T14:00:00+01:00",
        "attachments": ["pumpe-ä.png", "notes.txt"],
    }


def test_a_page_as_the_only_body(read: Any) -> None:
    page = message()
    page.set_content("<h1>News</h1><p>Prime &lt;it&gt;.</p><script>bad()</script>", subtype="html")
    assert outline(read("a.eml", page.as_bytes())) == [(("Füße", "News"), "Prime <it>.")]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"Subject: a\nContent-Type: text/plain; charset=nonsense\n\ncaf\xc3\xa9", "café"),
        (b"Subject: a\nContent-Type: text/plain\n\ncaf\xe9", "café"),
        (
            b"Subject: a\nContent-Type: text/plain; charset=latin-1\nContent-Transfer-Encoding: base64\n\nY2Fm6Q==",
            "café",
        ),
        (b"Subject: a\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\n!!!", ""),
        (b"Subject: a\nContent-Type: multipart/mixed\n\nno parts", ""),
        (b"Subject: =?utf-8?b?gg==?= =?x?q?a?=\nDate: never\nFrom: <<<\n\ntext", "text"),
    ],
)
def test_odd_messages_are_read_as_far_as_they_go(read: Any, raw: bytes, text: str) -> None:
    assert text in "\n".join(section.text for section in read("a.eml", raw).sections)


def test_no_message_at_all(tmp_path: Any) -> None:
    for data in (b"\n", b"\n\nno headers", b"\0\0"):
        with pytest.raises(UnreadableFileError, match="not a readable e-mail"):
            read_file(written(tmp_path, "a.eml", data))


def test_a_mailbox_is_a_record_for_each_message(tmp_path: Any, read: Any) -> None:
    one, two = message("One", "First.\n\n>From here on."), message("Two", "Second.\nFrom the middle.")
    box = b"From ann Thu Nov\n" + one.as_bytes() + b"\nFrom bob From Fri\n" + two.as_bytes()
    found = read("a.mbox", box)
    assert [(section.key, section.heading, section.text) for section in found.sections] == [
        ("1", ("One",), "First.\n\nFrom here on."),
        ("2", ("Two",), "Second.\nFrom the middle."),
    ]
    assert [section.metadata["subject"] for section in found.sections] == ["One", "Two"]
    assert read("b.mbox", b"").sections == []
    with pytest.raises(UnreadableFileError, match="mailbox"):
        read_file(written(tmp_path, "c.mbox", b"no mailbox"))


def test_messages_nested_without_end_cost_that_file_only(tmp_path: Any) -> None:
    deep = b"Subject: a\n" + b"Content-Type: message/rfc822\n\n" * 3000 + b"Subject: b\n\ntext"
    try:
        found = read_file(written(tmp_path, "a.eml", deep))
    except UnreadableFileError:
        return
    assert len(found.sections) <= 6


@settings(max_examples=100)
@given(
    st.binary(max_size=200),
    st.sampled_from([b"Subject: a\n", b"Content-Type: multipart/mixed; boundary=b\n\n--b\n", b"From a\n"]),
)
def test_any_bytes_are_read_or_named(data: bytes, head: bytes) -> None:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.eml", "a.mbox"):
            with suppress(UnreadableFileError):
                read_file(written(Path(folder), name, head + data))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_no_headers(read: Any, encoding: str) -> None:
    mail = "Subject: Tide\n\nRises at noon."
    for name, text in (("a.eml", mail), ("a.mbox", f"From x\n{mail}")):
        assert [(one.heading, one.text) for one in read(name, text.encode(encoding)).sections] == [
            (("Tide",), "Rises at noon.")
        ]


def test_attachments_that_are_not_read_are_named(read: Any) -> None:
    message = EmailMessage()
    message["Subject"] = "Tide"
    message.set_content("See them.")
    for name, kind in (("a.pdf", "application"), ("b.png", "image"), ("c.JPG", "application")):
        message.add_attachment(b"x", maintype=kind, subtype="x", filename=name)
    found = read("a.mbox", b"From x\n" + bytes(message)).left_out
    assert [detail for reason, detail in found if reason == NOT_READ] == ["a.pdf"]


def test_what_is_guessed_cut_off_or_left_out_is_said(read: Any) -> None:
    cut = message()
    cut.add_attachment("walnut", filename="notes.txt")
    nameless = message()
    nameless.add_attachment(b"%PDF-1.7", maintype="application", subtype="pdf")
    for raw, notes, left_out in (
        (
            b"Subject: a\nContent-Type: text/plain; charset=us-ascii\n\nGr\xc3\xb6\xc3\x9fe",
            ["encoding guessed: utf-8, though us-ascii is declared"],
            [],
        ),
        (
            "Subject: a\nContent-Type: text/plain\n\nДобрый день, насос открыт".encode("cp1251"),
            ["encoding guessed: cp1251"],
            [],
        ),
        (
            b"Subject: a\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\n" + b"AAAA" * 9,
            ["part of a message not read: binary, not text"],
            [],
        ),
        (
            cut.as_bytes()[:-20],
            ["message cut off: it ends before its last part does"],
            [(NOT_READ, "notes.txt")],
        ),
        (nameless.as_bytes(), [], [(NOT_READ, "one without a name, application/pdf")]),
        (message().as_bytes(), [], []),
    ):
        found = read("a.eml", raw)
        assert (found.notes, found.left_out) == (notes, left_out)
        mailbox = read("a.mbox", b"From a\n" + raw + b"\n\nFrom b\n" + raw)
        assert (mailbox.notes, mailbox.left_out) == (notes, left_out * 2)


def test_messages_forwarded_many_times(read: Any) -> None:
    inner = message("Innermost", "lychee")
    for level in range(21):
        outer = message(f"Level {level}")
        outer.add_attachment(inner)
        inner = outer
    found = read("a.eml", inner.as_bytes())
    assert [section.heading[0] for section in found.sections] == [f"Level {level}" for level in range(20, -1, -1)]
    assert found.left_out == [(TOO_DEEP, "Innermost")]
    assert found.left_out[0][0] == "messages forwarded in more than 20 others"


def test_a_page_in_a_message_names_its_own_encoding(read: Any) -> None:
    page = '<meta charset="windows-1253"><p>Αντλία και βαλβίδα'.encode("windows-1253")
    found = read("a.eml", b"Subject: a\nContent-Type: text/html\nContent-Transfer-Encoding: 8bit\n\n" + page)
    assert [section.text for section in found.sections] == ["Αντλία και βαλβίδα"]
    assert found.notes == []
