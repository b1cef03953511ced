"""Keeps one PostgreSQL: stops it once no process holds the users lock any more, and ends when it ends.

    python keeper.py USERS_LOCK COMMAND...          starts it
    python keeper.py USERS_LOCK --adopt PID         takes over one that outlived its keeper

A script of its own that needs the standard library only: it outlives the process that started it.
"""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Protocol

FAST_SHUTDOWN = signal.SIGINT
IMMEDIATE_SHUTDOWN = signal.SIGQUIT
PATIENCE = 20.0  # seconds for a fast shutdown before the immediate one, from which the next start recovers
PR_SET_PDEATHSIG = 1


class Server(Protocol):
    def send_signal(self, number: int, /) -> None: ...

    def wait(self) -> int: ...


class Adopted:
    """A server that is no child of ours."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self) -> int:
        while True:
            try:
                os.kill(self.pid, 0)
            except ProcessLookupError:
                return 0
            time.sleep(0.2)


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """For a new child: it gets this signal when its parent is gone, even by kill -9; on Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def start(command: list[str]) -> Server:
    if command[0] == "--adopt":
        return Adopted(int(command[1]))
    follow = partial(end_with_parent, FAST_SHUTDOWN)
    return subprocess.Popen(command, cwd="/", stdin=subprocess.DEVNULL, preexec_fn=follow)


def stop_when_unused(users: str, server: Server) -> None:
    """Newcomers wait for the lock until this process, and with it the server, has ended."""
    lock = os.open(users, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    server.send_signal(FAST_SHUTDOWN)
    time.sleep(PATIENCE)
    server.send_signal(IMMEDIATE_SHUTDOWN)


def main(users: str, *command: str) -> int:
    server = start(list(command))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: server.send_signal(FAST_SHUTDOWN))
    threading.Thread(target=stop_when_unused, args=(users, server), daemon=True).start()
    return server.wait()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
