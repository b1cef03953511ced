"""The processes of one site, to be killed, paused and started again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.outside.processes import free_port
from tests.outside.site import CHECKOUT, Server, Site, answers, server_command

READY_SECONDS = 60


def scale(name: str, default: int) -> int:
    """How much of something a test does; the environment says more: SURVIVAL_KILLS=200 pytest tests/outside."""
    return int(os.environ.get(name, default))


class Member:
    """A process that is started again whenever it ended, until `stop`."""

    def __init__(self, command: Sequence[str], *, env: dict[str, str], log: Path, ready: Callable[[], bool]) -> None:
        self.log = log
        self._command = command
        self._env = env
        self._ready = ready
        self._process = self._started()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """By SIGKILL; another takes its place."""
        self._process.kill()
        self._process.wait()
        self._process = self._started()

    def end(self) -> int:
        """By SIGTERM, as a deployment does; its exit code. Another takes its place."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(30)
        self._process = self._started()
        return code

    @contextmanager
    def paused(self) -> Iterator[None]:
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        self._process.kill()
        self._process.wait()

    def until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self._ready():
            assert time.monotonic() < deadline, self.log.read_text()[-4000:]
            time.sleep(0.05)

    def _started(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as output:
            return subprocess.Popen(self._command, env=self._env, cwd=CHECKOUT, stdout=output, stderr=output)


class Fleet:
    """Servers and a worker over one database."""

    def __init__(self, site: Site, servers: int, *, worker: bool = True) -> None:
        self.servers: list[Server] = []
        self.members: list[Member] = []
        self.worker: Member | None = None
        for _ in range(servers):
            self._add_server(site)
        if worker:
            command = [sys.executable, "manage.py", "worker"]
            self.worker = Member(command, env=site.env, log=site.home / "worker.log", ready=lambda: True)
            self.members.append(self.worker)

    def _add_server(self, site: Site) -> None:
        port = free_port()
        base_url = f"http://127.0.0.1:{port}"
        log = site.home / f"fleet-{port}.log"
        command = server_command("uvicorn", str(port))
        member = Member(command, env=site.env, log=log, ready=lambda: answers(base_url))
        self.members.append(member)
        self.servers.append(Server(site, "uvicorn", base_url, member.pid, log))

    def logs(self) -> str:
        return "\n".join(member.log.read_text() for member in self.members)


@contextmanager
def fleet(site: Site, servers: int = 2, *, worker: bool = True) -> Iterator[Fleet]:
    made = Fleet(site, servers, worker=worker)
    try:
        for member in made.members:
            member.until_ready()
        yield made
    finally:
        for member in made.members:
            member.stop()
