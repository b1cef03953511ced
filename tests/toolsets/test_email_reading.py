from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest

from tests.toolsets.email_kit import call, imap_config
from tests.toolsets.mail_servers import PASSWORD, Dovecot
from toolsets.exceptions import ToolError

pytestmark = pytest.mark.usefixtures("near")
Deliver = Callable[..., int]
UTF8 = "Content-Type: text/plain; charset=utf-8\n"


@pytest.fixture
def user(dovecot: Dovecot) -> str:
    return dovecot.mailbox()


@pytest.fixture
def config(dovecot: Dovecot, user: str) -> dict[str, Any]:
    return imap_config(dovecot.imap, user=user)


@pytest.fixture
def deliver(dovecot: Dovecot, user: str) -> Deliver:
    def put(raw: str | bytes, **more: Any) -> int:
        data = raw.encode() if isinstance(raw, str) else raw
        return dovecot.append(data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), user, **more)

    return put


def mail(subject: str = "Hello", body: str = "Hi there.", sender: str = "Bob <bob@example.com>") -> str:
    return f"From: {sender}\nTo: anna@example.com\nSubject: {subject}\nMessage-ID: <1@example.com>\n\n{body}\n"


@pytest.mark.parametrize("security", ["tls", "starttls", "none"])
async def test_a_mail_is_found_and_read(dovecot: Dovecot, user: str, deliver: Deliver, security: str) -> None:
    uid = deliver(mail())
    config = imap_config(dovecot.imaps if security == "tls" else dovecot.imap, security, user)
    (found,) = (await call(config, "search_mail"))["mails"]
    assert (found["uid"], found["from"], found["subject"]) == (uid, "Bob <bob@example.com>", "Hello")
    assert found["unread"] is True
    assert found["date"].startswith(str(date.today().year))
    read = await call(config, "read_mail", uid=uid)
    assert (read["text"], read["total_chars"], read["attachments"]) == ("Hi there.", 9, [])
    assert (read["to"], read["message_id"]) == ("anna@example.com", "<1@example.com>")
    assert found["size"] == read["size"] > 100


async def test_reading_changes_no_flag(dovecot: Dovecot, user: str, config: dict, deliver: Deliver) -> None:
    uid = deliver(mail())
    before = dovecot.flags(user)
    await call(config, "search_mail")
    await call(config, "read_mail", uid=uid)
    assert dovecot.flags(user) == before
    assert b"\\Seen" not in before[0]


async def test_search_narrows(config: dict, deliver: Deliver) -> None:
    offer = deliver(mail("Offer", "about apples", "Carol <carol@shop.example>"), flags="\\Seen")
    umlaut = deliver(UTF8 + mail("=?utf-8?q?=C3=84pfel?=", "Grüße aus Köln"))
    trick = deliver(mail('say "no" \\ {5}'))
    expected: list[tuple[dict[str, Any], list[int]]] = [
        ({}, [trick, umlaut, offer]),
        ({"subject": "offer"}, [offer]),
        ({"sender": "carol"}, [offer]),
        ({"to": "anna"}, [trick, umlaut, offer]),
        ({"text": "apples", "subject": "Offer"}, [offer]),
        ({"subject": "Äpfel"}, [umlaut]),
        ({"subject": "Äpfel", "text": "Köln", "sender": "bob"}, [umlaut]),
        ({"subject": "Äpfel", "text": "Zürich"}, []),
        ({"subject": 'say "no" \\ {5}'}, [trick]),
        ({"subject": '") ALL ('}, []),
        ({"unread": True}, [trick, umlaut]),
        ({"unread": False}, [offer]),
        ({"since": str(date.today() - timedelta(days=1))}, [trick, umlaut, offer]),
        ({"before": str(date.today() - timedelta(days=1))}, []),
        ({"limit": 1}, [trick]),
    ]
    for arguments, uids in expected:
        found = await call(config, "search_mail", **arguments)
        assert [one["uid"] for one in found["mails"]] == uids, arguments
    assert "max_messages" in (await call(config, "search_mail", limit=1))["more"]


async def test_an_empty_folder_has_no_mails(config: dict) -> None:
    assert (await call(config, "search_mail"))["mails"] == []
    with pytest.raises(ToolError, match="no mail with uid 7"):
        await call(config, "read_mail", uid=7)


@pytest.mark.parametrize("folder", ["Entwürfe & mehr", 'odd "name" \\ x', "a b"])
async def test_a_folder_of_any_name(dovecot: Dovecot, user: str, deliver: Deliver, folder: str) -> None:
    names = {"Entwürfe & mehr": "Entw&APw-rfe &- mehr"}
    quoted = names.get(folder, folder).replace("\\", "\\\\").replace('"', '\\"')
    uid = deliver(mail("Draft"), folder=f'"{quoted}"')
    config = imap_config(dovecot.imap, user=user, folder=folder)
    assert [one["uid"] for one in (await call(config, "search_mail"))["mails"]] == [uid]


async def test_an_unknown_folder_is_told(dovecot: Dovecot, user: str) -> None:
    with pytest.raises(ToolError, match="folder 'Nowhere' could not be opened"):
        await call(imap_config(dovecot.imap, user=user, folder="Nowhere"), "search_mail")


MULTIPART = """From: bob@example.com
To: anna@example.com, "Doe, Jane" <jane@example.com>
Cc: carol@example.com
Subject: Report
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=OUT

--OUT
Content-Type: multipart/alternative; boundary=IN

--IN
Content-Type: text/html; charset=utf-8

<p>As <b>HTML</b></p>
--IN
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

As text, caf=E9
--IN--
--OUT
Content-Type: text/csv; name="figures.csv"
Content-Disposition: attachment; filename="figures.csv"
Content-Transfer-Encoding: base64

YSxiCjEsMgo=
--OUT
Content-Type: application/pdf
Content-Disposition: attachment; filename*0*=utf-8''%e2%82%ac%20; filename*1="bill.pdf"
Content-Transfer-Encoding: base64

JVBERi0xLjQK
--OUT--
"""


async def test_text_and_attachments_of_a_mail(config: dict, deliver: Deliver) -> None:
    uid = deliver(MULTIPART)
    read = await call(config, "read_mail", uid=uid)
    assert read["text"] == "As text, café"
    assert read["to"] == "anna@example.com, Doe  Jane <jane@example.com>"
    listed = [(one["index"], one["name"], one["type"]) for one in read["attachments"]]
    assert listed == [(1, "figures.csv", "text/csv"), (2, "€ bill.pdf", "application/pdf")]
    text = await call(config, "read_attachment_text", uid=uid, index=1)
    assert (text["text"], text["name"], text["total_chars"]) == ("a,b\n1,2\n", "figures.csv", 8)
    with pytest.raises(ToolError, match="application/pdf; only text"):
        await call(config, "read_attachment_text", uid=uid, index=2)
    with pytest.raises(ToolError, match="none with index 3"):
        await call(config, "read_attachment_text", uid=uid, index=3)


async def test_a_long_text_is_read_in_pages(config: dict, deliver: Deliver) -> None:
    body = "".join(f"line {number}\n" for number in range(1000))
    uid = deliver(mail(body=body))
    pages, start = [], 0
    while start is not None:
        page = await call(config, "read_mail", uid=uid, start=start, max_chars=3000)
        pages.append(page["text"])
        start = page.get("next_start")
    assert "".join(pages) == body.strip()
    assert len(pages) == 3
    assert (await call(config, "read_mail", uid=uid, start=10**9))["text"] == ""


async def test_what_is_fetched_of_a_large_mail_is_bounded(config: dict, deliver: Deliver, dovecot: Dovecot) -> None:
    uid = deliver(mail(body="x" * 70 + "\n" + ("y" * 70 + "\n") * 50_000))
    read = await call({**config, "max_text_kb": 200}, "read_mail", uid=uid, max_chars=100)
    assert read["size"] > 3_000_000
    assert 190 * 1024 < read["total_chars"] <= 200 * 1024
    assert "max_text_kb" in read["notes"][0]


async def test_a_wrong_password_is_told_and_not_shown(dovecot: Dovecot, config: dict) -> None:
    with pytest.raises(ToolError, match=r"refused the user name or the password \(secret imap_password\)") as raised:
        await call(config, "search_mail", secrets={"imap_password": "hunter2"})
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("secrets", "words"),
    [({}, "secret imap_password of this toolset is not set"), ({"imap_password": f"{PASSWORD}\r\nX"}, "line break")],
)
async def test_an_unusable_secret_is_told(config: dict, secrets: dict[str, str], words: str) -> None:
    with pytest.raises(ToolError, match=words) as raised:
        await call(config, "search_mail", secrets=secrets)
    assert PASSWORD not in str(raised.value)


async def test_a_certificate_of_another_host_is_refused(dovecot: Dovecot, user: str) -> None:
    for security, port in (("tls", dovecot.imaps), ("starttls", dovecot.imap)):
        config = imap_config(port, security, user, host="127.0.0.1")
        with pytest.raises(ToolError, match="certificate that is not valid for it"):
            await call(config, "search_mail")


async def test_tls_with_a_port_that_has_none_is_told(dovecot: Dovecot, user: str) -> None:
    with pytest.raises(ToolError, match="does not speak TLS"):
        await call(imap_config(dovecot.imap, "tls", user), "search_mail")


async def test_many_mails_are_listed_newest_first(config: dict, deliver: Deliver, monkeypatch: Any) -> None:
    uids = [deliver(mail(f"Number {number}")) for number in range(12)]
    monkeypatch.setattr("toolsets.kinds.email.imap.WINDOW", 5)  # as in a folder of 120,000
    found = await call(config, "search_mail", limit=8)
    assert [one["uid"] for one in found["mails"]] == uids[:3:-1]
    assert [one["uid"] for one in (await call(config, "search_mail", subject="Number 1"))["mails"]] == [12, 11, 2]
