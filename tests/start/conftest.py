import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agentsite.embedded.home import Home, open_home
from agentsite.embedded.postgres import Cluster, ensure


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder whose path has a space, below one that only its owner may enter."""
    private = Path(tempfile.mkdtemp(prefix="agentsite-", dir=_fast_disk()))
    path = private / "a folder"
    path.mkdir()
    yield path
    shutil.rmtree(private)


def _fast_disk() -> Path | None:
    """Memory where there is enough of it: making and removing database files is most of these tests' time."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > 1_000_000_000 else None


@pytest.fixture
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("AGENTSITE_HOME", str(folder / "home"))
    return open_home()


@pytest.fixture
def cluster(home: Home) -> Iterator[Cluster]:
    running = ensure(home)
    yield running
    running.stop()


def processes_of(home: Path) -> list[int]:
    """The live processes that name this state folder in their arguments or environment, or work in it."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _belongs(entry, home)]


def _belongs(process: Path, home: Path) -> bool:
    try:
        text = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        at_home = Path(os.readlink(process / "cwd")).is_relative_to(home)
    except OSError:
        return False
    return state != "Z" and int(process.name) != os.getpid() and (str(home).encode() in text or at_home)


def kill_all(home: Path) -> None:
    """kill -9 until no process of this state folder is left, as children may appear meanwhile."""
    while pids := processes_of(home):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
