"""Our launcher of the embedded PostgreSQL.

One server per state folder and name, shared by all processes that use it: each holds the users lock while it does,
and a keeper process (keeper.py) stops the server when the last one lets go or dies. It listens on 127.0.0.1 only,
asks for scram passwords, and has no Unix socket.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from agentsite.embedded.account import Account, choose_account
from agentsite.embedded.binaries import Binaries, find_binaries
from agentsite.embedded.errors import StartError
from agentsite.embedded.home import Home, write_private
from agentsite.embedded.locks import FileLock, held

LOGIN = "agentsite"
ADMIN = "postgres"
DATABASE = "agentsite"
START_SECONDS = 120.0  # covers the recovery after a crash
STOP_SECONDS = 30.0
ATTEMPTS = 5
TRANSIENT = ("Address already in use", "pre-existing shared memory block", "already exists", "is starting up")
OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "300",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
# For data that nobody misses after a crash.
FAST_OPTIONS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class Postmaster:
    """What `postmaster.pid` says about a live server; `status` is `starting`, `ready` or `stopping`."""

    pid: int
    port: int
    status: str


@dataclass
class Cluster:
    """A running server; `stop` ends this process's use of it."""

    home: Home
    name: str
    port: int
    users: FileLock = field(repr=False)

    @property
    def url(self) -> str:
        return self._url(LOGIN, self.home.secrets().database_password, DATABASE)

    @property
    def admin_url(self) -> str:
        """The superuser, on the maintenance database."""
        return self._url(ADMIN, self.home.secrets().database_admin_password, "postgres")

    def alive(self) -> bool:
        return read_postmaster(self.home.path / self.name) is not None

    def stop(self) -> None:
        """Returns once the server has stopped, or at once when other processes still use it."""
        last = self.users.acquire(wait=False) or not self.users.acquire(shared=True, wait=False)
        self.users.release()
        keeper = self.home.lock(f"{self.name}-keeper")
        deadline = time.monotonic() + STOP_SECONDS
        while last and not keeper.acquire(wait=False) and time.monotonic() < deadline:
            time.sleep(0.02)
        keeper.release()

    def _url(self, user: str, password: str, database: str) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"


def ensure(home: Home, *, name: str = "postgres", durable: bool = True) -> Cluster:
    """The running server `name` of this state folder: found, adopted or started, its files made if missing.

    Raises StartError.
    """
    users = home.lock(f"{name}-users")
    users.acquire(shared=True)
    try:
        with held(home.run(f"{name}.lock")):
            server = _running(home, name) or _start(home, name, durable)
    except OSError as error:
        users.release()
        raise StartError(f"The database in {home.path / name} cannot start: {error.strerror}.") from error
    except BaseException:
        users.release()
        raise
    return Cluster(home, name, server.port, users)


def read_postmaster(data: Path) -> Postmaster | None:
    """None when no server of this folder lives, whatever an old file says."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        server = Postmaster(int(lines[0]), int(lines[3]), lines[7].strip() if len(lines) > 7 else "starting")
    except (FileNotFoundError, IndexError, ValueError):
        return None
    return server if _serves(server.pid, data) else None


def _serves(pid: int, data: Path) -> bool:
    """Is it our server, and not a stranger that was given a dead server's process id?"""
    try:
        os.kill(pid, 0)
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (ProcessLookupError, PermissionError):
        return False
    except FileNotFoundError:
        return not Path("/proc/self").exists()
    return str(data).encode() in command


def _running(home: Home, name: str) -> Postmaster | None:
    server = read_postmaster(home.path / name)
    deadline = time.monotonic() + STOP_SECONDS
    while server and server.status != "ready" and time.monotonic() < deadline:
        time.sleep(0.02)
        server = read_postmaster(home.path / name)
    if server:
        _keep(home, name, ["--adopt", str(server.pid)], wait=False)
    return server


def _start(home: Home, name: str, durable: bool) -> Postmaster:
    data = home.path / name
    if not durable:
        _discard_other_version(data)
    binaries = find_binaries(data)
    account = choose_account(data, binaries.program("postgres"))
    if not data.exists():
        _initialize(home, data, binaries, account, durable)
    account.take_over(data)
    _forget_dead_server(data)
    program = [*account.prefix, binaries.program("postgres"), "-D", str(data)]
    for _ in range(ATTEMPTS):
        options = {**OPTIONS, **({} if durable else FAST_OPTIONS), "port": str(_choose_port(home, name))}
        server, output = _attempt(home, name, [*program, *(f"--{key}={value}" for key, value in options.items())])
        if server:
            return server
        if not any(text in output for text in TRANSIENT):
            break
        time.sleep(1)
    raise _explain(home, output)


def _attempt(home: Home, name: str, command: list[str]) -> tuple[Postmaster | None, str]:
    """The server once it is ready, or None and what it said."""
    log = home.log(name)
    offset = log.stat().st_size if log.exists() else 0
    keeper = _keep(home, name, command)
    deadline = time.monotonic() + START_SECONDS
    while keeper and keeper.poll() is None and time.monotonic() < deadline:
        server = read_postmaster(home.path / name)
        if server and server.status == "ready":
            return server, ""
        time.sleep(0.02)
    return None, log.read_bytes()[offset:].decode(errors="replace")


def _keep(home: Home, name: str, command: list[str], *, wait: bool = True) -> "subprocess.Popen[bytes] | None":
    """Starts a keeper, which inherits the lock that shows it lives. Without `wait` None if there is one already."""
    lock = home.lock(f"{name}-keeper")
    if not lock.acquire(wait=wait):
        return None
    keeper = Path(__file__).with_name("keeper.py")
    users = str(home.run(f"{name}-users.lock"))
    with home.log(name).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(keeper), users, *command],
            pass_fds=[lock.descriptor],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=_environment(),
        )
    lock.release()
    return process


def _environment() -> dict[str, str]:
    """None of the caller's PG* variables reaches the server."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _initialize(home: Home, data: Path, binaries: Binaries, account: Account, durable: bool) -> None:
    """Makes the database files beside their place, so that an interrupted attempt leaves no half of them there."""
    fresh = data.with_name(f"{data.name}.new")
    if fresh.exists():
        shutil.rmtree(fresh)
    fresh.mkdir(mode=0o700)
    password = home.run(f"{data.name}-password")
    write_private(password, home.secrets().database_admin_password)
    for path in (fresh, password):
        account.take_over(path)
    command = [binaries.program("initdb"), f"--pgdata={fresh}", f"--username={ADMIN}", f"--pwfile={password}"]
    command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"]
    command += [] if durable else ["--no-sync"]
    made = subprocess.run([*account.prefix, *command], cwd="/", env=_environment(), capture_output=True, text=True)
    password.unlink()
    if made.returncode:
        raise _explain(home, made.stderr)
    fresh.rename(data)


def _discard_other_version(data: Path) -> None:
    try:
        find_binaries(data)
    except StartError:
        shutil.rmtree(data, ignore_errors=True)


def _forget_dead_server(data: Path) -> None:
    """Removes a pid file that PostgreSQL would stumble over: empty, or with a process id that a stranger has now."""
    file = data / "postmaster.pid"
    try:
        os.kill(int(file.read_text().split("\n")[0]), 0)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return
    except ValueError:
        pass
    file.unlink()


def _choose_port(home: Home, name: str) -> int:
    """The port of last time unless somebody else took it."""
    file = home.run(f"{name}.port")
    wanted = int(file.read_text()) if file.exists() else 0
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    write_private(file, str(port))
    return port


def _explain(home: Home, output: str) -> StartError:
    if "No space left on device" in output:
        return StartError(f"The disk of {home.path} is full: free some space and start again.")
    lines = [line for line in output.splitlines() if "FATAL" in line or "error:" in line] or output.splitlines()[-1:]
    reason = lines[0].strip() if lines else "it gave no reason"
    return StartError(f"PostgreSQL cannot start: {reason} (log: {home.path / 'logs'})")
