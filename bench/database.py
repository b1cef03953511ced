"""A durable database of its own, prepared for a Django process that is forked from this one."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import psycopg

from agentsite.embedded import postgres
from agentsite.embedded.command import environment, start_database
from agentsite.embedded.home import open_home
from agentsite.embedded.postgres import Cluster, read_postmaster
from bench.site import CHECKOUT

_fork = multiprocessing.get_context("fork")


@contextmanager
def prepared_database(**env: str) -> Iterator[Cluster]:
    """PostgreSQL with fsync on, migrated and with demo data; this process and its forks are Django processes of it."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ.pop("DATABASE_URL", None)
        os.environ |= {"AGENTSITE_HOME": folder, "DJANGO_SETTINGS_MODULE": "agentsite.settings", **env}
        home = open_home()
        cluster = start_database(home)
        try:
            os.environ |= environment(home, cluster)
            command = [sys.executable, "-m", "agentsite.embedded.prepare", "--no-local-model", "--base-url", "http://-"]
            subprocess.run(command, cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL)
            import django  # its settings read the environment

            django.setup()
            yield cluster
        finally:
            cluster.stop()


def postmaster(cluster: Cluster) -> int:
    server = read_postmaster(cluster.home.path / cluster.name)
    assert server is not None
    return server.pid


def restart_at_once(cluster: Cluster) -> None:
    """An immediate shutdown, as a crash would be, and a start that recovers."""
    os.kill(postmaster(cluster), signal.SIGQUIT)
    while cluster.alive():
        time.sleep(0.01)
    cluster.users.release()
    renewed = postgres.ensure(cluster.home, name=cluster.name)
    cluster.users = renewed.users
    assert renewed.port == cluster.port


def admin(cluster: Cluster) -> psycopg.Connection[Any]:
    """The superuser, in the site's database."""
    return psycopg.connect(cluster.admin_url.removesuffix("/postgres") + "/agentsite", autocommit=True)


class Part:
    """A forked process that runs `work(connection, …)` in an event loop like a server's, and talks over a pipe."""

    def __init__(self, work: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        self.pipe, theirs = _fork.Pipe()
        self.process: BaseProcess = _fork.Process(target=_serve, args=(work, theirs, arguments), daemon=True)
        self.process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def answer(self, seconds: float = 120) -> Any:
        if not self.pipe.poll(seconds):
            raise TimeoutError("A part of the measurement does not answer.")
        return self.pipe.recv()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def end(self) -> None:
        self.process.join(30)
        self.process.kill()


def _serve(work: Callable[..., Coroutine[Any, Any, None]], pipe: Connection, arguments: tuple[Any, ...]) -> None:
    import asyncio

    import uvloop

    from agentsite.lifespan import warm_up

    warm_up()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work(pipe, *arguments))
