"""Mails made to break a reader. Each is read through a real server, and the mailbox can be searched with it inside."""

import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.toolsets.email_kit import call, imap_config
from tests.toolsets.mail_servers import Dovecot
from toolsets.exceptions import ToolError
from toolsets.kinds.email.html import html_to_text
from toolsets.kinds.email.response import parsed
from toolsets.kinds.email.structure import structure_of
from toolsets.kinds.email.text import clean, decoded, header_text, without_transfer_encoding

HEAD = "From: eve@evil.example\nTo: anna@example.com\nSubject: hostile\nMIME-Version: 1.0\n"
LIMIT = 20.0  # seconds for any one of them, on a busy machine


def single(body: str | bytes, kind: str = "text/plain; charset=utf-8", encoding: str = "8bit") -> bytes:
    text = body.encode() if isinstance(body, str) else body
    return f"{HEAD}Content-Type: {kind}\nContent-Transfer-Encoding: {encoding}\n\n".encode() + text


def html(body: str) -> bytes:
    return single(body, "text/html; charset=utf-8")


def multi(*parts: str, subtype: str = "mixed") -> bytes:
    body = "".join(f"--B\n{part}\n" for part in parts)
    return f"{HEAD}Content-Type: multipart/{subtype}; boundary=B\n\n{body}--B--\n".encode()


def headed(**headers: str) -> bytes:
    lines = {"From": "eve@evil.example", "Subject": "hostile", **headers}
    return "".join(f"{name.replace('_', '-')}: {value}\n" for name, value in lines.items()).encode() + b"\nbody\n"


def nested(depth: int, inner: str = "Content-Type: text/plain\n\ndeep") -> bytes:
    """Multiparts within multiparts."""
    opening = "".join(f"Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n" for level in range(depth))
    return f"{HEAD}{opening}{inner}\n".encode()


def forwarded(depth: int) -> bytes:
    """Mails within mails."""
    return (HEAD + "Content-Type: message/rfc822\n\n" * depth + "\ndeep\n").encode()


def file(name: str) -> bytes:
    attachment = f"Content-Type: text/plain\nContent-Disposition: attachment; {name}\n\nx"
    return multi("Content-Type: text/plain\n\ntext", attachment)


# What is expected of the text: equal, or contained when it ends with an ellipsis; None: only that an answer comes.
HOSTILE: dict[str, tuple[bytes, str | None]] = {
    "no body": (HEAD.encode() + b"\n", ""),
    "no headers": (b"\nonly a body", "only a body"),
    "one line": (b"x", None),
    "unknown charset": (single("héllo", "text/plain; charset=klingon"), "héllo"),
    "charset that is a codec of Python": (single("abc", "text/plain; charset=rot13"), "abc"),
    "charset of quadratic time": (single("a" * 300_000, "text/plain; charset=punycode"), "aaa…"),
    "charset of escapes": (single(r"\x41\u0042", "text/plain; charset=unicode_escape"), r"\x41\u0042"),
    "charset with a path": (single("abc", 'text/plain; charset="../../os"'), "abc"),
    "charset with a NUL": (single("abc", "text/plain; charset*=utf-8''utf-8%00"), "abc"),
    "charset that lies": (single(b"caf\xe9 \xff\xfe", "text/plain; charset=utf-8"), "caf\ufffd \ufffd\ufffd"),
    "half of UTF-16": (single("/v8AYdg=", "text/plain; charset=utf-16", "base64"), "a\ufffd"),
    "base64 of rubbish": (single("!!!SGVs*bG8=====\n=@", encoding="base64"), "Hello"),
    "base64 cut short": (single("SGVsbG8gd29ybG", encoding="base64"), "Hello worl"),
    "base64 of control characters": (single("AAEbWzMxbWhpAAg=", encoding="base64"), "[31mhi"),
    "quoted-printable of rubbish": (single("a=ZZ=4=\nb=C3=A9=", encoding="quoted-printable"), "a=ZZ…"),
    "unknown transfer encoding": (single("plain", encoding="x-uuencode"), "plain"),
    "hidden marks of direction": (single("pay\u202e001\u202c \u200beve\U000e0041"), "pay001 eve"),
    "boundary that is missing": (f"{HEAD}Content-Type: multipart/mixed\n\nHello\n".encode(), None),
    "boundary that never comes": (f"{HEAD}Content-Type: multipart/mixed; boundary=Q\n\nHello\n".encode(), None),
    "multipart without an end": (f"{HEAD}Content-Type: multipart/mixed; boundary=B\n\n--B\n\nHello".encode(), "Hello"),
    "multipart of nothing": (multi(), None),
    "alternative of blanks": (multi("\n \n", "Content-Type: text/html\n\n<p>shown", subtype="alternative"), "shown"),
    "nested 15": (nested(15), "deep"),
    "nested 90": (nested(90), None),
    "nested 2000": (nested(2000), None),
    "forwarded 2000": (forwarded(2000), None),
    "5000 parts": (multi(*["Content-Type: text/plain\n\nx"] * 5000), None),
    "5000 attachments": (multi(*["Content-Type: image/png; name=x\n\nx"] * 5000), None),
    "3 MB of lines": (single("line\n" * 600_000), "line\nline…"),
    "one line of 1 MB": (single("y" * 1_000_000), "yyy…"),
    "header of 1 MB": (headed(Subject="s" * 1_000_000), "body"),
    "header of many folds": (headed(Subject="a\n " * 20_000 + "b"), "body"),
    "20,000 recipients": (headed(To=",\n ".join(f"p{number}@example.com" for number in range(20_000))), "body"),
    "brackets in brackets": (headed(From="(" * 5000 + ")" * 5000 + " eve@evil.example"), "body"),
    "quotes without end": (headed(From='"' * 999 + "\\" * 999), "body"),
    "10,000 encoded words": (headed(Subject="=?utf-8?q?a?=\n " * 10_000), "body"),
    "encoded words that are none": (headed(Subject="=?=?=?a?q?" * 300), "body"),
    "encoded line breaks": (headed(Subject="=?utf-8?q?a=0D=0ABcc:_x?="), "body"),
    "many parameters": (single("x", "text/plain; " + "; ".join(f"p{number}=v" for number in range(3000))), "x"),
    "a number without end": (file(f"filename*{'9' * 5000}*=x"), "text"),
    "file name of a path": (file('filename="../../../etc/passwd"'), "text"),
    "file name of 100 KB": (file(f'filename="{"n" * 100_000}"'), "text"),
    "file name in pieces": (file("; ".join(f"filename*{number}*=%41" for number in range(500))), "text"),
    "file name of line breaks": (file("filename*=utf-8''a%0D%0Ab%00%1b%e2%80%aec"), "text"),
    "html without end": (html("<p>a<p>b<!-- " + "c" * 100_000), "a\nb"),
    "html of open brackets": (html("<" * 400_000), None),
    "html of half tags": (html("<a" * 200_000), None),
    "html of half tags and blanks": (html("<a " * 150_000), None),
    "html of half attributes": (html('<a b="' * 80_000), None),
    "html of comments": (html("<!--" * 100_000), ""),
    "html of declarations": (html("<![" * 100_000 + "x"), None),
    "html of words unknown": (html("a<![evil[x]]>b<!evil>c<?evil?>d</1>e"), "ab…"),
    "html of ampersands": (html("&#" * 200_000 + "&lt;&amp;" * 1000), None),
    "html of depth": (html("<div>" * 90_000 + "deep"), "deep"),
    "html of ends": (html("<b>" * 50_000 + "</i>" * 50_000 + "x"), "x"),
    "html of hidden depth": (html("<div hidden>" * 20_000 + "</div>" * 19_999 + "no" + "</div>yes"), "yes"),
    "html of scripts": (html("<script>x</script>" * 20_000 + "y"), "y"),
    "html of a script without end": (html("a<script>" + "<b>" * 100_000), "a"),
    "html of a huge number": (html("&#99999999999999999999;&#xD800;&#0;x"), None),
    "html of one attribute": (html(f'<a href="{"x" * 400_000}">y</a>'), "y"),
}


@pytest.fixture
def user(near: None, dovecot: Dovecot) -> str:
    return dovecot.mailbox()


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_mail_is_survived(dovecot: Dovecot, user: str, name: str) -> None:
    raw, expected = HOSTILE[name]
    uid = dovecot.append(raw.replace(b"\n", b"\r\n"), user)
    config = imap_config(dovecot.imap, user=user)
    began = time.monotonic()
    assert [one["uid"] for one in (await call(config, "search_mail"))["mails"]] == [uid]
    try:
        read = await call(config, "read_mail", uid=uid)
    except ToolError:  # that is no fault of the server's
        read = {"text": None}
    assert time.monotonic() - began < LIMIT
    assert len(str(read)) < 60_000
    text = read["text"]
    if expected is not None and expected.endswith("…"):
        assert text.startswith(expected[:-1])
    else:
        assert expected in (None, text)
    assert clean(text or "") == (text or "")


async def read_of(dovecot: Dovecot, user: str, raw: bytes, **config: Any) -> Any:
    uid = dovecot.append(raw.replace(b"\n", b"\r\n"), user)
    return await call({**imap_config(dovecot.imap, user=user), **config}, "read_mail", uid=uid)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ('filename="../../../etc/passwd"', "_.._.._etc_passwd"),
        ("filename*=utf-8''a%0D%0Ab%00%1b%e2%80%aec", "a bc"),
        ("filename*=punycode''abc", "abc"),
        ("filename*1=b; filename*0=a", "ab"),
        ('filename="=?utf-8?b?w6QudHh0?="', "ä.txt"),
        ("filename*=''''", "''"),
        (f'filename="{"n" * 5000}"', "n" * 150),
    ],
)
async def test_the_names_of_attachments(dovecot: Dovecot, user: str, name: str, shown: str) -> None:
    (attachment,) = (await read_of(dovecot, user, file(name)))["attachments"]
    assert attachment["name"] == shown


@pytest.mark.parametrize(
    ("sender", "shown"),
    [
        ('"boss@example.com" <eve@evil.example>', "boss@example.com <eve@evil.example>"),
        ("=?utf-8?q?boss=40example.com=3E?= <eve@evil.example>", "boss@example.com <eve@evil.example>"),
        ('"Boss <boss@example.com>" <eve@evil.example>', "Boss  boss@example.com <eve@evil.example>"),
        ("=?utf-8?q?a=0D=0AReply-To=3A_x?= <eve@evil.example>", "a Reply-To: x <eve@evil.example>"),
        ("=?utf-8?q?boss=40example.com?=", "=?utf-8?q?boss=40example.com?="),
        ("=?utf-8?q?boss=40example.com?= <=?utf-8?q?x=40y?=>", "boss@example.com <=?utf-8?q?x=40y?=>"),
        ("eve@evil.example (boss@example.com)", "boss@example.com <eve@evil.example>"),
        ("\u202eelpmaxe <eve@evil.example>", "elpmaxe <eve@evil.example>"),
        ("(" * 30 + "eve@evil.example", "(" * 30 + "eve@evil.example"),
    ],
)
async def test_a_name_cannot_pose_as_the_address(dovecot: Dovecot, user: str, sender: str, shown: str) -> None:
    assert (await read_of(dovecot, user, headed(From=sender)))["from"] == shown


async def test_what_is_left_out_is_told(dovecot: Dovecot, user: str) -> None:
    read = await read_of(dovecot, user, multi(*["Content-Type: image/png; name=x\n\nx"] * 250))
    assert len(read["attachments"]) == 200
    assert read["notes"] == ["The mail has more parts than are told."]
    assert (await read_of(dovecot, user, nested(40)))["notes"] == ["The mail has more parts than are told."]


SECRET_WORDS = "do not show this"


@pytest.mark.parametrize(
    "hidden",
    [
        f"<script>{SECRET_WORDS}</script>",
        f"<style>{SECRET_WORDS}</style>",
        f"<head><title>{SECRET_WORDS}</title></head>",
        f"<!-- {SECRET_WORDS} -->",
        f"<![CDATA[{SECRET_WORDS}]]>",
        f"<div hidden>{SECRET_WORDS}</div>",
        f"<div style='display: none'>{SECRET_WORDS}</div>",
        f"<span STYLE='color:red;DISPLAY:NONE !important'><b>{SECRET_WORDS}</b></span>",
        f"<div style='visibility:hidden'><div>x</div>{SECRET_WORDS}</div>",
        f"<p style='font-size: 0px'>{SECRET_WORDS}</p>",
        f"<p style='font-size:0'>{SECRET_WORDS}</p>",
        f"<p style='opacity:0'>{SECRET_WORDS}</p>",
        f"<p style='mso-hide:all'>{SECRET_WORDS}</p>",
        f"<div style='max-height:0;overflow:hidden'>{SECRET_WORDS}</div>",
        f"<template>{SECRET_WORDS}</template>",
        f"<noscript style='display:none'>{SECRET_WORDS}</noscript>",
        f"<textarea>{SECRET_WORDS}</textarea>",
        f"<svg><text>{SECRET_WORDS}</text></svg>",
    ],
)
def test_hidden_content_is_dropped(hidden: str) -> None:
    assert html_to_text(f"<p>before</p>{hidden}<p>after</p>").split() == ["before", "after"]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("<p>One</p><p>Two</p>", "One\n\nTwo"),
        ("a<br>b<br/>c", "a\nb\nc"),
        ("<ul><li>x<li>y</ul>", "x\ny"),
        ("<table><tr><td>1</td><td>2</td></tr></table>", "1 2"),
        ("1 &lt; 2 &amp; 3 &euro;&nbsp;!", "1 < 2 & 3 € !"),
        ('<a href="https://example.com/x?y=1&amp;z">here</a>', "here <https://example.com/x?y=1&z>"),
        ('<a href="javascript:alert(1)">here</a>', "here"),
        ('<a href=" jAva\nscript:x">here</a>', "here"),
        ('<img src="https://track.example/1.gif" alt="x">text', "text"),
        ("<p style='font-size:0.9em;opacity:0.8;line-height:0'>seen</p>", "seen"),
        ("many   \n\n blanks", "many blanks"),
        ("a < b and c > d", "a < b and c > d"),
        ("AT&T", "AT&T"),
        ("end &", "end &"),
        ("", ""),
    ],
)
def test_html_as_text(source: str, text: str) -> None:
    assert html_to_text(source) == text


PIECES = [*"<>/!-[]&#;=\"' ab\n\0é", "script", "div", "hidden", "<!--", "-->", "</", "<![", "]>", "<?"]


@given(st.lists(st.sampled_from(PIECES)))
def test_no_html_is_a_fault(pieces: list[str]) -> None:
    assert isinstance(html_to_text("".join(pieces)), str)


@given(st.binary(max_size=300), st.sampled_from(["base64", "quoted-printable", "", "8bit"]), st.text(max_size=20))
def test_no_bytes_are_a_fault(data: bytes, encoding: str, charset: str) -> None:
    assert clean(decoded(without_transfer_encoding(data, encoding), charset)).isascii() in (True, False)
    assert "\n" not in header_text(data)


VALUES = st.recursive(st.none() | st.binary(max_size=20), st.lists, max_leaves=40)


@given(VALUES)
def test_no_structure_is_a_fault(value: Any) -> None:
    found = structure_of(value)
    assert len(found.attachments) <= 200


@given(st.lists(st.sampled_from([b"(", b")", b'"', b"\\", b"{3}\r\n", b"NIL", b"BODY[", b"]<0>", b" ", b"a\0"])))
def test_no_answer_is_a_fault(pieces: list[bytes]) -> None:
    with suppress(ToolError):
        assert isinstance(parsed(b"".join(pieces)), list)
