import base64
import re
from email import message_from_bytes, policy
from typing import Any

import pytest

from tests.toolsets.email_kit import call, imap_config, smtp_config, tools
from tests.toolsets.mail_servers import PASSWORD, Certificate, Dovecot, smtp_server
from toolsets.base import Risk
from toolsets.exceptions import ToolError
from toolsets.kinds.email.addresses import address, is_allowed, recipient_rule
from toolsets.kinds.email.arguments import SendMail
from toolsets.kinds.email.config import EmailConfig, SmtpServer
from toolsets.kinds.email.message import Mail, message_bytes

pytestmark = [pytest.mark.usefixtures("near"), pytest.mark.filterwarnings("ignore:Requiring AUTH")]
MAIL: dict[str, Any] = {"to": ["bob@example.com"], "subject": "Hello", "body": "Hi Bob,\n.\nbye"}


@pytest.mark.parametrize("security", ["tls", "starttls", "none"])
async def test_the_exact_bytes_of_a_sent_mail(certificate: Certificate, security: str) -> None:
    with smtp_server(security, certificate) as (port, received):
        cc = ["carol@example.com"]
        sent = await call(smtp_config(port, security), "send_mail", **MAIL, cc=cc)
    (envelope,) = received.mails
    assert (envelope.mail_from, envelope.rcpt_tos) == ("bot@example.com", ["bob@example.com", "carol@example.com"])
    assert received.signed_in == ["PLAIN"]
    date = re.search(rb"Date: (.*)\r\n", envelope.original_content)
    assert date
    assert re.fullmatch(rb"\w{3}, \d\d \w{3} 20\d\d \d\d:\d\d:\d\d \+0000", date[1])
    assert envelope.original_content == (
        b"From: Bot <bot@example.com>\r\n"
        b"To: bob@example.com\r\n"
        b"Cc: carol@example.com\r\n"
        b"Subject: Hello\r\n"
        b"Date: " + date[1] + b"\r\n"
        b"Message-ID: " + sent["message_id"].encode() + b"\r\n"
        b"MIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: base64\r\n"
        b"\r\n" + base64.b64encode(b"Hi Bob,\r\n.\r\nbye\r\n") + b"\r\n"
    )
    assert sent["accepted"] == ["bob@example.com", "carol@example.com"]
    assert sent["refused"] == {}
    assert re.fullmatch(r"<[0-9a-f-]{36}@example\.com>", sent["message_id"])


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("Grüße 🎉 " * 20, "Bötchen"),
        ("=?utf-8?q?evil=0D=0ABcc:_x=40y?=", 'A "quoted", name'),
        ("x" * 200, "Doe, Jane"),
        ("a: b; c", "=?utf-8?q?boss=40example.com?="),
    ],
)
def test_headers_read_as_they_were_meant(subject: str, name: str) -> None:
    server = SmtpServer(host="x.example", from_address="bot@bücher.example", from_name=name)
    to = [f"person{number}@example.com" for number in range(60)]
    raw = message_bytes(Mail(to, [], subject.strip(), "Zürich " * 50_000), server, "<1@x>")
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert raw.count(b"\n") == raw.count(b"\r\n") == raw.count(b"\r")
    read = message_from_bytes(raw, policy=policy.default)
    assert read["Subject"] == subject.strip()
    (sender,) = read["From"].addresses
    assert (sender.display_name, sender.addr_spec) == (name, "bot@xn--bcher-kva.example")
    assert [one.addr_spec for one in read["To"].addresses] == to
    assert read.keys() == ["From", "To", "Subject", "Date", "Message-ID", *read.keys()[-3:]]
    assert read.get_content() == "Zürich " * 50_000 + "\r\n"


INJECTIONS = [
    *(f"Hello{broken}Bcc: eve@evil.example" for broken in ("\r\n", "\n", "\r", "\0", "\r\n\r\n", "\n ", "\r\n\t")),
    *(f"Hello{broken}Bcc: x" for broken in ("\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")),
    *(f"Hello{hidden}" for hidden in ("\x7f", "\x1b[31m", "\u202e", "\u200b", "\u2066", "\x08")),
]
NO_ADDRESSES = [
    *(
        f"bob@example.com{broken}Bcc: eve@evil.example"
        for broken in ("\r\n", "\n", "\r", "\0", "\r\nRCPT TO:<e@e>\r\n")
    ),
    "bob@example.com, eve@evil.example",
    "bob@example.com; eve@evil.example",
    "bob@example.com eve@evil.example",
    "Bob <bob@example.com>",
    "<bob@example.com>",
    "friends: bob@example.com, eve@evil.example;",
    "=?utf-8?q?eve=40evil.example=3E=2C?=@example.com",
    "=?utf-8?q?bob?=@evil.example,x@example.com",
    '"bob@evil.example "@example.com',
    '"eve\\" <eve@evil.example>, "@example.com',
    "eve@evil.example@example.com",
    "eve%evil.example@example.com",
    "evil.example!eve@example.com",
    "|/bin/sh@example.com",
    "`id`@example.com",
    "@evil.example:bob@example.com",
    "bob(comment)@example.com",
    "bob@(evil.example)example.com",
    "bob@example.com>",
    "bob@example.com> SIZE=1",
    "bob@[127.0.0.1]",
    "bob@example..com",
    "bob@.example.com",
    "bob@example.com.",
    "bob@-example.com",
    "bob@exa_mple.com",
    "bob@ｅxample.com",
    "bob@example。com",
    "bob@exa\u200bmple.com",
    "böb@example.com",
    ".bob@example.com",
    "bob..x@example.com",
    "bob@",
    "@example.com",
    "*@example.com\n",
    "bob",
    "",
    " bob@example.com",
    "bob@example.com\u2028",
    f"{'x' * 65}@example.com",
    f"bob@{'x' * 64}.com",
]


@pytest.mark.parametrize(
    ("field", "text"),
    [
        *(("subject", text) for text in INJECTIONS),
        *((field, text) for field in ("to", "cc") for text in (*INJECTIONS, *NO_ADDRESSES)),
    ],
    ids=ascii,
)
def test_nothing_is_injected_into_a_header(field: str, text: str) -> None:
    with pytest.raises(ValueError):
        SendMail.model_validate({**MAIL, field: text if field == "subject" else [text]})
    assert SendMail.model_validate(MAIL)


@pytest.mark.parametrize("text", INJECTIONS, ids=ascii)
def test_nothing_is_injected_by_the_config(text: str) -> None:
    for field in ("from_name", "from_address", "user", "host"):
        with pytest.raises(ValueError):
            SmtpServer.model_validate({"host": "x.example", "from_address": "bot@example.com", field: text})


@pytest.mark.parametrize("character", ["\0", "\x1b", "\x08", "\x85"])
def test_a_body_holds_no_control_characters(character: str) -> None:
    with pytest.raises(ValueError, match="control characters"):
        SendMail.model_validate({**MAIL, "body": f"a{character}b"})


@pytest.mark.parametrize(
    ("recipient", "allowed"),
    [
        ("bob@example.com", True),
        ("bob@EXAMPLE.com", True),
        ("carol@example.com", False),
        ("Bob@example.com", False),
        ("anyone@shop.example", True),
        ("anyone@Shop.Example", True),
        ("anyone@sub.shop.example", False),
        ("anyone@evilshop.example", False),
        ("anyone@shop.example.evil", False),
        ("x@bücher.example", True),
        ("x@BÜCHER.example", True),
        ("x@xn--bcher-kva.example", True),
        ("x@bucher.example", False),
        ("x@büchеr.example", False),  # a Cyrillic е
        ("x@fass.example", False),  # ß is no ss
    ],
)
def test_who_may_be_written_to(recipient: str, allowed: bool) -> None:
    rules = ["bob@Example.COM", "*@shop.example", "*@Bücher.example", "*@faß.example"]
    assert is_allowed(address(recipient), [recipient_rule(rule) for rule in rules]) is allowed


@pytest.mark.parametrize(
    ("recipients", "more", "words"),
    [
        ([], {}, "Not among the allowed recipients of this toolset: bob@example.com"),
        (["*@other.example"], {}, "Not among the allowed"),
        (
            ["bob@example.com"],
            {"cc": ["eve@evil.example"]},
            "Not among the allowed recipients of this toolset: eve@evil",
        ),
        (["*@example.com"], {"cc": ["a@example.com", "b@example.com"]}, "At most 2 recipients"),
        (["*@example.com"], {"body": "ü" * 600}, "exceeds 1 KB"),
        (["*@example.com"], {"reply_to_uid": 5}, "reads no mail"),
    ],
)
async def test_what_is_refused_before_any_connection(
    certificate: Certificate, recipients: list[str], more: dict[str, Any], words: str
) -> None:
    with smtp_server("none", certificate) as (port, received):
        limits = {"recipients": recipients, "max_recipients": 2, "max_body_kb": 1}
        with pytest.raises(ToolError, match=words):
            await call(smtp_config(port, **limits), "send_mail", **{**MAIL, **more})
    assert (received.mails, received.signed_in) == ([], [])


async def test_a_refused_recipient_is_told_and_the_others_get_the_mail(certificate: Certificate) -> None:
    with smtp_server("none", certificate) as (port, received):
        to = ["no-one@example.com", "bob@example.com"]
        sent = await call(smtp_config(port), "send_mail", **{**MAIL, "to": to})
        assert sent["refused"] == {"no-one@example.com": "550 5.1.1"}
        assert sent["accepted"] == received.mails[0].rcpt_tos == ["bob@example.com"]
        with pytest.raises(ToolError, match=r"refused every recipient: no-one@example.com \(550 5.1.1\)") as raised:
            await call(smtp_config(port), "send_mail", **{**MAIL, "to": to[:1]})
    assert "Ignore" not in str(raised.value)
    assert len(received.mails) == 1


async def test_a_mail_that_is_refused_was_not_sent(certificate: Certificate) -> None:
    with smtp_server("none", certificate) as (port, received):
        received.data_answer = "552 5.3.4 Too big, password is hunter2"
        with pytest.raises(ToolError, match=r"did not accept the mail; its code: 552 5\.3\.4\. Not sent\."):
            await call(smtp_config(port), "send_mail", **MAIL)


@pytest.mark.parametrize("exclude", [["PLAIN"], ["LOGIN"], ["PLAIN", "LOGIN"]])
async def test_ways_to_sign_in(certificate: Certificate, exclude: list[str]) -> None:
    with smtp_server("tls", certificate, auth_exclude_mechanism=exclude) as (port, received):
        if len(exclude) == 2:
            with pytest.raises(ToolError, match="offers no sign-in by PLAIN or LOGIN"):
                await call(smtp_config(port, "tls"), "send_mail", **MAIL)
        else:
            await call(smtp_config(port, "tls"), "send_mail", **MAIL)
            assert {*received.signed_in, *exclude} == {"PLAIN", "LOGIN"}


async def test_a_wrong_password_is_told_and_not_shown(certificate: Certificate, caplog: Any) -> None:
    with smtp_server("starttls", certificate) as (port, received):
        for secrets, words in (
            ({"smtp_password": "hunter2"}, r"refused the user name or the password \(secret smtp_password\)"),
            ({}, "secret smtp_password of this toolset is not set"),
            ({"smtp_password": "hunter2\n"}, "holds a line break"),
        ):
            with pytest.raises(ToolError, match=words) as raised:
                await call(smtp_config(port, "starttls"), "send_mail", secrets=secrets, **MAIL)
            assert "hunter2" not in str(raised.value)
    assert received.mails == []
    assert "hunter2" not in caplog.text
    assert base64.b64encode(b"\0anna\0hunter2").decode() not in caplog.text


async def test_a_server_without_a_user_needs_no_password(certificate: Certificate) -> None:
    with smtp_server("none", certificate, auth_required=False) as (port, received):
        config = smtp_config(port)
        config["smtp"]["user"] = None
        await call(config, "send_mail", secrets={}, **MAIL)
    assert len(received.mails) == 1


async def test_a_reply_names_the_mail_that_it_answers(certificate: Certificate, dovecot: Dovecot) -> None:
    user = dovecot.mailbox()
    threads = {
        "Message-ID: <3@x>\r\nReferences: <1@x>\r\n <2@x>": b"References: <1@x>\r\n <2@x>\r\n <3@x>\r\n",
        "Message-ID: <3@x>": b"In-Reply-To: <3@x>\r\nReferences: <3@x>\r\n",
        "Message-ID: <3@x>\r\nReferences: <a\r\n Bcc: eve@evil.example> <ok@x>": b"References: <ok@x>\r\n <3@x>\r\n",
    }
    with smtp_server("none", certificate) as (port, received):
        config = {**smtp_config(port), **imap_config(dovecot.imap, user=user)}
        for headers, expected in threads.items():
            uid = dovecot.append(f"From: bob@example.com\r\n{headers}\r\n\r\nHi\r\n".encode(), user)
            await call(config, "send_mail", **MAIL, reply_to_uid=uid)
            assert expected in received.mails[-1].original_content
            assert b"Bcc" not in received.mails[-1].original_content
        nameless = dovecot.append(b"From: bob@example.com\r\nMessage-ID: <a b@x>\r\n\r\nHi\r\n", user)
        for bad, words in ((nameless, "no usable Message-ID"), (999, "no mail with uid 999")):
            with pytest.raises(ToolError, match=words):
                await call(config, "send_mail", **MAIL, reply_to_uid=bad)
        with pytest.raises(ToolError, match="Not among"):
            await call(config, "send_mail", **{**MAIL, "to": ["eve@evil.example"]}, reply_to_uid=uid)
    assert len(received.mails) == len(threads)


def test_the_tools_say_what_they_do() -> None:
    both = tools({**smtp_config(25), **imap_config(143)})
    assert list(both) == ["search_mail", "read_mail", "read_attachment_text", "send_mail"]
    assert {tool.risk for tool in both.values()} == {Risk.EGRESS}
    send = both.pop("send_mail")
    assert (send.parallel, send.approval) == (False, True)
    assert all(tool.untrusted and tool.parallel and not tool.approval for tool in both.values())
    assert list(tools(smtp_config(25))) == ["send_mail"]
    assert "send_mail" not in tools(imap_config(143))
    assert "from" in both["search_mail"].parameters()["properties"]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"imap": None, "smtp": None},
        {"smtp": {"host": "x", "from_address": "bot@example.com"}, "recipients": ["bob"]},
        {"smtp": {"host": "x", "from_address": "bot@example.com"}, "recipients": ["*"]},
        {"smtp": {"host": "x", "from_address": "bot@example.com"}, "recipients": ["*@*.example"]},
        {"smtp": {"host": "x", "from_address": "bot@example.com", "port": 0}},
        {"smtp": {"host": "x", "from_address": "Bot <bot@example.com>"}},
        {"imap": {"host": "x", "user": ""}},
        {"imap": {"host": "http://x/", "user": "u"}},
        {"imap": {"host": "①②⑦.0.0.1", "user": "u"}},
        {"imap": {"host": "x", "user": "u", "security": "ssl"}},
        {"imap": {"host": "x", "user": "u", "folder": "a\r\nb"}},
        {"imap": {"host": "x", "user": "u", "password": PASSWORD}},
    ],
)
def test_a_config_that_cannot_work_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        EmailConfig.model_validate(config)
