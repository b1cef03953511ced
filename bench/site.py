"""A site of its own to measure: started by start.py, without the local model."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


@contextmanager
def site(home: Path) -> Iterator[tuple[str, str, int]]:
    """A started site: its address, acme's owner key, and the process id of start.py."""
    command = [sys.executable, "start.py", "--no-local-model", "--port", str(free_port())]
    env = {**os.environ, "AGENTSITE_HOME": str(home)}
    with subprocess.Popen(command, cwd=CHECKOUT, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            if not any(line.startswith("Ready: ") for line in process.stdout):
                sys.exit("start.py did not get ready.")
            demo = json.loads((home / "demo.json").read_text())
            yield demo["base_url"], demo["tenants"][0]["api_key"], process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def memory_of(starter: int) -> Iterator[tuple[str, int]]:
    """Name and kilobytes of the server and of the worker that start.py began."""
    for pid in children(starter):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        name = "server" if "uvicorn" in command else "worker" if "worker" in command else ""
        if name:
            yield name, proportional_set_size(pid)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def proportional_set_size(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def resident_set_size(pid: int) -> int:
    """In kilobytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def server_of(starter: int) -> int:
    return next(pid for pid in children(starter) if b"uvicorn" in Path(f"/proc/{pid}/cmdline").read_bytes())


def cpu_seconds_of_all() -> float:
    """Of all processes of this machine, by all its cores."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Of all its threads so far, those that ended included; to a hundredth of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
