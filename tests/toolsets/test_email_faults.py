"""Mail servers that break off, stay silent, lie, or lie where they must not be reached."""

import asyncio
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.toolsets.email_kit import call, imap_config, smtp_config
from tests.toolsets.mail_servers import (
    PASSWORD,
    Certificate,
    Scripted,
    free_port,
    imap_talk,
    scripted,
    smtp_server,
    smtp_talk,
    until_closed,
)
from toolsets.exceptions import ToolError
from toolsets.kinds.email import imap, smtp

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH")  # of the test's own server
MAIL: dict[str, Any] = {"to": ["bob@example.com"], "subject": "Hello", "body": "Hi Bob"}
DROPPED = "dropped the connection"


def drop(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def flood(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"250-more\r\n" * 1000)


def mail_threads() -> list[threading.Thread]:
    """Those that do not wait for work."""
    frames = sys._current_frames()
    found = [thread for thread in threading.enumerate() if thread.name.startswith("mail")]
    return [thread for thread in found if frames[thread.ident].f_code.co_name != "_worker"]  # type: ignore[index]


async def send(port: int, security: str = "none", **more: Any) -> Any:
    return await call(smtp_config(port, security, **more), "send_mail", **MAIL)


async def search(port: int, security: str = "none", **more: Any) -> Any:
    return await call({**imap_config(port, security), **more}, "search_mail")


@pytest.mark.parametrize("end", [drop, reset])
@pytest.mark.parametrize("step", range(8))
async def test_a_sending_that_breaks_off_says_whether_it_was_sent(
    near: None, step: int, end: Callable[[socket.socket], None]
) -> None:
    with scripted(smtp_talk(step, end)) as server:
        if step == 7:
            assert (await send(server.port))["accepted"] == ["bob@example.com"]
        else:
            with pytest.raises(ToolError, match="unknown whether the mail was sent" if step == 6 else DROPPED):
                await send(server.port)
    handed_over = [line for line in server.lines if line.startswith(b"Subject")]
    assert len(handed_over) == (step >= 6)  # once, and never again


@pytest.mark.parametrize("step", range(7))
async def test_a_reading_that_breaks_off_is_told(near: None, step: int) -> None:
    with scripted(imap_talk(step, drop)) as server, pytest.raises(ToolError, match=DROPPED):
        await search(server.port)


async def test_the_scripted_server_is_understood(near: None) -> None:
    with scripted(imap_talk(99, drop)) as server:
        (found,) = (await search(server.port))["mails"]
    assert (found["uid"], found["subject"]) == (7, "hi")
    assert server.lines[3].split()[1] == b"EXAMINE"
    assert b"PEEK" in server.lines[5]


@pytest.mark.parametrize("step", [0, 3, 6])
async def test_silence_ends_with_the_deadline_and_so_does_the_thread(near: None, step: int) -> None:
    began = time.monotonic()
    words = "unknown whether" if step == 6 else r"did not finish within 1 s \(`timeout`"
    with scripted(smtp_talk(step, until_closed)) as server:
        with pytest.raises(ToolError, match=words):
            await send(server.port, timeout=1)
        assert server.ended.wait(2)
    with scripted(imap_talk(step, until_closed)) as server:
        with pytest.raises(ToolError, match="did not finish within 1 s"):
            await search(server.port, timeout=1)
        assert server.ended.wait(2)
    assert time.monotonic() - began < 4
    await asyncio.sleep(0.1)
    assert mail_threads() == []


async def test_a_server_that_drips_is_ended_too(near: None) -> None:
    """No single answer is late, but all of them together."""

    def drip(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"250-x\r\n")
            time.sleep(0.05)

    with scripted(smtp_talk(1, drip)) as server:
        with pytest.raises(ToolError, match="did not finish within 1 s"):
            await send(server.port, timeout=1)
        assert server.ended.wait(2)


async def test_tls_that_never_comes_is_ended(near: None) -> None:
    for talk in (search, send):
        with scripted(lambda connection, _: until_closed(connection)) as server:
            with pytest.raises(ToolError, match="did not finish within 1 s"):
                await talk(server.port, "tls", timeout=1)
            assert server.ended.wait(2)


@pytest.mark.parametrize("talk", [search, send])
async def test_a_cancelled_call_closes_its_connection(near: None, talk: Callable[..., Any]) -> None:
    with scripted(smtp_talk(0, until_closed)) as server:
        task = asyncio.ensure_future(talk(server.port))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert server.ended.wait(2)


async def test_more_calls_than_threads_end_as_well(near: None) -> None:
    """Those that wait for a thread give their connection back at the deadline."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        calls = [search(listener.getsockname()[1], timeout=1) for _ in range(30)]
        began = time.monotonic()
        answers = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(answer) for answer in answers} == {ToolError}
    assert time.monotonic() - began < 5
    await asyncio.sleep(0.1)
    assert mail_threads() == []


@pytest.mark.parametrize("step", [0, 1, 4])
async def test_a_flood_is_cut(near: None, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imap, "BUDGET", 100_000)
    with scripted(smtp_talk(step, flood)) as server, pytest.raises(ToolError, match="sent more than"):
        await send(server.port)
    assert smtp.BUDGET < 1_000_000

    def lines(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"* OK more\r\n" * 1000)

    with scripted(imap_talk(step or 1, lines)) as server, pytest.raises(ToolError, match="sent more than"):
        await search(server.port)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"* 1 FETCH (UID 7 BODY[] {99999999999}\r\n", "sent more than"),
        (b"* 1 FETCH (UID 7 FLAGS (" + b"(" * 500 + b"\r\n", "nested too deeply"),
        (b"* 1 FETCH (UID 7))))) (\r\n", "could not be read"),
        (b'* 1 FETCH (UID 7 "open\r\n', "could not be read"),
        (b"x" * 1_100_000, "could not be understood"),
        (b"\xff\xfe\r\n", DROPPED),
        (b"* BYE password is hunter2\r\n", DROPPED),
    ],
    ids=range(7),
)
async def test_a_server_that_lies_is_told_of(near: None, answer: bytes, words: str) -> None:
    def talk(connection: socket.socket, server: Scripted) -> None:
        def lie(connection: socket.socket) -> None:
            connection.sendall(answer + server.lines[-1].split()[0] + b" OK done\r\n")
            until_closed(connection)

        imap_talk(6, lie)(connection, server)

    with scripted(talk) as server, pytest.raises(ToolError, match=words) as raised:
        await search(server.port)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("greeting", [b"554 no\r\n", b"garbage\r\n", b"\0\xff\r\n", b"* BYE\r\n", b"x" * 20_000])
async def test_a_greeting_that_is_none_is_told(near: None, greeting: bytes) -> None:
    for talk in (search, send):
        with scripted(lambda connection, _: connection.sendall(greeting)) as server, pytest.raises(ToolError):
            await talk(server.port)


async def test_the_password_is_not_sent_without_the_encryption_that_was_asked_for(near: None) -> None:
    with scripted(smtp_talk(99, drop)) as server, pytest.raises(ToolError, match="offers no STARTTLS"):
        await send(server.port, "starttls")
    with scripted(imap_talk(99, drop)) as other, pytest.raises(ToolError, match="offers no STARTTLS"):
        await search(other.port, "starttls")
    with scripted(smtp_talk(2, drop, ("STARTTLS", "AUTH PLAIN"))) as third, pytest.raises(ToolError):
        await send(third.port, "starttls")
    assert b"AUTH" not in b"".join(server.lines + other.lines + third.lines)


async def test_what_was_said_before_the_encryption_does_not_count(near: None, certificate: Certificate) -> None:
    """A man in the middle may add answers in clear behind that to STARTTLS (CVE-2011-0411)."""

    def talk(connection: socket.socket, server: Scripted) -> None:
        file = connection.makefile("rb")
        connection.sendall(b"220 x\r\n")
        file.readline()
        connection.sendall(b"250-x\r\n250 STARTTLS\r\n")
        file.readline()
        connection.sendall(b"220 go\r\n")
        time.sleep(0.1)
        with certificate.context().wrap_socket(connection, server_side=True) as secure:
            server.lines.append(secure.recv(1000))
            secure.sendall(b"250-x\r\n250 HELP\r\n")
            server.lines.append(secure.recv(1000))

    with scripted(talk) as server, pytest.raises(ToolError, match="offers no sign-in"):
        await send(server.port, "starttls")
    assert server.lines[0].startswith(b"ehlo example.com")


@pytest.mark.parametrize(
    ("capabilities", "password", "sent"),
    [
        ("", 'a"b\\c', b'LOGIN "anna" "a\\"b\\\\c"\r\n'),
        ("", "pässword", None),
        ("LOGINDISABLED", "password", None),
    ],
)
async def test_a_server_without_plain_gets_a_login(
    near: None, capabilities: str, password: str, sent: bytes | None
) -> None:
    words = DROPPED if sent else "no way to sign in"
    with scripted(imap_talk(2, drop, capabilities)) as server, pytest.raises(ToolError, match=words):
        await call(imap_config(server.port), "search_mail", secrets={"imap_password": password})
    assert server.lines[1].partition(b" ")[2] == (sent or b"")


async def test_an_unencrypted_session_that_is_open_already_is_not_used_for_starttls(near: None) -> None:
    def talk(connection: socket.socket, server: Scripted) -> None:
        connection.sendall(b"* PREAUTH welcome\r\n")
        tag = connection.makefile("rb").readline().split()[0]
        connection.sendall(b"* CAPABILITY IMAP4rev1 STARTTLS\r\n" + tag + b" OK done\r\n")
        until_closed(connection)

    with scripted(talk) as server, pytest.raises(ToolError, match="offers no STARTTLS"):
        await search(server.port, "starttls")


@pytest.mark.parametrize("security", ["tls", "starttls"])
async def test_a_certificate_of_another_host_is_refused(near: None, certificate: Certificate, security: str) -> None:
    with smtp_server(security, certificate) as (port, received):
        config = smtp_config(port, security)
        config["smtp"]["host"] = "127.0.0.1"
        with pytest.raises(ToolError, match="certificate that is not valid for it: .*IP address mismatch"):
            await call(config, "send_mail", **MAIL)
    assert (received.mails, received.signed_in) == ([], [])


async def test_a_certificate_of_nobody_is_refused(settings: Any, certificate: Certificate) -> None:
    settings.ALLOW_PRIVATE_TOOLS = True
    with smtp_server("tls", certificate) as (port, received), pytest.raises(ToolError, match="self-signed certificate"):
        await send(port, "tls")
    assert received.mails == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "10.0.0.1", "::ffff:127.0.0.1", "0"])
async def test_a_private_address_is_refused_unless_the_setting_allows_it(settings: Any, host: str) -> None:
    settings.ALLOW_PRIVATE_TOOLS = False
    settings.ALLOW_PRIVATE_PROVIDERS = True
    with scripted(smtp_talk(0, drop)) as server:
        for config, name, arguments in (
            (imap_config(server.port, host=host), "search_mail", {}),
            (smtp_config(server.port), "send_mail", MAIL),
        ):
            config.get("smtp", {})["host"] = host
            with pytest.raises(ToolError, match="ALLOW_PRIVATE_TOOLS on the server allows private addresses"):
                await call(config, name, **arguments)
        assert not server.ended.is_set()  # nobody connected


@pytest.mark.parametrize("host", ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254"])
async def test_a_metadata_service_is_refused_always(near: None, host: str) -> None:
    with pytest.raises(ToolError, match="metadata services excepted"):
        await call(imap_config(80, host=host), "search_mail")


async def test_the_address_that_was_checked_is_the_one_connected_to(
    near: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is resolved once: a second answer would not be asked for."""
    asked = []
    real = socket.getaddrinfo

    def count(host: Any, *given: Any, **more: Any) -> Any:
        asked.append(host)
        return real(host, *given, **more)

    monkeypatch.setattr(socket, "getaddrinfo", count)
    monkeypatch.setattr(socket, "getfqdn", lambda *_: pytest.fail("its own name was looked up"))
    with scripted(smtp_talk(99, drop)) as server:
        await send(server.port)
    assert asked.count("localhost") == 1
    assert set(asked) == {"localhost"}


async def test_nobody_listens_and_unknown_names(near: None) -> None:
    port = free_port()
    with pytest.raises(ToolError, match=f"could not be reached at port {port}"):
        await search(port)
    with pytest.raises(ToolError, match="name could not be resolved"):
        await call(imap_config(port, host="nowhere.invalid"), "search_mail")


async def test_nothing_of_a_conversation_is_logged(near: None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with scripted(smtp_talk(3, drop)) as server, pytest.raises(ToolError):
        await send(server.port)
    assert "AUTH" not in caplog.text
    assert PASSWORD not in caplog.text
