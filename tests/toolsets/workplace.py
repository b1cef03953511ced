"""An agent with the kind `files`, and a workspace with what must not be reached around it."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from core import beneath
from core.ids import uuid7
from tests.toolsets.tools import Recorded
from toolsets.base import ToolCallContext
from toolsets.kinds.files.toolset import FilesConfig
from toolsets.registry import toolset_kinds
from toolsets.toolbox import GrantedToolset

SECRET = "SECRET of somebody else"
WAYS = ["openat2", "walking"]


class Agent(Recorded):
    """`ok` and `no` call a tool, and are told its answer or its error."""

    def __init__(self, context: ToolCallContext, **config: Any) -> None:
        super().__init__(GrantedToolset("files", "1", toolset_kinds()["files"].tools(FilesConfig(**config))))
        self._context = context

    async def told(self, name: str, **arguments: Any) -> tuple[str, bool]:
        text = await self.ask(name, json.dumps(arguments))
        return text, self.results[-1].is_error

    async def ok(self, name: str, **arguments: Any) -> str:
        text, is_error = await self.told(name, **arguments)
        assert not is_error, text
        return text

    async def no(self, name: str, **arguments: Any) -> str:
        text, is_error = await self.told(name, **arguments)
        assert is_error, text
        assert text != "The tool failed on the server."
        return text

    async def names(self, folder: str = "") -> list[str]:
        return [file["name"] for file in json.loads(await self.ok("list_files", folder=folder))["files"]]


def in_session(tenant: UUID | None = None, session: UUID | None = None, **config: Any) -> Agent:
    return Agent(ToolCallContext(tenant or uuid7(), run_id=uuid7(), session_id=session or uuid7()), **config)


def folder_of(agent: Agent, base: Path) -> Path:
    context = agent._context
    return base / str(context.tenant_id) / f"session-{context.session_id}"


def snapshot(top: Path) -> dict[str, Any]:
    """Names, kinds, contents and times of everything below a folder."""
    found = {}
    for path in sorted([top, *top.rglob("*")]):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path)] = (status.st_mode, status.st_nlink, status.st_mtime_ns, content)
    return found


def furnish(root: Path, outside: Path) -> list[socket.socket]:
    """Links, fifos and the like in the workspace, as somebody beside the tools may put them there."""
    (outside / "deep").mkdir(parents=True)
    for name in ("secret.txt", "deep/secret.txt", "hard.txt"):
        (outside / name).write_text(f"{SECRET}\n")
    (root / "plain").mkdir(parents=True)
    (root / "plain" / "file.txt").write_text("mine\n")
    links = {
        "to-file": outside / "secret.txt",
        "to-folder": outside,
        "to-deep": outside / "deep",
        "up": Path(".."),
        "up-two": Path("../.."),
        "relative-file": Path(os.path.relpath(outside / "secret.txt", root)),
        "relative-folder": Path(os.path.relpath(outside, root)),
        "self": Path("self"),
        "here": Path("."),
        "to-plain": Path("plain"),
        "to-own-file": Path("plain/file.txt"),
        "to-link": Path("to-folder"),
        "top": Path("/"),
        "etc": Path("/etc"),
        "passwd": Path("/etc/passwd"),
        "proc-root": Path("/proc/self/root"),
        "proc-cwd": Path("/proc/self/cwd"),
        "proc-fd": Path("/proc/self/fd"),
        "proc": Path("/proc"),
        "proc-exe": Path("/proc/self/exe"),
        "dev": Path("/dev"),
        "zero": Path("/dev/zero"),
        "tty": Path("/dev/tty"),
        "stdin": Path("/dev/stdin"),
        "nowhere": outside / "new.txt",
        "plain/up": Path("../.."),
        "plain/to-folder": outside,
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    os.link(outside / "hard.txt", root / "hard.txt")
    os.link(outside / "hard.txt", root / "plain" / "hard.txt")
    os.mkfifo(root / "fifo")
    return [_socket(root / "socket")]


def _socket(path: Path) -> socket.socket:
    """Bound from within its folder: an address has at most 107 bytes."""
    listening, here = socket.socket(socket.AF_UNIX), os.getcwd()
    os.chdir(path.parent)
    try:
        listening.bind(path.name)
    finally:
        os.chdir(here)
    return listening


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to open a path; the first one needs Linux 5.6."""
    monkeypatch.setattr(beneath, "has_openat2", lambda: request.param == "openat2")
    return request.param


@pytest.fixture
def base(tmp_path: Path, settings: Any) -> Iterator[Path]:
    settings.WORKSPACE_DIR = tmp_path / "workspaces"
    return settings.WORKSPACE_DIR
