"""Children of the pool: each is reaped, and what a slot leaves behind is killed."""

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Callable
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


class Reaper:
    """Orphans of slots become children of this process, which knows all others by `watch`."""

    def __init__(self) -> None:
        if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError("This kernel cannot give orphans to this process.")
        self._watched: dict[int, Callable[[int], None]] = {}
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)

    def watch(self, pid: int, gone: Callable[[int], None]) -> None:
        """`gone` gets the exit code."""
        self._watched[pid] = gone

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                break
            if gone := self._watched.pop(pid, None):
                gone(os.waitstatus_to_exitcode(status))
        self._kill_orphans()

    async def empty(self) -> None:
        """Waits until there is no child any more."""
        while _children():
            self._reap()
            await asyncio.sleep(0.002)

    def _kill_orphans(self) -> None:
        """bubblewrap's inner half waits for ever for an outer one that was killed while both started."""
        for pid in _children():
            if pid not in self._watched:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
