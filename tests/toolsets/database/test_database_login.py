"""Where a toolset connects to, as whom, and what it tells when it cannot."""

import asyncio
import datetime
import gc
import ipaddress
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from tests.toolsets.database import hostile
from tests.toolsets.database.conftest import Database, Shop, until
from tests.toolsets.database.tls import TlsProxy
from tests.toolsets.tools import Recorded
from toolsets.exceptions import ToolError
from toolsets.kinds.database.arguments import DatabaseConfig
from toolsets.kinds.database.connection import Slot
from toolsets.kinds.database.toolset import DatabaseToolset
from toolsets.toolbox import GrantedToolset

Toolset = Callable[..., Database]


async def refused(database: Database) -> str:
    with pytest.raises(ToolError) as caught:
        await database.query("SELECT 1")
    for secret in database.secrets.values():
        assert secret not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


def logging_in() -> bool:
    return any(thread.name == "database-login" for thread in threading.enumerate())


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_passwords_with_odd_characters_are_taken(toolset: Toolset) -> None:
    assert await toolset("clerk").rows("SELECT current_user") == [["clerk"]]


async def test_a_wrong_login_is_told(shop: Shop, toolset: Toolset) -> None:
    place = f"reader@127.0.0.1:{shop.cluster.port}/shop"
    reason = await refused(toolset(password="guessed-password"))
    assert reason == f'Cannot connect to {place}: FATAL:  password authentication failed for user "reader".'
    assert 'user "nobody"' in await refused(toolset("nobody", "guessed-password"))
    assert 'database "nothing" does not exist' in await refused(toolset(database="nothing"))


async def test_an_unreachable_server_is_told(toolset: Toolset, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Connection refused" in await refused(toolset(port=closed_port()))
    assert "the host is unknown" in await refused(toolset(host="db.invalid"))
    assert "the host is unknown" in await refused(toolset(host="x" * 70 + ".example"))
    monkeypatch.setattr("toolsets.kinds.database.connection.CONNECT_TIMEOUT", 2)
    with hostile.serving(hostile.silent) as port:
        began = time.monotonic()
        assert "no answer within 2 s" in await refused(toolset(port=port))
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("secret", [None, "", "a\0b", "line\n"])
async def test_a_password_that_is_none_is_told(toolset: Toolset, secret: str | None) -> None:
    database = toolset()
    database.secrets = {} if secret is None else {"password": secret}
    with pytest.raises(ToolError, match="secret `password` is missing"):
        await database.query("SELECT 1")


async def test_it_is_a_toolset_of_the_toolbox(shop: Shop) -> None:
    config = DatabaseConfig(host="127.0.0.1", port=shop.cluster.port, database="shop", user="reader")
    tools = DatabaseToolset().tools(config)
    assert {(tool.risk, tool.untrusted, tool.timeout) for tool in tools} == {("egress", True, 53.0)}
    toolbox = Recorded(GrantedToolset("shop", "1", tools))
    assert "secret `password` is missing" in await toolbox.ask("query", '{"sql": "SELECT 1"}')
    assert "sql: must not hold the character NUL" in await toolbox.ask("query", '{"sql": "a\\u0000"}')
    assert "table: must be printable" in await toolbox.ask("describe_table", '{"table": "a\\u0000"}')
    assert all(result.is_error for result in toolbox.results)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "::1", "::ffff:127.0.0.1", "0.0.0.0"])
async def test_private_addresses_are_refused(toolset: Toolset, settings: Any, host: str) -> None:
    settings.ALLOW_PRIVATE_TOOLS = False
    reason = await refused(toolset(host=host))
    assert "ALLOW_PRIVATE_TOOLS on the server allows private addresses" in reason


@pytest.mark.parametrize("host", ["169.254.169.254", "fd00:ec2::254"])
async def test_metadata_services_are_refused_all_the_same(toolset: Toolset, host: str) -> None:
    assert "though never those of metadata services" in await refused(toolset(host=host))


async def test_the_connection_goes_to_the_address_that_was_checked(
    toolset: Toolset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = asyncio.get_running_loop().getaddrinfo

    async def once(host: str, *arguments: Any, **options: Any) -> Any:
        asked.append(host)
        return await real("127.0.0.1", *arguments, **options)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", once)
    assert await toolset(host="db.example.invalid").rows("SELECT 1") == [[1]]
    assert asked == ["db.example.invalid"]


@pytest.mark.parametrize(
    "field",
    [
        {"host": "/var/run/postgresql"},
        {"host": "@abstract"},
        {"host": "a,b"},
        {"host": ""},
        {"host": "a b"},
        {"host": "a' user='x"},
        {"port": 0},
        {"database": "a\0b"},
        {"user": "a\nb"},
        {"user": ""},
        {"sslmode": "prefer"},
        {"ca_certificate": "/etc/ssl/certs"},
        {"options": "-c x=y"},
        {"service": "x"},
        {"schemas": []},
        {"max_rows": 0},
        {"max_bytes": 10_000_000},
        {"statement_timeout": 0},
    ],
)
def test_other_configs_are_refused(field: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DatabaseConfig(**{"host": "db.example", "database": "shop", "user": "reader", **field})


@pytest.mark.parametrize(
    "name", ["host=127.0.0.2 dbname=shop", "postgresql://postgres@127.0.0.2/shop", "shop' user='postgres", "a\\' b"]
)
async def test_a_name_is_never_read_as_parameters(toolset: Toolset, name: str) -> None:
    assert f'database "{name}" does not exist' in await refused(toolset(database=name))
    assert f'user "{name}"' in await refused(toolset(name, "guessed-password"))


async def test_the_servers_environment_changes_nothing(
    shop: Shop, toolset: Toolset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    (home / ".postgresql").mkdir(parents=True)
    for name in ("root.crt", "root.crl", "postgresql.crt", "postgresql.key"):
        (home / ".postgresql" / name).write_text("no certificate")
    services = tmp_path / "services.conf"
    lines = ["host=127.0.0.9", "port=1", "user=postgres", "dbname=postgres", "sslmode=verify-full", "sslkeylogfile=/x"]
    services.write_text("\n".join(["[mine]", *lines, "options=-c work_mem=99MB"]))
    passwords = tmp_path / "passwords"
    passwords.write_text(f"*:*:*:*:{shop.cluster.home.secrets().database_admin_password}\n")
    passwords.chmod(0o600)
    variables = {
        "PGHOST": "127.0.0.9",
        "PGHOSTADDR": "127.0.0.9",
        "PGPORT": "1",
        "PGUSER": "postgres",
        "PGDATABASE": "postgres",
        "PGPASSWORD": "wrong",
        "PGPASSFILE": str(passwords),
        "PGSERVICE": "mine",
        "PGSERVICEFILE": str(services),
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/nothing",
        "PGOPTIONS": "-c work_mem=99MB",
        "PGAPPNAME": "x",
        "PGCLIENTENCODING": "LATIN1",
        "PGTZ": "Asia/Tokyo",
        "PGDATESTYLE": "SQL, DMY",
        "PGREQUIREAUTH": "none",
        "PGCONNECT_TIMEOUT": "1",
        "PGGSSENCMODE": "require",
        "PGCHANNELBINDING": "require",
        "PGTARGETSESSIONATTRS": "standby",
        "PGSSLCERT": "/x",
        "HOME": str(home),
        "PGMINPROTOCOLVERSION": "3.2",
        "PGSSLNEGOTIATION": "direct",
        "PGREQUIREPEER": "x",
        "PGGEQO": "off",
    }
    sql = (
        "SELECT current_user, current_database(), current_setting('application_name'), current_setting('work_mem'), "
        "current_setting('client_encoding'), timestamptz '2026-01-02 03:04+00', current_setting('geqo')"
    )
    before = await toolset().rows(sql)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert await toolset().rows(sql) == before
    assert before[0][:3] == ["reader", "shop", "agentsite"]
    assert "password authentication failed" in await refused(toolset("postgres", "guessed-password"))
    with pytest.raises(ToolError, match="secret `password` is missing"):
        await toolset("postgres", "").query("SELECT 1")
    assert "does not support SSL" in await refused(toolset(sslmode="require"))


def certificate(name: str) -> tuple[str, str]:
    """A certificate that signs itself, and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.2"))])
    made = x509.CertificateBuilder(
        subject, subject, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(days=1)
    ).add_extension(names, False)
    made = made.add_extension(x509.BasicConstraints(True, None), True)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode(), secret.decode()


@pytest.fixture
def secured(shop: Shop, tmp_path: Path) -> Iterator[tuple[TlsProxy, str]]:
    """TLS as `localhost` in front of the server, whose own build has none, and the authority to believe."""
    public, secret = certificate("localhost")
    file = tmp_path / "server.pem"
    file.write_text(public + secret)
    with TlsProxy.running(file, shop.cluster.port) as proxy:
        yield proxy, public


async def test_tls_that_is_absent_is_told(toolset: Toolset) -> None:
    for mode in ("require", "verify-full"):
        reason = await refused(toolset(sslmode=mode))
        assert "server does not support SSL, but SSL was required; sslmode `disable`" in reason


async def test_tls_encrypts_and_checks_the_name_where_it_is_asked_to(
    toolset: Toolset, secured: tuple[TlsProxy, str]
) -> None:
    proxy, authority = secured
    assert await toolset(port=proxy.port, sslmode="require").rows("SELECT 1") == [[1]]
    checked = {"port": proxy.port, "sslmode": "verify-full", "ca_certificate": authority}
    assert await toolset(host="localhost", **checked).rows("SELECT 1") == [[1]]
    assert proxy.encrypted == 2
    assert 'does not match host name "127.0.0.1"' in await refused(toolset(host="127.0.0.1", **checked))
    checked["ca_certificate"] = certificate("localhost")[0]
    assert "certificate verify failed" in await refused(toolset(host="localhost", **checked))
    checked["ca_certificate"] = ""
    assert "certificate verify failed" in await refused(toolset(host="localhost", **checked))


async def test_a_cancelled_query_over_tls_is_ended(shop: Shop, toolset: Toolset, secured: tuple[TlsProxy, str]) -> None:
    proxy, authority = secured
    checked = toolset(host="localhost", port=proxy.port, sslmode="verify-full", ca_certificate=authority)
    call = asyncio.create_task(checked.query("SELECT pg_sleep(60)"))
    await until(lambda: any("q(c0)" in query for _, query in shop.sessions()))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: not shop.sessions())
    assert proxy.encrypted > 1  # the request to cancel is encrypted as well


async def test_an_echoed_password_is_taken_out(toolset: Toolset) -> None:
    with hostile.serving(hostile.echo_password) as port:
        assert "wrong: [password]" in await refused(toolset(port=port))


async def test_the_loop_goes_on_while_another_server_asks_for_work(
    toolset: Toolset, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DATABASE_TOOL_CONNECTIONS = 1
    monkeypatch.setattr("toolsets.kinds.database.connection.CONNECT_TIMEOUT", 0.5)
    with hostile.serving(hostile.many_rounds) as port:
        database = toolset(port=port)
        call = asyncio.create_task(refused(database))
        worst, last = 0.0, time.monotonic()
        while not call.done():
            await asyncio.sleep(0.005)
            worst, last = max(worst, time.monotonic() - last), time.monotonic()
        assert "no answer within 0.5 s" in await call
        assert worst < 0.2
        assert "1 connections open already" in await refused(database)  # its thread still works
        await until(lambda: not logging_in(), seconds=30)
        assert "no answer" in await refused(database)
        await until(lambda: not logging_in(), seconds=30)


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="Linux tells how much a connection received")
async def test_a_server_that_sends_without_end_is_hung_up_on(toolset: Toolset) -> None:
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with hostile.serving(hostile.flood) as port:
        assert "broke" in await refused(toolset(port=port, password="any-password"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000  # kilobytes, of 2 GB


async def test_connections_of_a_toolset_are_limited(shop: Shop, toolset: Toolset, settings: Any) -> None:
    settings.DATABASE_TOOL_CONNECTIONS = 2
    database, other = toolset(), toolset()
    sleeping = [asyncio.create_task(database.query("SELECT pg_sleep(30)")) for _ in range(2)]
    await until(lambda: len(shop.sessions()) == 2)
    assert "2 connections open already" in await refused(database)
    assert "DATABASE_TOOL_CONNECTIONS on the server" in await refused(database)
    assert await other.rows("SELECT 1") == [[1]]  # another tenant's
    for call in sleeping:
        call.cancel()
    await asyncio.gather(*sleeping, return_exceptions=True)
    assert await database.rows("SELECT 1") == [[1]]
    assert Slot._taken == {}


async def test_a_call_that_is_cancelled_while_it_connects_leaves_nothing(shop: Shop, toolset: Toolset) -> None:
    for pause in (0, 0.001, 0.003, 0.006, 0.01, 0.02):
        call = asyncio.create_task(toolset().query("SELECT pg_sleep(30)"))
        await asyncio.sleep(pause)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    await until(lambda: not shop.sessions() and not Slot._taken)


async def test_nothing_stays_open_after_calls(shop: Shop, toolset: Toolset) -> None:
    await toolset().rows("SELECT 1")
    before = len(os.listdir("/proc/self/fd"))
    await asyncio.gather(*(toolset().rows("SELECT 1") for _ in range(10)))
    await asyncio.sleep(0)
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    shop.until_left()
    assert not logging_in()
