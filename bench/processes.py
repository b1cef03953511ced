"""What Linux says of processes: children, memory, processor time."""

import os
import socket
from contextlib import suppress
from pathlib import Path

Used = dict[Path, int]  # nanoseconds of processor time, by thread


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def children(pid: int) -> list[int]:
    return [int(child) for task in _tasks(pid) for child in _words(task / "children")]


def environment(pid: int) -> dict[str, str]:
    variables = Path(f"/proc/{pid}/environ").read_text().rstrip("\0").split("\0")
    return dict(variable.split("=", 1) for variable in variables)


def tree(pid: int) -> list[int]:
    """The process, and all below it."""
    return [pid, *(each for child in children(pid) for each in tree(child))]


def cpu_of_tree(pid: int) -> Used:
    """What each thread of the process and of those below it has used so far."""
    tasks = [task for each in tree(pid) for task in _tasks(each)]
    return {task: int(words[0]) for task in tasks if (words := _words(task / "schedstat"))}


def spent(before: Used, after: Used) -> float:
    """Seconds, of the threads that live still."""
    return sum(used - before.get(thread, 0) for thread, used in after.items()) / 1e9


def _tasks(pid: int) -> list[Path]:
    with suppress(OSError):  # it has ended
        return list(Path(f"/proc/{pid}/task").iterdir())
    return []


def _words(file: Path) -> list[str]:
    with suppress(OSError):
        return file.read_text().split()
    return []


def proportional_set_size(pid: int) -> int:
    """In kilobytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def resident_set_size(pid: int) -> int:
    """In kilobytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def cpu_seconds_of_all() -> float:
    """Of all processes of this machine, by all its cores."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Of all its threads so far, those that ended included; to a hundredth of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
