"""The state folder: database, secrets, logs and `demo.json`, readable by its owner only."""

import json
import os
import secrets
from dataclasses import dataclass, fields
from pathlib import Path

from agentsite.embedded.errors import StartError
from agentsite.embedded.locks import FileLock, held

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Secrets:
    """Made once per state folder; URL-safe, at least 32 characters each."""

    secret_key: str
    master_key: str
    database_password: str
    database_admin_password: str


@dataclass(frozen=True)
class Home:
    path: Path

    def lock(self, name: str) -> FileLock:
        return FileLock(self.run(f"{name}.lock"))

    def run(self, name: str) -> Path:
        """The path of a file that matters only while something runs."""
        return _in_folder(self.path / "run", name)

    def log(self, name: str) -> Path:
        """The path of a log, set aside as `.1` once it exceeds 10 MB."""
        path = _in_folder(self.path / "logs", f"{name}.log")
        if path.exists() and path.stat().st_size > 10_000_000:
            path.replace(path.with_suffix(".log.1"))
        return path

    def secrets(self) -> Secrets:
        values: dict[str, str] = json.loads((self.path / "secrets.json").read_text())
        try:
            return Secrets(**{field.name: values[field.name] for field in fields(Secrets)})
        except KeyError as error:
            raise StartError(f"{self.path / 'secrets.json'} lacks {error}: restore it from a backup.") from error


def _in_folder(folder: Path, name: str) -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / name


def open_home() -> Home:
    """The folder of `AGENTSITE_HOME`, else `.agentsite` in the checkout; made with its secrets if missing.

    Raises StartError for a folder that belongs to somebody else or holds other things.
    """
    path = Path(os.environ.get("AGENTSITE_HOME") or CHECKOUT / ".agentsite").absolute()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with held(path):
            _claim(path)
    except OSError as error:
        raise StartError(f"The state folder {path} cannot be used: {error.strerror}.") from error
    return Home(path)


def _claim(path: Path) -> None:
    if not (path / "secrets.json").exists():
        foreign = [entry.name for entry in path.iterdir() if not entry.name.startswith(".secrets")]
        if foreign:
            raise StartError(
                f"{path} holds {foreign[0]} but no secrets.json: restore it, or set AGENTSITE_HOME to a new folder."
            )
        _write_secrets(path)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)


def _write_secrets(path: Path) -> None:
    values = {field.name: secrets.token_urlsafe(36) for field in fields(Secrets)}
    write_private(path / "secrets.json", json.dumps(values, indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Writes the whole file or nothing, mode 0600."""
    temporary = path.with_name(f".{path.stem}-{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
