"""`start.py` after the installation: database, preparation, server and worker, until a signal ends it."""

import hashlib
import json
import os
import signal
import socket
import time
from dataclasses import dataclass

from agentsite.embedded import greeting, postgres
from agentsite.embedded.command import environment
from agentsite.embedded.console import CommandError, say, step
from agentsite.embedded.errors import REFUSAL, StartError
from agentsite.embedded.home import CHECKOUT, Home, write_private
from agentsite.embedded.install import PYTHON, RUNTIME
from agentsite.embedded.postgres import Cluster
from agentsite.embedded.supervisor import Child, stop_all

HEALTHY_SECONDS = 60.0
WATCH_SECONDS = 0.5
GRACE_SECONDS = "5"  # for open streams when the server is stopped
LONGEST_RESTART_DELAY = 30.0


@dataclass(frozen=True)
class Address:
    host: str
    port: int

    @property
    def base_url(self) -> str:
        """How this machine reaches the server; an unspecified address (0.0.0.0, ::) is reached by loopback."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def require_free(self) -> None:
        """Raises StartError with what to do when nothing can listen here."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, self.port))
            except OSError as error:
                other = f"choose another: python3 start.py --port {self.port + 1}"
                raise StartError(f"Cannot listen on {self.host}:{self.port} ({error.strerror}); {other}") from error


def serve(home: Home, address: Address, *, local_model: bool) -> None:
    """Returns once a signal has asked a serving site to end; raises StartError."""
    children: list[Child] = []
    cluster = None if os.environ.get("DATABASE_URL") else postgres.ensure(home)
    try:
        if _prepared(home):
            children.append(_server(home, address, cluster))  # it loads while the database is looked at
        _prepare(home, address, local_model)
        if not children:
            children.append(_server(home, address, cluster))
        children.append(_worker(home, address, cluster))
        _await_health(address, children[0])
        _greet(home, address)
        _serve_until_signal(home, address, cluster, *children)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # an impatient second Ctrl-C must not leave half of them behind
        stop_all(children)
        if cluster:
            cluster.stop()


def _prepared(home: Home) -> bool:
    """Was the database brought to the present migrations before?"""
    mark = home.run("prepared")
    return mark.exists() and mark.read_text() == _migrations()


def _migrations() -> str:
    """Changes with any migration, of ours or of a package, and with the database."""
    files = [CHECKOUT / RUNTIME, *sorted(CHECKOUT.glob("*/migrations/*.py"))]
    parts = [os.environ.get("DATABASE_URL", "").encode(), *(file.read_bytes() for file in files)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _prepare(home: Home, address: Address, local_model: bool) -> None:
    command = [str(PYTHON), "-m", "agentsite.embedded.prepare", "--base-url", address.base_url]
    command += [] if local_model else ["--no-local-model"]
    try:
        step("Preparing the database", command, home.log("prepare"), _caller_environment())
    except CommandError as error:
        refusal = error.output.partition(REFUSAL)[2].strip()
        raise StartError(refusal or f"{error} (log: {home.log('prepare')})") from error
    write_private(home.run("prepared"), _migrations())


def _caller_environment() -> dict[str, str]:
    """Bytecode is kept in the checkout, whatever the caller prefers: compiling it is half of a start's time."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _child_environment(home: Home, address: Address, cluster: Cluster | None) -> dict[str, str]:
    env = {**_caller_environment(), **environment(home, cluster), "PYTHONUNBUFFERED": "1"}
    env.setdefault("BASE_URL", address.base_url)
    return env


def _server(home: Home, address: Address, cluster: Cluster | None) -> Child:
    return Child(_server_command(address), _child_environment(home, address, cluster), home.log("server"), cluster)


def _worker(home: Home, address: Address, cluster: Cluster | None) -> Child:
    command = [str(PYTHON), str(CHECKOUT / "manage.py"), "worker"]
    return Child(command, _child_environment(home, address, cluster), home.log("worker"), cluster)


def _server_command(address: Address) -> list[str]:
    python, application, port = str(PYTHON), "agentsite.asgi:application", str(address.port)
    if os.environ.get("AGENTSITE_SERVER") == "daphne":
        return [python, "-m", "daphne", "--bind", address.host, "--port", port, application]
    options = ["--host", address.host, "--port", port, "--timeout-graceful-shutdown", GRACE_SECONDS, "--no-access-log"]
    return [python, "-m", "uvicorn", *options, application]


def _await_health(address: Address, server: Child) -> None:
    deadline = time.monotonic() + HEALTHY_SECONDS
    while not greeting.answers(address.base_url):
        if not server.alive() or time.monotonic() > deadline:
            raise StartError(f"The server does not start: {server.reason()} (log: {server.log})")
        time.sleep(0.05)


def _greet(home: Home, address: Address) -> None:
    """The first start also shows one answer; without one it still serves."""
    demo = json.loads((home.path / "demo.json").read_text())
    greeting.announce(address.base_url, demo, home.path / "logs")
    greeted = home.path / "greeted"
    if greeted.exists():
        return
    try:
        greeting.ask(address.base_url, demo["tenants"][0]["api_key"])
        greeted.touch()
    except (OSError, ValueError) as error:
        say(f"\nWarning: the demo agent did not answer: {error}")


def _serve_until_signal(home: Home, address: Address, cluster: Cluster | None, server: Child, worker: Child) -> None:
    try:
        say(f"Ready: {address.base_url} (Ctrl-C stops it)")
        _watch(home, cluster, server, worker)
    except KeyboardInterrupt:
        say("\nStopping.")


def _watch(home: Home, cluster: Cluster | None, server: Child, worker: Child) -> None:
    delay = 1.0
    while server.alive():
        time.sleep(WATCH_SECONDS)
        if cluster and not cluster.alive():
            _restart_database(home, cluster)
        if not worker.alive():
            say(f"The worker ended ({worker.reason()}); starting it again in {delay:.0f} s.")
            time.sleep(delay)
            worker.start()
            delay = min(2 * delay, LONGEST_RESTART_DELAY)
    raise StartError(f"The server ended: {server.reason()} (log: {server.log})")


def _restart_database(home: Home, cluster: Cluster) -> None:
    say("The database ended; starting it again.")
    cluster.users.release()
    renewed = postgres.ensure(home)
    cluster.users = renewed.users
    if renewed.port != cluster.port:
        raise StartError("The database's port was taken meanwhile: run start.py again.")
