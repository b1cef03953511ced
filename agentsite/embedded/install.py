"""The virtual environment `.venv` and the locked, hash-checked packages in it. Standard library only."""

import ast
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from agentsite.embedded.console import CommandError, say, step
from agentsite.embedded.errors import StartError
from agentsite.embedded.home import CHECKOUT, Home
from agentsite.embedded.locks import FileLock

VENV = CHECKOUT / ".venv"
PYTHON = VENV / "bin" / "python"
UV = VENV / "bin" / "uv"
STAMPS = VENV / "installed"
INSTALLER = Path("requirements/installer.txt")
RUNTIME = Path("requirements.txt")
TESTS = Path("requirements/test.txt")
LOCAL_MODEL = Path("requirements/local.txt")
BEGUN = "begun"
FREE_BYTES = 1_500_000_000
# What pip is told about indexes, in uv's words.
UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "cert": "SSL_CERT_FILE",
    "trusted-host": "UV_INSECURE_HOST",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "proxy": "ALL_PROXY",
}


def install(home: Home, *locks: Path) -> None:
    """Makes the environment and installs each lock that changed since it was installed. Raises StartError."""
    checkout = FileLock(CHECKOUT)
    if not checkout.acquire(wait=False):
        say("Waiting for another start.py to finish its installation.")
        checkout.acquire()
    try:
        pending = [lock for lock in locks if not _installed(lock)]
        if pending:
            _require_space()
            _make_environment(home)
        for lock in pending:
            _install(home, lock)
    except CommandError as error:
        raise StartError(f"The installation failed: {error} (log: {home.log('install')})") from error
    finally:
        checkout.release()


def install_local_model(home: Home) -> bool:
    """Without it everything works but `local/smollm2`, so a failure is only said."""
    try:
        install(home, LOCAL_MODEL)
    except StartError as error:
        say(f"Warning: no local model. {error}")
        return False
    return True


def _require_space() -> None:
    free = shutil.disk_usage(CHECKOUT).free
    if free < FREE_BYTES:
        raise StartError(
            f"The disk of {CHECKOUT} has {free / 1e9:.1f} GB free, the packages need 1.5 GB: free some space."
        )


def _make_environment(home: Home) -> None:
    """`venv` writes `activate` last: without it an earlier attempt was interrupted."""
    if PYTHON.exists() and (VENV / "bin" / "activate").exists() and not _of_another_python():
        return
    if not importlib.util.find_spec("venv") or not importlib.util.find_spec("ensurepip"):
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise StartError(f"This Python has no venv module; on Debian and Ubuntu: apt install python{version}-venv")
    step("Making the virtual environment", [sys.executable, "-m", "venv", "--clear", str(VENV)], home.log("install"))


def _of_another_python() -> bool:
    return any(not stamp.read_text().endswith(_python_id()) for stamp in STAMPS.glob("*"))


def _python_id() -> str:
    return str(PYTHON.resolve())


def _install(home: Home, lock: Path) -> None:
    """An interrupted installation can leave half a package that looks whole, so the next one replaces them all."""
    STAMPS.mkdir(exist_ok=True)
    stamp = STAMPS / lock.name
    again = stamp.exists() and stamp.read_text().startswith(BEGUN)
    stamp.write_text(f"{BEGUN} {_python_id()}")
    options = [
        "--require-hashes",
        "--no-deps",
        "-r",
        str(CHECKOUT / lock),
    ]
    count = sum(line[:1].isalnum() for line in (CHECKOUT / lock).read_text().splitlines())
    title = f"Installing {count} packages of {lock}"
    try:
        _get_uv(home)
        command = [
            str(UV),
            "pip",
            "install",
            "--python",
            str(PYTHON),
            *(["--reinstall"] if again else []),
            *options,
        ]
        step(title, command, home.log("install"), uv_environment(home))
    except CommandError as error:
        say(f"uv cannot do it ({error}); trying pip.")
        command = [*_pip(home), "install", *(["--force-reinstall"] if again else []), *options]
        step(title, command, home.log("install"))
    stamp.write_text(_fingerprint(lock))


def _get_uv(home: Home) -> None:
    if not UV.exists():
        command = [*_pip(home), "install", "--require-hashes", "-r", str(CHECKOUT / INSTALLER)]
        step("Getting the installer", command, home.log("install"))


def _pip(home: Home) -> list[str]:
    """An environment that uv made has no pip."""
    if subprocess.run([str(PYTHON), "-c", "import pip"], capture_output=True).returncode:
        step("Getting pip", [str(PYTHON), "-m", "ensurepip"], home.log("install"))
    return [str(PYTHON), "-m", "pip", "--no-cache-dir", "--disable-pip-version-check", "--no-input"]


def uv_environment(home: Home) -> dict[str, str]:
    """uv's cache in the state folder, and pip's configuration, which uv does not read.

    pip takes the best version of all indexes; uv must, too. The hashes of the lock make that safe.
    """
    env = {"UV_CACHE_DIR": str(home.path / "cache"), "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}
    listed = subprocess.run([*_pip(home), "config", "list"], capture_output=True, text=True).stdout
    for line in reversed(listed.splitlines()):  # the environment's come first and win
        key, _, value = line.partition("=")
        name = UV_NAMES.get(key.removeprefix(":env:").rpartition(".")[2])
        if name:
            env[name] = ("," if name == "UV_FIND_LINKS" else " ").join(ast.literal_eval(value).split())
            env["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return {**env, **os.environ}


def _installed(lock: Path) -> bool:
    stamp = STAMPS / lock.name
    return PYTHON.exists() and stamp.exists() and stamp.read_text() == _fingerprint(lock)


def _fingerprint(lock: Path) -> str:
    """Changes with the lock and with the Python below the environment."""
    return hashlib.sha256((CHECKOUT / lock).read_bytes()).hexdigest() + " " + _python_id()
