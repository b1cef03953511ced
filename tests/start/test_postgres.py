import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from agentsite.embedded import account, binaries, postgres, roles
from agentsite.embedded.account import Account
from agentsite.embedded.errors import StartError
from agentsite.embedded.home import CHECKOUT, Home, open_home
from agentsite.embedded.postgres import Cluster, ensure, read_postmaster
from tests.start.conftest import kill_all, processes_of


def remember(cluster: Cluster, text: str) -> None:
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute("SET ROLE app_owner")
        connection.execute("CREATE TABLE IF NOT EXISTS note (text text)")
        connection.execute("INSERT INTO note VALUES (%s)", (text,))


def notes(cluster: Cluster) -> list[str]:
    with psycopg.connect(cluster.url, options="-c role=app_owner") as connection:
        return [text for (text,) in connection.execute("SELECT text FROM note")]


def listening(pid: int) -> set[str]:
    """The local addresses, in hexadecimal, on which a process listens by TCP."""
    sockets = {os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir() if file.is_symlink()}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets}


def test_listens_on_loopback_with_passwords_only(cluster: Cluster) -> None:
    roles.bootstrap(cluster)
    server = read_postmaster(cluster.home.path / "postgres")
    assert server
    assert listening(server.pid) == {"0100007F"}
    with psycopg.connect(cluster.admin_url) as connection:
        assert connection.execute("SHOW unix_socket_directories").fetchone() == ("",)
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)
    wrong = cluster.url.replace(cluster.home.secrets().database_password, "guess")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)
    rules = (cluster.home.path / "postgres" / "pg_hba.conf").read_text().splitlines()
    assert {rule.split()[-1] for rule in rules if rule and not rule.startswith("#")} == {"scram-sha-256"}


def test_stop_leaves_no_process_and_keeps_the_port(home: Home) -> None:
    first = ensure(home)
    first.stop()
    assert processes_of(home.path) == []
    second = ensure(home)
    second.stop()
    assert second.port == first.port


def test_lives_until_its_last_user_stops(home: Home) -> None:
    first, second = ensure(home), ensure(home)
    roles.bootstrap(first)
    remember(first, "shared")
    first.stop()
    assert notes(second) == ["shared"]
    second.stop()
    assert processes_of(home.path) == []


def test_ends_with_a_killed_user(home: Home) -> None:
    script = "from agentsite.embedded import home, postgres; postgres.ensure(home.open_home()); print(); input()"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        assert user.stdout
        user.stdout.readline()
        assert read_postmaster(home.path / "postgres")
        user.kill()
    deadline = time.monotonic() + 10
    while processes_of(home.path) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes_of(home.path) == []


def test_two_homes_side_by_side(home: Home, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTSITE_HOME", str(folder / "other"))
    one, other = ensure(home), ensure(open_home())
    for cluster in (one, other):
        roles.bootstrap(cluster)
        remember(cluster, cluster.home.path.name)
    assert (notes(one), notes(other)) == (["home"], ["other"])
    one.stop()
    assert notes(other) == ["other"]
    other.stop()


def test_recovers_after_kill_9_of_everything(home: Home) -> None:
    cluster = ensure(home)
    roles.bootstrap(cluster)
    remember(cluster, "committed")
    kill_all(home.path)
    cluster.users.release()
    again = ensure(home)
    assert notes(again) == ["committed"]
    again.stop()


def test_keeper_takes_its_server_along(home: Home) -> None:
    cluster = ensure(home)
    keeper = next(pid for pid in processes_of(home.path) if b"keeper.py" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(keeper, signal.SIGKILL)
    again = ensure(home)
    assert again.alive()
    cluster.users.release()
    again.stop()
    assert processes_of(home.path) == []


def test_adopts_a_server_without_keeper(home: Home) -> None:
    cluster = ensure(home)
    first = read_postmaster(home.path / "postgres")
    assert first
    command = Path(f"/proc/{first.pid}/cmdline").read_text().split("\0")[:-1]
    cluster.stop()
    who = account.choose_account(home.path / "postgres", command[0])
    subprocess.run(["setsid", "--fork", *who.prefix, *command], stderr=subprocess.DEVNULL, check=True)
    while not ((server := read_postmaster(home.path / "postgres")) and server.status == "ready"):
        time.sleep(0.02)
    adopted = ensure(home)
    assert adopted.port == server.port
    assert read_postmaster(home.path / "postgres") == server
    adopted.stop()
    assert processes_of(home.path) == []


@pytest.mark.parametrize(
    "content", ["", f"{os.getpid()}\n/elsewhere\n1\n5432\n\n\n\nready\n"], ids=["empty", "stranger"]
)
def test_pid_file_of_a_dead_server_is_no_obstacle(home: Home, content: str) -> None:
    ensure(home).stop()
    (home.path / "postgres" / "postmaster.pid").write_text(content)
    cluster = ensure(home)
    assert cluster.alive()
    cluster.stop()


def test_taken_port_is_replaced(home: Home) -> None:
    before = ensure(home)
    before.stop()
    with socket.socket() as other:
        other.bind(("127.0.0.1", before.port))
        other.listen()
        cluster = ensure(home)
        assert cluster.port != before.port
        cluster.stop()


def test_root_lends_an_ordinary_account_where_namespaces_are_refused(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ensure(home)
    roles.bootstrap(before)
    remember(before, "kept")
    before.stop()
    monkeypatch.setattr(account, "_namespace", lambda: Account(("false",)))
    cluster = ensure(home)
    server = read_postmaster(home.path / "postgres")
    assert server
    assert Path(f"/proc/{server.pid}").stat().st_uid != 0
    assert notes(cluster) == ["kept"]
    cluster.stop()
    monkeypatch.undo()
    monkeypatch.setenv("AGENTSITE_HOME", str(home.path))
    again = ensure(home)
    assert notes(again) == ["kept"]
    again.stop()


def test_no_account_is_one_clear_line(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(account, "_namespace", lambda: Account(("no-such-program",)))
    monkeypatch.setattr(account, "_ordinary_users", lambda owner: [])
    with pytest.raises(StartError, match="PostgreSQL cannot run as root here: start as an ordinary user"):
        ensure(home)


@pytest.mark.parametrize("uid", [pwd.getpwnam("nobody").pw_uid, 12345], ids=["named", "nameless"])
def test_ordinary_user(folder: Path, uid: int) -> None:
    """Started by root this becomes that user, who may still read the interpreter below root's folders."""
    script = (
        "from agentsite.embedded import home, postgres as p; c = p.ensure(home.open_home()); print(c.alive()); c.stop()"
    )
    drop = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    drop += ["--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override", "--"]
    state = folder / "home"
    state.mkdir()
    if os.geteuid() == 0:
        os.chown(state, uid, uid)
        folder.parent.chmod(0o711)
    command = [*(drop if os.geteuid() == 0 else []), sys.executable, "-c", script]
    env = {**os.environ, "AGENTSITE_HOME": str(state), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=CHECKOUT, env=env, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr
    assert (state / "postgres").stat().st_uid == state.stat().st_uid


def fake_installation(folder: Path, initdb: str, version: int = 18) -> Path:
    folder.mkdir()
    for name, text in {"postgres": f"echo 'postgres (PostgreSQL) {version}.1'", "initdb": initdb}.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    return folder


def test_full_disk_is_one_clear_line(home: Home, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_installation(
        folder / "bin", "echo 'initdb: error: could not write: No space left on device' >&2; exit 1"
    )
    monkeypatch.setattr(binaries, "_folders", lambda: [fake])
    with pytest.raises(StartError, match=r"^The disk of .* is full: free some space and start again\.$"):
        ensure(home)
    assert not (home.path / "postgres").exists()


def test_old_installation_is_refused(home: Home, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_folders", lambda: [fake_installation(folder / "bin", "", version=14)])
    with pytest.raises(StartError, match=r"PostgreSQL 15 or newer is needed \(found: 14\)"):
        ensure(home)


def test_data_of_another_version_is_left_alone(home: Home) -> None:
    ensure(home).stop()
    (home.path / "postgres" / "PG_VERSION").write_text("12\n")
    with pytest.raises(
        StartError, match=r"was made by PostgreSQL 12 .*: install that version, or move the folder away"
    ):
        ensure(home)
    assert (home.path / "postgres" / "base").exists()


def test_test_database_of_another_version_is_made_anew(home: Home) -> None:
    ensure(home, name="test-postgres", durable=False).stop()
    (home.path / "test-postgres" / "PG_VERSION").write_text("12\n")
    cluster = ensure(home, name="test-postgres", durable=False)
    with psycopg.connect(cluster.admin_url) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("off",)
    cluster.stop()


def test_broken_configuration_names_the_reason(home: Home) -> None:
    ensure(home).stop()
    (home.path / "postgres" / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(StartError, match="PostgreSQL cannot start: .*") as failure:
        ensure(home)
    assert "\n" not in str(failure.value)
    assert postgres.read_postmaster(home.path / "postgres") is None
