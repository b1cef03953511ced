"""What a version of a custom agent pins: its code as it is found now, and the packages that it imports."""

import asyncio
from pathlib import Path
from typing import Any

from django.conf import settings

from core.errors import InvalidRequest, Unavailable
from core.validation import invalid
from templates_app.base import ReadFile
from templates_app.context import Published
from templates_app.kinds.custom import source
from templates_app.kinds.custom.config import CustomConfig

FETCH_SECONDS = 30.0
Faults = list[dict[str, Any]]


async def publish(config: CustomConfig, read: ReadFile) -> Published:
    """Raises InvalidRequest with the faults of code and packages, and what `run_job` raises."""
    faults: Faults = []
    text, packages = await asyncio.gather(_source(config, read, faults), _resolved(config, faults))
    if text is not None:
        found = await source.faults(text, config.language, config.entryPoint, folders(packages))
        faults += [_fault("content", code, message) for code, message in found]
    if text is None or faults:
        raise invalid(faults)
    return Published(config.language.value, text, packages)


async def _source(config: CustomConfig, read: ReadFile, faults: Faults) -> str | None:
    try:
        return await _found(config, read)
    except InvalidRequest as error:
        faults += error.details or [_fault("content", error.code, error.message)]
        return None


async def _found(config: CustomConfig, read: ReadFile) -> str:
    match config.type:
        case "inline":
            return config.content
        case "file":
            content = await read(config.content, source.MAX_SOURCE)
        case "url":
            content = await _fetched(config.content)
    if len(content) > source.MAX_SOURCE:
        raise invalid([_fault("content", "too_large", f"The code has more than {source.MAX_SOURCE:,} bytes.")])
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise invalid([_fault("content", "encoding", "The code is no UTF-8 text.")]) from None


async def _fetched(url: str) -> bytes:
    """Redirects lead from https to https only. Raises FetchFailed and InvalidRequest."""
    from core.fetch import FetchFailed, Limits, Request, fetcher

    limits = Limits(max_bytes=source.MAX_SOURCE, seconds=FETCH_SECONDS)
    try:
        answer = await fetcher().fetch(Request(url), limits)
    except FetchFailed as failed:
        raise invalid([_fault("content", failed.code, f"The code cannot be fetched. {failed.message}")]) from None
    if answer.status != 200:
        message = f"The code cannot be fetched: the server answered with the status {answer.status}."
        raise invalid([_fault("content", "bad_status", message)])
    return answer.body


async def _resolved(config: CustomConfig, faults: Faults) -> str:
    from sandbox.packages import resolve

    if not config.dependencies:
        return ""
    try:
        return (await resolve(config.language, config.dependencies)).digest
    except InvalidRequest as error:
        told = error.details or [{"path": "requirements", "code": error.code, "message": error.message}]
        faults += [{**fault, "path": fault["path"].replace("requirements", "config.dependencies")} for fault in told]
        return ""


def folders(packages: str) -> tuple[Path, ...]:
    """Raises Unavailable when they are not on this server."""
    if not packages:
        return ()
    folder: Path = settings.SANDBOX_PACKAGE_DIR / packages
    if not folder.is_dir():
        message = "The packages of the agent's code are not on this server: its SANDBOX_PACKAGE_DIR must be shared."
        raise Unavailable(message, code="packages_missing")
    return (folder,)


def _fault(name: str, code: str, message: str) -> dict[str, Any]:
    return {"path": f"config.{name}", "code": code, "message": message}
