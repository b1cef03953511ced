"""What kinds of toolsets may count on: whose files they are, how much there may be, and what a failure leaves."""

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from agentsite.embedded.home import CHECKOUT
from core.ids import uuid7
from tests.toolsets.workplace import base, way
from toolsets import workspace as module
from toolsets.base import ToolCallContext
from toolsets.exceptions import ToolError
from toolsets.workspace import MB, Limits, Usage, Workspace, in_thread, workspace_of

__all__ = ["base", "way"]
NEVER = threading.Event()


def put(workspace: Workspace, path: str, content: bytes) -> None:
    workspace.change(path, lambda old: content, NEVER)


def got(workspace: Workspace, path: str) -> bytes:
    with workspace.open(path) as file:
        return file.read()


def paths(workspace: Workspace) -> list[str]:
    return sorted(file.path for file in workspace.files())


@pytest.fixture
def workspace(base: Path) -> Workspace:
    return workspace_of(ToolCallContext(uuid7()), limits=Limits(1000, 500))


def root_of(base: Path) -> Path:
    (tenant,) = base.iterdir()
    return tenant / "trials"


def test_it_is_made_on_first_use_for_its_owner_only(base: Path, workspace: Workspace) -> None:
    assert (paths(workspace), workspace.usage()) == ([], Usage(0, 0))
    with pytest.raises(ToolError, match="has no 'a/b'"):
        got(workspace, "a/b")
    with pytest.raises(ToolError, match="has no 'a/b'"):
        workspace.delete("a/b", NEVER)
    assert not base.exists()
    put(workspace, "a/b", b"x")
    modes = {path.name: path.stat().st_mode & 0o777 for path in [base, *base.rglob("*")]}
    assert modes.pop("b") == modes.pop("trials.lock") == 0o600
    assert set(modes.values()) == {0o700}


def test_whose_it_is(base: Path) -> None:
    tenant, session, run = uuid7(), uuid7(), uuid7()
    spaces = {
        "session": workspace_of(ToolCallContext(tenant, run, session)),
        "run": workspace_of(ToolCallContext(tenant, run)),
        "trials": workspace_of(ToolCallContext(tenant)),
        "tenant": workspace_of(ToolCallContext(tenant), "tenant"),
        "other session": workspace_of(ToolCallContext(tenant, run, uuid7())),
        "other run": workspace_of(ToolCallContext(tenant, uuid7())),
        "other tenant": workspace_of(ToolCallContext(uuid7())),
        "other tenant's session": workspace_of(ToolCallContext(uuid7(), run, session)),
    }
    for name, space in spaces.items():
        put(space, "whose", name.encode())
    assert {name: got(space, "whose").decode() for name, space in spaces.items()} == {name: name for name in spaces}
    assert got(workspace_of(ToolCallContext(tenant, uuid7(), session)), "whose") == b"session"
    assert got(workspace_of(ToolCallContext(tenant, run, session), "tenant"), "whose") == b"tenant"


def test_what_a_change_is_given_and_leaves(workspace: Workspace, way: str) -> None:
    assert workspace.change("deep/er/file", lambda old: b"new" if old is None else b"", NEVER) == 3
    assert workspace.change("deep/er/file", lambda old: (old or b"") + b"er", NEVER) == 5
    assert got(workspace, "deep/er/file") == b"newer"
    assert workspace.usage() == Usage(5, 3)
    workspace.delete("deep/er/file", NEVER)
    assert workspace.usage() == Usage(0, 0)  # the folders went with it


def test_a_reader_keeps_what_it_opened(workspace: Workspace) -> None:
    put(workspace, "file", b"old")
    with workspace.open("file") as file:
        put(workspace, "file", b"new")
        assert file.read() == b"old"
    assert got(workspace, "file") == b"new"


@pytest.mark.parametrize(
    ("path", "content", "complaint"),
    [
        ("big", b"x" * 501, "A file may have 0.0005 MB; the toolset's max_file_mb raises that."),
        ("a/b/c", b"x" * 201, "may have 0.001 MB and has 0.0008 MB: delete files. The toolset's quota_mb raises it."),
    ],
)
def test_limits_leave_things_as_they_were(workspace: Workspace, path: str, content: bytes, complaint: str) -> None:
    put(workspace, "one", b"x" * 400)
    put(workspace, "two", b"x" * 400)
    with pytest.raises(ToolError) as raised:
        put(workspace, path, content)
    assert complaint in str(raised.value)
    assert workspace.usage() == Usage(800, 2)
    put(workspace, path, b"x" * 200)
    put(workspace, "two", b"x" * 399)  # what is full may shrink
    put(workspace, "two", b"x" * 400)


def test_too_many_files(workspace: Workspace, settings: Any) -> None:
    settings.WORKSPACE_ENTRIES = 3
    put(workspace, "a/b/c", b"")
    with pytest.raises(ToolError, match="has 3 files and folders.*WORKSPACE_ENTRIES"):
        put(workspace, "d", b"")
    put(workspace, "a/b/c", b"more")
    workspace.delete("a/b/c", NEVER)
    put(workspace, "d", b"")


def test_a_link_counts_nothing_and_a_file_with_two_names_does(base: Path, workspace: Workspace) -> None:
    put(workspace, "file", b"12345")
    os.link(root_of(base) / "file", root_of(base) / "again")
    (root_of(base) / "link").symlink_to("/etc/passwd")
    assert workspace.usage() == Usage(10, 3)


class Broken(Exception):
    pass


@pytest.mark.parametrize("step", ["rename", "fsync", "mkdir"])
def test_a_write_that_breaks_leaves_nothing(
    base: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    put(workspace, "file", b"old")
    real, calls = getattr(os, step), []

    def breaks(*args: Any, **kwargs: Any) -> None:
        calls.append(args)
        if step == "mkdir" and len(calls) < 3:
            return real(*args, **kwargs)
        raise Broken

    with monkeypatch.context() as patched:
        patched.setattr(os, step, breaks)
        for path in ["a/b/c/d"] if step == "mkdir" else ["file", "a/b/c/d"]:
            with pytest.raises(Broken):
                put(workspace, path, b"new")
    assert [path.name for path in root_of(base).rglob("*")] == ["file"]
    assert got(workspace, "file") == b"old"


def test_what_a_killed_writer_left_is_removed_by_the_next(base: Path, workspace: Workspace) -> None:
    put(workspace, "a/file", b"old")
    left = root_of(base) / "a" / f".{'a' * 22}.part"
    left.write_bytes(b"x" * 900)
    assert paths(workspace) == ["a/file"]
    put(workspace, "b", b"x" * 400)  # for which there would be no room
    assert not left.exists()


async def test_a_change_that_nobody_waits_for_is_not_made(workspace: Workspace) -> None:
    begun, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def slow(old: bytes | None) -> bytes:
        begun.set()
        go_on.wait(10)
        return b"late"

    def work(abandoned: threading.Event) -> None:
        try:
            workspace.change("a/file", slow, abandoned)
        finally:
            over.set()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await in_thread(work)
    assert begun.is_set()
    go_on.set()
    assert await asyncio.to_thread(over.wait, 10)
    assert workspace.usage() == Usage(0, 0)


def test_a_writer_does_not_wait_for_ever(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_WAIT", 0.05)

    def within(old: bytes | None) -> bytes:
        with pytest.raises(ToolError, match="Others are writing"):
            put(workspace, "other", b"x")
        gone = threading.Event()
        gone.set()
        with pytest.raises(ToolError, match="Others are writing"):
            workspace.delete("other", gone)
        return b"mine"

    workspace.change("file", within, NEVER)
    assert paths(workspace) == ["file"]


APPENDING = """
import sys, threading
from pathlib import Path
from toolsets.workspace import Limits, Workspace
workspace = Workspace(Path(sys.argv[1]), "t", "shared", Limits())
for number in range(20):
    line = f"{sys.argv[2]} {number}\\n".encode()
    workspace.change("log", lambda old: (old or b"") + line, threading.Event())
"""


def test_no_line_of_several_processes_is_lost(base: Path) -> None:
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "agentsite.settings"}
    command = [sys.executable, "-c", APPENDING, str(base)]
    started = [subprocess.Popen([*command, str(number)], cwd=CHECKOUT, env=env) for number in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    lines = got(Workspace(base, "t", "shared", Limits()), "log").decode().splitlines()
    assert sorted(lines) == sorted(f"{process} {number}" for process in range(3) for number in range(20))


def test_the_default_limits_hold_a_large_file(base: Path) -> None:
    workspace = workspace_of(ToolCallContext(uuid7()))
    put(workspace, ".tmp/page.html", b"x" * 10 * MB)
    assert workspace.usage() == Usage(10 * MB, 2)


def test_temporary_files_go_by_themselves(workspace: Workspace, base: Path, way: str) -> None:
    for path in ("notes.txt", ".tmp/old.html", ".tmp/deep/old.html", ".tmp/new.html"):
        put(workspace, path, b"x")
    other = workspace_of(ToolCallContext(uuid7()))
    put(other, ".tmp/old.html", b"x")
    for file in base.glob("*/*/**/old.html"):
        os.utime(file, (0, 0))
    os.utime(next(base.glob("*/*/notes.txt")), (0, 0))
    outside = base.parent / "outside"
    outside.mkdir()
    (outside / "old.html").write_text("x")
    os.utime(outside / "old.html", (0, 0))
    next(base.glob("*/*/.tmp/new.html")).with_name("away").symlink_to(outside)
    linked = workspace_of(ToolCallContext(uuid7()))
    put(linked, "a", b"x")
    (next(path for path in base.glob("*/*/a")).parent / ".tmp").symlink_to(outside)
    (base / "no-tenant").mkdir()
    module.forget_temporary(seconds=3600)
    module.forget_temporary(seconds=3600)
    assert paths(workspace) == [".tmp/new.html", "notes.txt"]
    assert paths(other) == []
    assert (outside / "old.html").exists()
