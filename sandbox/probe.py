"""Attacks that must fail: run before anybody is told that this server runs code safely."""

import asyncio
import functools
import logging
import os
import secrets
import socket
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from core.errors import ApplicationError
from sandbox import client
from sandbox.exceptions import JobFailed, SandboxUnavailable
from sandbox.jobs import Job, Language, run_job

logger = logging.getLogger(__name__)
SECONDS = 20.0  # of each attack
# Each ends with a true value if it got through.
PYTHON = {
    "reads a file of the server": "open({secret!r}).read()",
    "reads the server's environment": "open('/proc/{pid}/environ').read() or True",
    "writes outside its folder": "open({target!r}, 'w').write('x')",
    "connects to the server": "import socket\nsocket.create_connection(('127.0.0.1', {port}), 2) is not None",
    "starts a process": "import os\nos.fork() >= 0",
    "executes a program": "import os, sys\nos.execv(sys.executable, ['python', '-c', 'pass'])",
    "becomes root": "import os\nos.setuid(0) is None",
}
DENO = {
    "reads a file of the server": "Deno.readTextFileSync({secret!r})",
    "writes outside its folder": "Deno.writeTextFileSync({target!r}, 'x') === undefined",
    "connects to the server": "export default await Deno.connect({{ hostname: '127.0.0.1', port: {port} }}) !== null",
    "starts a process": "new Deno.Command('/opt/deno').outputSync()",
    "reads the environment": "Object.keys(Deno.env.toObject()).length",
}


@dataclass(frozen=True, slots=True)
class Probed:
    """`walls` by runtime, `broken` what got through or could not be tried, `missing` what to install."""

    walls: dict[str, str]
    broken: list[str]
    missing: str = ""

    @property
    def is_safe(self) -> bool:
        return bool(self.walls) and not self.broken


async def probe() -> Probed:
    """Runs every attack in a pool of its own, which ends with it."""
    with _Bait() as bait:
        try:
            return await _attacked(bait)
        finally:
            await client.shut_down()


async def _attacked(bait: "_Bait") -> Probed:
    broken: list[str] = []
    missing: list[str] = []
    for language, attacks in ((Language.PYTHON, PYTHON), (Language.JAVASCRIPT, DENO)):
        try:
            await run_job(Job(language, "1"))
        except SandboxUnavailable as error:
            missing.append(error.message)
            continue
        for name, source in attacks.items():
            if await _succeeds(language, source.format(**bait.places)):
                broken.append(f"{language} {name}")
    if bait.was_touched():
        broken.append("the bait was touched")
    return Probed(client.client().state.walls, broken, " ".join(dict.fromkeys(missing)))


async def _succeeds(language: Language, source: str) -> bool:
    """Something else than the code's own failure counts as a success: it is no proof."""
    try:
        return bool((await run_job(Job(language, source, timeout=SECONDS))).value)
    except JobFailed as error:
        return error.code not in ("error", "no_result", "crashed")
    except ApplicationError:
        return True


class _Bait:
    """What the attacks are after: a secret that any user may read, a place to write, a port."""

    def __enter__(self) -> "_Bait":
        self._folder = Path(tempfile.mkdtemp(prefix="agentsite-probe-"))
        self._folder.chmod(0o777)
        self._secret = self._folder / "secret"
        self._secret.write_text(secrets.token_hex())
        self._secret.chmod(0o644)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.places = {
            "secret": str(self._secret),
            "target": str(self._folder / "written"),
            "pid": os.getpid(),
            "port": self._listener.getsockname()[1],
        }
        return self

    def was_touched(self) -> bool:
        try:
            self._listener.accept()
        except BlockingIOError:
            return (self._folder / "written").exists()
        return True

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for path in self._folder.iterdir():
            path.unlink()
        self._folder.rmdir()


class Standing:
    """The last probe of this process, made in a thread when somebody first asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._probed: Probed | None = None

    def ask(self) -> Probed | None:
        """None while it is not known yet."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sandbox-probe", daemon=True)
                self._thread.start()
        return self._probed

    def wait(self) -> Probed:
        self.ask()
        assert self._thread is not None
        self._thread.join()
        assert self._probed is not None
        return self._probed

    def _run(self) -> None:
        try:
            self._probed = asyncio.run(probe())
        except Exception:  # nobody waits for this thread
            logger.exception("The sandbox could not be probed")
            self._probed = Probed({}, ["it could not be attacked; the log says why"])


@functools.cache
def standing() -> Standing:
    return Standing()


def describe() -> tuple[str, str]:
    """Status and detail of the health component."""
    if settings.SANDBOX_LEVEL == "off":
        return "absent", "Switched off: SANDBOX_LEVEL."
    probed = standing().ask()
    if probed is None:
        return "absent", "It is being attacked to see whether it holds; ask again."
    if probed.broken:
        return "degraded", f"It does not hold: {', '.join(probed.broken)}."
    if not probed.walls:
        return "degraded", probed.missing
    walls = ", ".join(f"{runtime} by {wall}" for runtime, wall in sorted(probed.walls.items()))
    return ("degraded" if probed.missing else "ok"), f"{walls}. {client.figures()} {probed.missing}".strip()
