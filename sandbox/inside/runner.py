"""The Python runtime of a slot: takes one job from standard input, runs it, tells its result, and ends.

It runs in the tenant's process and is no boundary: whatever it says is parsed as the tenant's.
"""

import _sitebuiltins
import ast
import asyncio
import base64
import builtins
import concurrent.futures
import contextlib
import importlib
import inspect
import itertools
import json
import linecache
import os
import resource
import sys
import threading
import traceback
import types
from typing import Any

FRAME = b"\0agentsite "
MAIN = "main.py"
# Loaded while the slot waits, for the code that may want them.
COMMON = (
    "collections csv dataclasses datetime decimal functools hashlib io math random re statistics string textwrap uuid"
)
MB = 1 << 20
BASE_MB = 256  # of address space that the interpreter and its modules need
MAX_FILES, MAX_FILES_BYTES = 100, 8 * MB
ASYNC = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

_channel = -1
_writing = threading.Lock()


class HostError(Exception):
    """The host refused or failed a call."""


class JobError(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def send(kind: str, value: Any) -> None:
    line = FRAME + kind.encode() + json.dumps(value, allow_nan=False).encode() + b"\n"
    with _writing:
        view = memoryview(line)
        while view:
            view = view[os.write(_channel, view) :]


class Host:
    """Calls of the host, from any thread: each waits for the answer of its number."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._numbers = itertools.count(1)
        self._waiting: dict[int, concurrent.futures.Future[Any]] = {}
        self._starting = threading.Lock()
        self._started = False

    def ask(self, method: str, params: dict[str, Any]) -> "concurrent.futures.Future[Any]":
        with self._starting:
            if not self._started:
                threading.Thread(target=self._listen, daemon=True).start()
                self._started = True
        number = next(self._numbers)
        future = self._waiting[number] = concurrent.futures.Future()
        send("C", {"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        return future

    def _listen(self) -> None:
        for line in self._stream:
            answer = json.loads(line)
            future = self._waiting.pop(answer["id"], None)
            if future is None:
                continue
            if "error" in answer:
                future.set_exception(HostError(answer["error"]["message"]))
            else:
                future.set_result(answer["result"])


def agentsite_module(host: Host) -> types.ModuleType:
    """What the code imports as `agentsite`."""

    def call(method: str, /, **params: Any) -> Any:
        return host.ask(method, params).result()

    async def acall(method: str, /, **params: Any) -> Any:
        return await asyncio.wrap_future(host.ask(method, params))

    module = types.ModuleType("agentsite", "The host that runs this code.")
    HostError.__module__ = "agentsite"
    module.call, module.acall, module.HostError = call, acall, HostError  # type: ignore[attr-defined]
    return module


def main(channel: int, packages: list[str]) -> None:
    """`channel` is the descriptor by which it speaks, `packages` folders to import from."""
    global _channel
    _channel = channel
    sys.path[:] = [*packages, *(path for path in sys.path if path != os.path.dirname(__file__)), os.getcwd()]
    stream = take_input()
    for name in COMMON.split():
        importlib.import_module(name)
    for output in (sys.stdout, sys.stderr):
        output.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    send("R", None)
    line = stream.readline()
    if not line:
        os._exit(0)
    job = json.loads(line)
    lower_memory(job["memory_mb"])
    try:
        before = put_files(job["files"])
        result = {"ok": True, "value": run(job, Host(stream))}
        finish(result, before)
    except JobError as error:
        finish({"ok": False, "code": error.code, "message": str(error)})
    except MemoryError:
        finish({"ok": False, "code": "memory", "message": "The code needs more memory than it may have."})
    except SystemExit as error:
        finish({"ok": False, "code": "no_result", "message": f"The code ended itself by exit({error.code!r})."})
    except BaseException as error:
        finish({"ok": False, "code": "error", "message": told(error)})


def take_input() -> Any:
    """Standard input without the code getting at it by `input()`."""
    stream = os.fdopen(os.dup(0), "rb")
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return stream


def lower_memory(megabytes: int) -> None:
    limit = (BASE_MB + megabytes) * MB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def run(job: dict[str, Any], host: Host) -> Any:
    sys.modules["agentsite"] = agentsite_module(host)
    builtins.exit = builtins.quit = _sitebuiltins.Quitter("exit", "Ctrl-D")
    module = types.ModuleType("main")
    module.__file__ = MAIN
    sys.modules["main"] = module
    code = job["code"]
    linecache.cache[MAIN] = (len(code), None, code.splitlines(True), MAIN)
    try:
        tree = compile(code, MAIN, "exec", ast.PyCF_ONLY_AST | ASYNC)
        entry = job["entry_point"]
        return entered(tree, module, entry, job["input"]) if entry else script(tree, module, job["input"])
    except SyntaxError as error:
        if error.filename != MAIN or own_frames(error):
            raise
        raise JobError("syntax", "".join(traceback.format_exception_only(error)).strip()) from None


def entered(tree: ast.Module, module: types.ModuleType, entry: str, value: Any) -> Any:
    exec(compile(tree, MAIN, "exec"), module.__dict__)
    function = getattr(module, entry, None)
    if not callable(function):
        what = "is no function" if hasattr(module, entry) else "does not exist"
        raise JobError("no_entry_point", f"The entry point '{entry}' {what} in the code.")
    result = function(value)
    if inspect.isawaitable(result):
        result = asyncio.run(awaited(result))
    return plain(result)


async def awaited(value: Any) -> Any:
    return await value


def script(tree: ast.Module, module: types.ModuleType, value: Any) -> Any:
    """The value of the last expression, as JSON or as Python shows it. `input` is a name of the module."""
    if value is not None:
        module.__dict__["input"] = value
    last = tree.body[-1] if tree.body else None
    end = compile(ast.Expression(last.value), MAIN, "eval", ASYNC) if isinstance(last, ast.Expr) else None
    body = compile(ast.Module(tree.body[:-1] if end else tree.body, []), MAIN, "exec", ASYNC)
    if any(code and code.co_flags & inspect.CO_COROUTINE for code in (body, end)):
        result = asyncio.run(stepped(body, end, module.__dict__))
    else:
        exec(body, module.__dict__)
        result = eval(end, module.__dict__) if end else None
    try:
        return plain(result)
    except JobError:
        return repr(result)


async def stepped(body: Any, end: Any, names: dict[str, Any]) -> Any:
    result = None
    for code in filter(None, (body, end)):
        result = eval(code, names)
        if inspect.isawaitable(result):
            result = await result
    return result if end else None


def plain(value: Any) -> Any:
    """Raises JobError for what is no JSON."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise JobError("bad_result", f"The result cannot be told as JSON: {error}.") from None


def told(error: BaseException) -> str:
    """The traceback from the tenant's first frame on."""
    chain = traceback.TracebackException(type(error), error, own_frames(error), limit=-20)
    return "".join(chain.format(chain=False))[-8000:].strip()


def own_frames(error: BaseException) -> types.TracebackType | None:
    found = error.__traceback__
    while found and found.tb_frame.f_code.co_filename == __file__:
        found = found.tb_next
    return found


def put_files(files: dict[str, str]) -> dict[str, tuple[int, int]]:
    for path, content in files.items():
        folder = os.path.dirname(path)
        if folder:
            os.makedirs(folder, exist_ok=True)
        with open(path, "wb") as file:
            file.write(base64.b64decode(content))
    return snapshot()


def snapshot() -> dict[str, tuple[int, int]]:
    """Size and time of change, in nanoseconds, of each plain file of the working folder."""
    found: dict[str, tuple[int, int]] = {}
    for folder, _, names in os.walk("."):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                status = os.stat(path)
                found[path[2:]] = (status.st_size, status.st_mtime_ns)
    return found


def changed(before: dict[str, tuple[int, int]]) -> dict[str, str]:
    files: dict[str, str] = {}
    room = MAX_FILES_BYTES
    after = {path: status for path, status in snapshot().items() if before.get(path) != status}
    if len(after) > MAX_FILES or sum(size for size, _ in after.values()) > room:
        limits = f"{MAX_FILES} files and {MAX_FILES_BYTES // MB} MB"
        raise JobError("output", f"The code may leave {limits} in its folder; delete what is not needed.")
    for path in after:
        with open(path, "rb") as file:
            files[path] = base64.b64encode(file.read()).decode()
    return files


def finish(result: dict[str, Any], before: dict[str, tuple[int, int]] | None = None) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the code may have closed or replaced it
            stream.flush()
    if before is not None:
        result["files"] = changed(before)
    send("E", result)
    os._exit(0)
