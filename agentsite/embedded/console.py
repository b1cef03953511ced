"""What start.py says, and commands that run behind one line of it."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from agentsite.embedded.errors import StartError
from agentsite.embedded.keeper import end_with_parent

DISK_FULL = "No space left on device"


class CommandError(Exception):
    """A command failed. Its text is the last line of the output that names an error."""

    def __init__(self, output: str) -> None:
        super().__init__(last_error(output))
        self.output = output


def say(text: str = "", end: str = "\n") -> None:
    print(text, end=end, flush=True)


def step(title: str, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
    """Runs the command, a dot every two seconds and the time it took; its output goes to the end of `log`.

    Raises CommandError, or StartError when the disk is full.
    """
    say(f"{title} ", end="")
    began = time.monotonic()
    with log.open("a+b") as output:
        offset = output.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
            preexec_fn=end_with_parent,
        )
        code = _wait(process)
        output.seek(offset)
        text = output.read().decode(errors="replace")
    say(f" {time.monotonic() - began:.0f} s" if code == 0 else " failed")
    if DISK_FULL in text:
        raise StartError("The disk is full: free some space (a first start needs about 2 GB) and run it again.")
    if code:
        raise CommandError(text)


def _wait(process: "subprocess.Popen[bytes]") -> int:
    try:
        while True:
            try:
                return process.wait(timeout=2)
            except subprocess.TimeoutExpired:
                say(".", end="")
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)  # an installation has children of its own
        process.wait()
        raise


def last_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["it gave no reason"])[-1]
