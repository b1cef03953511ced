"""Child processes of start.py: started, watched, and gone when it is."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from agentsite.embedded.console import last_error
from agentsite.embedded.keeper import end_with_parent
from agentsite.embedded.postgres import Cluster

STOP_SECONDS = 12.0


class Child:
    """One process in a group of its own, so that Ctrl-C in the terminal reaches start.py alone.

    It counts as a user of the database, which therefore outlives it, even when start.py is killed.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path, cluster: Cluster | None) -> None:
        self.log = log
        self._command = command
        self._env = env
        self._cluster = cluster
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._log_offset = log.tell()
            self._process = subprocess.Popen(
                self._command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
                pass_fds=[self._cluster.users.descriptor] if self._cluster else [],
                preexec_fn=end_with_parent,
            )

    def alive(self) -> bool:
        return self._process.poll() is None

    def reason(self) -> str:
        """Why it ended, as far as its exit code and its output say."""
        code = self._process.poll()
        if code is not None and code < 0:
            return f"it was ended by {signal.Signals(-code).name}."
        return last_error(self.log.read_bytes()[self._log_offset :].decode(errors="replace"))

    def terminate(self) -> None:
        if self.alive():
            self._process.terminate()

    def finish(self, deadline: float) -> None:
        """Waits for the end until `deadline` (monotonic seconds), then kills what is left of the group."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=max(0.0, deadline - time.monotonic()))
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def stop_all(children: Sequence[Child]) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    for child in children:
        child.terminate()
    for child in children:
        child.finish(deadline)
