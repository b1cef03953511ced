"""One slot: a jailed process that waits for a job, does it, and is never used again."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

from sandbox.pool import jail
from sandbox.pool.frames import Frames
from sandbox.pool.reaper import Reaper
from sandbox.wire import CALL, END, STDERR, STDOUT

PIECE = 65536
MAX_PRINTED = 1 << 20  # bytes of standard output, and of standard error
MAX_TOLD = 32 << 20  # bytes of all that a slot tells of its own: its result with files, and calls of the host
MAX_ENTRIES = 5000  # files and folders that it may make
NICE = 15
LOOK_SECONDS = 0.25  # between two looks at what it wrote
Tell = Callable[[bytes, bytes], None]  # kind and payload of a frame


class Slot:
    """`start` it, `begin` a job, await `over`, then `end` it; all but `end` is quick. Not for threads."""

    def __init__(self, wall: jail.Wall, terms: jail.Terms, uid: int | None, reaper: Reaper) -> None:
        self.wall, self.terms, self.uid = wall, terms, uid
        loop = asyncio.get_running_loop()
        self.facts: dict[str, Any] = {}
        self.ready: asyncio.Future[bool] = loop.create_future()  # False: it died before
        self.over: asyncio.Future[str] = loop.create_future()  # why: end, exit or output
        self.gone: asyncio.Future[int] = loop.create_future()  # exit code, once its process is reaped
        self.complaint = b""  # what was printed before the job
        self._loop, self._tell = loop, None  # type: tuple[asyncio.AbstractEventLoop, Tell | None]
        self._frames = Frames()
        self._inner: int | None = None  # descriptor of the jail's first process
        self._status = b""
        self._has_begun, self._is_slowed = 0.0, False
        self._input = bytearray()
        self._counts = {STDOUT: 0, STDERR: 0, END: 0}
        self._start()
        reaper.watch(self._process.pid, self._exited)

    def _start(self) -> None:
        self._folder = "/tmp" if self.wall.bwrap else self._own_folder()  # noqa: S108 of the jail
        ours: dict[str, int] = {}
        theirs: dict[str, int] = {}
        theirs["in"], ours["in"] = os.pipe()
        for name in ("out", "err", "channel", "status"):
            ours[name], theirs[name] = os.pipe()
        theirs["filter"] = jail.filter_file()
        try:
            made = jail.start(self.wall, self.terms, self.uid, self._folder, theirs)
            passed = [theirs[name] for name in made.passed]
            self._process = _spawn(made, (theirs["in"], theirs["out"], theirs["err"]), passed)
        except BaseException:
            for descriptor in ours.values():
                os.close(descriptor)
            raise
        finally:
            for descriptor in theirs.values():
                os.close(descriptor)
        self._open = ours
        self._watch()

    def _own_folder(self) -> str:
        folder = tempfile.mkdtemp(prefix="agentsite-slot-")
        for path in (f"{folder}/work", folder):
            os.makedirs(path, mode=0o700, exist_ok=True)
            if self.uid is not None:
                os.chown(path, self.uid, self.uid)
        return folder

    def _watch(self) -> None:
        for descriptor in self._open.values():
            os.set_blocking(descriptor, False)
        for name in self._readers():
            self._loop.add_reader(self._open[name], self._readable, name)

    def _readers(self) -> dict[str, Callable[[bytes], None]]:
        mixed = self.terms.runtime == "deno"  # has no way to a descriptor of its own
        return {
            "out": self._on_channel if mixed else partial(self._on_print, STDOUT),
            "err": partial(self._on_print, STDERR),
            "channel": self._on_channel,
            "status": self._on_status,
        }

    def _readable(self, name: str) -> None:
        try:
            data = os.read(self._open[name], PIECE)
        except BlockingIOError:
            return
        if data:
            self._readers()[name](data)
        else:
            self._close(name)

    def finish_reading(self) -> None:
        """Reads what lies in the pipes; a slot that still runs may write on for ever."""
        for name in self._readers():
            for _ in range(4):
                if name in self._open:
                    self._readable(name)

    def _close(self, name: str) -> None:
        descriptor = self._open.pop(name, None)
        if descriptor is not None:
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)
            os.close(descriptor)

    def _on_status(self, data: bytes) -> None:
        """bubblewrap's first line tells the jail's first process: with it all others end."""
        self._status += data  # the line comes in pieces
        if self._inner is None and b"\n" in self._status:
            with contextlib.suppress(ProcessLookupError):
                self._inner = os.pidfd_open(json.loads(self._status.splitlines()[0])["child-pid"])

    def _on_print(self, kind: bytes, data: bytes) -> None:
        if self._tell is None:
            self.complaint = (self.complaint + data)[-2000:]
            return
        room = MAX_PRINTED - self._counts[kind]
        self._counts[kind] += len(data)
        if room > 0:
            self._tell(kind, data[:room])
        if len(data) > room:
            self._finish("output")

    def _on_channel(self, data: bytes) -> None:
        self._counts[END] += len(data)
        if self._counts[END] > MAX_TOLD:
            self._finish("output")
            return
        for kind, payload in self._frames.feed(data):
            self._on_frame(kind, payload)

    def _on_frame(self, kind: str, payload: bytes) -> None:
        if kind == "" and self._tell is not None:
            self._on_print(STDOUT, payload)
        elif kind == "S" and not self.facts:
            self.facts = json.loads(payload)
        elif kind == "R" and not self.ready.done():
            self.ready.set_result(True)
        elif self._tell is None or self.over.done():
            return
        elif kind == "C":
            self._tell(CALL, payload)
        elif kind == "E":
            self._tell(END, payload)
            self._finish("end")

    def _exited(self, code: int) -> None:
        self._process.returncode = code
        self.finish_reading()
        self._finish("exit")
        if not self.ready.done():
            self.ready.set_result(False)
        self.gone.set_result(code)

    def _finish(self, why: str) -> None:
        if not self.over.done():
            self.over.set_result(why)

    def begin(self, line: bytes, tell: Tell, *, slow: bool) -> None:
        """`slow`: it goes behind others from its start on."""
        self._tell = tell
        self._has_begun = self._loop.time()
        self.write(line)
        if slow:
            self.ready.add_done_callback(lambda _: self._slow_down())
        self._look()

    def write(self, line: bytes) -> None:
        """To the slot; as it reads."""
        self._input += line + b"\n"
        self._push()

    def _push(self) -> None:
        descriptor = self._open.get("in")
        if descriptor is None:
            return
        try:
            del self._input[: os.write(descriptor, self._input[:PIECE])]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._close("in")
            return
        if self._input:
            self._loop.add_writer(descriptor, self._push)
        else:
            self._loop.remove_writer(descriptor)

    def _look(self) -> None:
        """Many small files are within every limit of the kernel's: they are counted, now and then."""
        if self.over.done():
            return
        if not self._is_slowed and self._has_begun < self._loop.time() - LOOK_SECONDS:
            self._slow_down()
        if self._is_littered():
            self._finish("output")
        self._loop.call_later(LOOK_SECONDS, self._look)

    def _slow_down(self) -> None:
        """What takes long goes behind short jobs, and behind the slots that start."""
        self._is_slowed = True
        for pid in _below(self._process.pid):
            with contextlib.suppress(OSError):  # it ends, or the kernel has no groups
                os.setpriority(os.PRIO_PROCESS, pid, NICE)
                with open(f"/proc/{pid}/autogroup", "w") as file:  # of its session: Linux shares the CPU by these first
                    file.write(str(NICE))

    def _is_littered(self) -> bool:
        if not self.wall.bwrap:
            return _exceeds(self._folder, MAX_ENTRIES, jail.FOLDER_MB * jail.MB)
        if self._inner is None or not self.ready.done():  # before, its root is still the machine's
            return False
        try:
            found = os.statvfs(f"/proc/{_pid(self._inner)}/root{self._folder}")
        except OSError:  # it ends
            return False
        return found.f_files - found.f_ffree > MAX_ENTRIES

    async def end(self) -> int:
        """Kills it, with all that it started, and answers its exit code once it is reaped."""
        if self.over.done():
            self.finish_reading()
        self._finish("exit")
        self._kill()
        code = await self.gone
        self._tell = None
        for name in list(self._open):
            self._close(name)
        if self._inner is not None:
            os.close(self._inner)
        if not self.wall.bwrap:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        return code

    def _kill(self) -> None:
        """The jail's first process; killing bubblewrap outside would leave a zombie for more than a second."""
        if self.gone.done():
            return
        with contextlib.suppress(ProcessLookupError):
            if self._inner is not None:
                signal.pidfd_send_signal(self._inner, signal.SIGKILL)
            else:
                os.kill(self._process.pid, signal.SIGKILL)  # Popen.kill would reap it


def _spawn(made: jail.Start, streams: tuple[int, int, int], passed: list[int]) -> subprocess.Popen[bytes]:
    """No code of ours runs between fork and exec. It stays in the pool's process group, until it is jailed."""
    return subprocess.Popen(
        made.command,
        stdin=streams[0],
        stdout=streams[1],
        stderr=streams[2],
        pass_fds=passed,
        env=dict([jail.ONE_ARENA]),
        cwd="/",
        user=made.uid,
        group=made.uid,
        extra_groups=None if made.uid is None else [],
    )


def _pid(descriptor: int) -> int:
    with open(f"/proc/self/fdinfo/{descriptor}") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))


def _below(pid: int) -> list[int]:
    """The threads of a process, and of those that it started."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            found.append(int(thread))
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                for child in file.read().split():
                    found += _below(int(child))
    return found


def _exceeds(folder: str, entries: int, size: int) -> bool:
    waiting = [folder]
    while waiting:
        with contextlib.suppress(FileNotFoundError, PermissionError), os.scandir(waiting.pop()) as found:
            for entry in found:
                entries -= 1
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    size -= entry.stat(follow_symlinks=False).st_size
                if entries < 0 or size < 0:
                    return True
    return False
