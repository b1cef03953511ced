"""Packages for tenants' code: fetched when a version is published, never when it runs. Nothing of them is executed."""

import asyncio
import hashlib
import json
import logging
import os
import re
import stat
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath
from typing import Any

from django.conf import settings
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from core.errors import InvalidRequest
from sandbox.client import program
from sandbox.exceptions import SandboxUnavailable
from sandbox.jobs import Language
from sandbox.pool import runtimes

logger = logging.getLogger(__name__)
MAX_REQUIREMENTS = 50
MAX_MEMBERS, MAX_BYTES = 30_000, 500_000_000  # of all wheels, unpacked
MAX_BUNDLE = 20_000_000  # bytes
SECONDS = 300.0  # for pip, and for each bundle
_PYTHON = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,100})==([A-Za-z0-9][A-Za-z0-9.!+_-]{0,60})")
_NPM = re.compile(r"((?:@[a-z0-9~._-]{1,100}/)?[a-z0-9~][a-z0-9~._-]{0,100})@(\d+\.\d+\.\d+[A-Za-z0-9.+-]{0,60})")
# What pip and deno are told of the way to their registries.
_PASSED = re.compile(r"(PIP|NPM_CONFIG|SSL_CERT|DENO|NODE_EXTRA|REQUESTS_CA)_\w+|(HTTPS?|ALL|NO)_PROXY|HOME|PATH", re.I)


@dataclass(frozen=True, slots=True)
class ResolvedPackages:
    """`folder` is read-only and named by `digest`, of all that is in it."""

    digest: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Pin:
    name: str
    version: str


async def resolve(language: Language, requirements: Sequence[str]) -> ResolvedPackages:
    """Wheels, or modules bundled to one file each, of exactly these versions.

    Raises InvalidRequest for what is not allowed, not pinned, not complete or not there.
    """
    pins = _pins(language, requirements)
    store = settings.SANDBOX_PACKAGE_DIR
    await asyncio.to_thread(store.mkdir, mode=0o755, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store, prefix=".") as name:
        work, made = Path(name), Path(name) / "made"
        made.mkdir(mode=0o755)
        await (_wheels(pins, work, made) if language is Language.PYTHON else _bundles(pins, work, made))
        return await asyncio.to_thread(_kept, made, store)


def _pins(language: Language, requirements: Sequence[str]) -> list[Pin]:
    """All faults at once."""
    form = _PYTHON if language is Language.PYTHON else _NPM
    example = "name==1.2.3" if language is Language.PYTHON else "name@1.2.3"
    allowed = {canonicalize_name(name) for name in settings.SANDBOX_PACKAGES}
    faults, pins = [], []
    for number, requirement in enumerate(requirements):
        found = form.fullmatch(requirement)
        if found is None:
            faults.append(_fault(number, "not_pinned", f"'{requirement[:100]}' has not the form {example}."))
        elif "*" not in allowed and canonicalize_name(found[1]) not in allowed:
            message = f"'{found[1]}' is not allowed here; SANDBOX_PACKAGES on the server lists what is."
            faults.append(_fault(number, "not_allowed", message))
        else:
            pins.append(Pin(found[1], found[2]))
    if len(requirements) > MAX_REQUIREMENTS:
        faults.append(_fault(MAX_REQUIREMENTS, "too_many", f"At most {MAX_REQUIREMENTS} packages."))
    if faults:
        raise InvalidRequest(faults[0]["message"], code="packages_invalid", param="requirements", details=faults)
    return pins


def _fault(number: int, code: str, message: str) -> dict[str, Any]:
    return {"path": f"requirements.{number}", "code": code, "message": message}


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="packages_invalid", param="requirements")


async def _wheels(pins: list[Pin], work: Path, made: Path) -> None:
    """Without their dependencies, which must be pinned as well: nothing comes that nobody named."""
    if not pins:
        return
    python = await asyncio.to_thread(runtimes.python)
    downloads = work / "wheels"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(downloads),
    ]
    command += ["--python-version", ".".join(map(str, python.version)), "--implementation", "cp", *_platforms()]
    named = ", ".join(f"{pin.name}=={pin.version}" for pin in pins)
    fault = f"Not all of {named} can be had as wheels for Python {python.version[0]}.{python.version[1]}."
    await _run([*command, *(f"{pin.name}=={pin.version}" for pin in pins)], work, fault)
    await asyncio.to_thread(_unpacked, sorted(downloads.glob("*.whl")), made)


def _platforms() -> list[str]:
    """Those whose C library is as old as this machine's, or older."""
    machine = os.uname().machine
    newest = int((os.confstr("CS_GNU_LIBC_VERSION") or "glibc 2.17").rpartition(".")[2])
    names = [f"manylinux_2_{minor}_{machine}" for minor in range(newest, 4, -1)]
    names += [f"manylinux2014_{machine}", f"manylinux2010_{machine}", f"manylinux1_{machine}", f"linux_{machine}"]
    return [word for name in names for word in ("--platform", name)]


def _unpacked(wheels: list[Path], made: Path) -> None:
    room = _Room()
    metadata = []
    for wheel in wheels:
        unzip(wheel, made, room)
        metadata += [path.read_text(errors="replace") for path in made.glob("*.dist-info/METADATA")]
    _check_complete(metadata)


class _Room:
    """What is left of the limits."""

    def __init__(self, members: int = MAX_MEMBERS, size: int = MAX_BYTES) -> None:
        self.members, self.size = members, size

    def take(self, members: int, size: int) -> None:
        self.members -= members
        self.size -= size
        if self.members < 0 or self.size < 0:
            raise _invalid(f"The packages have more than {MAX_MEMBERS:,} files or {MAX_BYTES // 1_000_000} MB.")


def unzip(archive: Path, target: Path, room: _Room | None = None) -> None:
    """Plain files below `target` only, within limits that are counted as they are read. Raises InvalidRequest."""
    room = room or _Room()
    try:
        with zipfile.ZipFile(archive) as wheel:
            for member in wheel.infolist():
                room.take(1, 0)
                place = _place(member)
                if place is not None:
                    _extract(wheel, member, target / place, room)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        logger.warning("A package cannot be unpacked", exc_info=True)
        raise _invalid(f"'{archive.name}' is broken: {type(error).__name__}.") from None


def _place(member: zipfile.ZipInfo) -> PurePosixPath | None:
    """Where it goes; None for folders and what is not to be imported."""
    path, kind = PurePosixPath(member.filename), stat.S_IFMT(member.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or "\\" in member.filename or "\0" in member.filename or not path.parts:
        raise _invalid(f"A package has a file outside its folder: {member.filename[:100]!r}.")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _invalid(f"A package has a link or a device: {member.filename[:100]!r}.")
    if member.is_dir():
        return None
    if path.parts[0].endswith(".data"):
        return PurePosixPath(*path.parts[2:]) if path.parts[1] in ("purelib", "platlib") else None
    return path


def _extract(wheel: zipfile.ZipFile, member: zipfile.ZipInfo, place: Path, room: _Room) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with wheel.open(member) as source, place.open("wb") as file:
        while piece := source.read(1 << 20):
            room.take(0, len(piece))
            file.write(piece)


def _check_complete(metadata: list[str]) -> None:
    """Raises InvalidRequest that names each package which a package needs and nobody pinned."""
    found = [HeaderParser().parsestr(text) for text in metadata]
    have = {canonicalize_name(each["Name"]): each["Version"] for each in found}
    missing = {
        f"{each['Name']} needs {needed.name}{needed.specifier}"
        for each in found
        for needed in filter(None, map(_needed, each.get_all("Requires-Dist", [])))
        if not _has(have.get(canonicalize_name(needed.name)), needed)
    }
    if missing:
        raise _invalid(f"Packages must be pinned with what they need: {'; '.join(sorted(missing))}.")


def _has(version: str | None, needed: Requirement) -> bool:
    return version is not None and needed.specifier.contains(version, prereleases=True)


def _needed(text: str) -> Requirement | None:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return None
    return requirement if requirement.marker is None or requirement.marker.evaluate({"extra": ""}) else None


async def _bundles(pins: list[Pin], work: Path, made: Path) -> None:
    """One module for each package, with all that it needs. `imports.json` says which name is which file."""
    deno = program("deno")
    if deno is None:
        raise SandboxUnavailable("This server cannot bundle such packages. It needs deno (pip install deno).")
    imports = {}
    for pin in pins:
        imports[pin.name] = name = f"{pin.name.replace('/', '__').lstrip('@')}.mjs"
        entry = work / name
        source = json.dumps(f"npm:{pin.name}@{pin.version}")
        entry.write_text(
            f"export * from {source};\nimport * as all from {source};\nexport default all.default ?? all;\n"
        )
        command = [deno, "bundle", "--quiet", "--no-config", "--no-lock", "--output", str(made / name), str(entry)]
        await _run(command, work, f"'{pin.name}@{pin.version}' cannot be had, or not as one module.")
        if (made / name).stat().st_size > MAX_BUNDLE:
            raise _invalid(f"'{pin.name}' has more than {MAX_BUNDLE // 1_000_000} MB with all that it needs.")
    (made / "imports.json").write_text(json.dumps(imports, sort_keys=True))


async def _run(command: list[str], work: Path, fault: str) -> None:
    """Raises InvalidRequest with `fault`; the program's own words go to the log."""
    environment = {name: value for name, value in os.environ.items() if _PASSED.fullmatch(name)}
    environment |= {
        "DENO_DIR": str(work.parent / ".deno"),
        "NO_COLOR": "1",
        "DENO_NO_UPDATE_CHECK": "1",
        "TMPDIR": str(work),
    }
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, cwd=work, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    except (TimeoutError, asyncio.CancelledError) as error:
        process.kill()
        await process.wait()
        if isinstance(error, TimeoutError):
            raise _invalid(f"{fault} It took longer than {SECONDS:g} seconds.") from None
        raise
    if process.returncode:
        said = output.decode(errors="replace")
        logger.warning("Packages were not resolved: %s", said[-2000:])
        missing = re.search(r"No matching distribution found for ([A-Za-z0-9._=!+-]{1,200})", said)
        raise _invalid(f"{fault} There is no {missing[1]}." if missing else fault)


def _kept(made: Path, store: Path) -> ResolvedPackages:
    digest = _digest(made)
    folder = store / digest
    if not folder.is_dir():
        _seal(made)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
    return ResolvedPackages(digest, folder)


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder)}\0{content}\n".encode())
    return total.hexdigest()


def _seal(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o755 if path.is_dir() else 0o444)
