"""A page fetched, its text, and the part of it that was asked for. Imported at the first call, for aiohttp's sake."""

import asyncio
import codecs
import logging
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult

import orjson

from core.errors import ApplicationError
from core.fetch import Answer, Fetcher, Limits, Request, fetcher
from toolsets.base import ToolCallContext
from toolsets.exceptions import ToolError
from toolsets.kinds.web.config import EXTRACT_SECONDS, ROBOTS_SECONDS, FetchUrl, WebConfig
from toolsets.kinds.web.hosts import matches
from toolsets.kinds.web.keeping import kept
from toolsets.kinds.web.robots import MAX_BYTES, PRODUCT, Robots

logger = logging.getLogger(__name__)
MEGABYTES = 768  # of one parser's memory
HTML = ("text/html", "application/xhtml+xml")
PDF = "application/pdf"
TYPES = ("text/*", "application/json", "*+json", "application/xml", "*+xml", *HTML, PDF)
PROGRAM = Path(__file__).with_name("extract.py")
# Codecs of text alone: Python has others, some of which take quadratic time.
_CHARSET = re.compile(r"(utf-?(8|16|32)|us-ascii|ascii|latin-?1|iso-?8859|windows-?|cp|koi8|gb|big5|shift_?jis|euc)")
_HINTS = {
    "too_large": "max_mb of the toolset allows more.",
    "timeout": "timeout of the toolset allows more.",
    "wrong_type": "Web pages, PDFs, JSON, XML and text can be read.",
}
_robots = Robots()
_parsers = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="web-parser")


async def read_page(arguments: FetchUrl, config: WebConfig, context: ToolCallContext) -> dict[str, Any]:
    """Raises ToolError."""
    answer = await _fetched(arguments.url, config, fetcher())
    if not 200 <= answer.status < 300:
        raise ToolError(f"The server answered {answer.status} {_phrase(answer.status)}".strip() + ".")
    found = await _understood(answer)
    return {**_part(arguments, answer, found), **await kept(answer, config, context)}


async def _fetched(url: str, config: WebConfig, source: Fetcher) -> Answer:
    agent = f"{PRODUCT} {config.user_agent}".strip()
    robots_limits = Limits(max_bytes=MAX_BYTES, seconds=ROBOTS_SECONDS, attempts=2)

    async def host_admitted(target: SplitResult) -> None:
        host = target.hostname or ""
        if matches(host, config.deny_hosts) or (config.allow_hosts and not matches(host, config.allow_hosts)):
            raise ToolError(f"The toolset may not read pages of {host}: see its allow_hosts and deny_hosts.")

    async def admitted(target: SplitResult) -> None:
        await host_admitted(target)
        if config.respect_robots:
            await _robots.check(target, source, robots_limits, agent, host_admitted)

    request = Request(url, headers={"User-Agent": agent, "Accept": "text/html,application/pdf,*/*;q=0.8"})
    limits = Limits(max_bytes=config.max_mb * 1_000_000, types=TYPES, seconds=config.timeout + ROBOTS_SECONDS)
    try:
        return await source.fetch(request, limits, admit=admitted)
    except ApplicationError as error:
        raise ToolError(f"{error.message} {_HINTS.get(error.code, '')}".strip()) from None


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else ""


async def _understood(answer: Answer) -> dict[str, Any]:
    """`title`, `text`, `links` and `note`, as far as there are any."""
    if answer.content_type in HTML or answer.content_type == PDF:
        asked = {
            "kind": "pdf" if answer.content_type == PDF else "html",
            "url": answer.url,
            "charset": _charset(answer),
            "seconds": EXTRACT_SECONDS,
            "megabytes": MEGABYTES,
        }
        return await asyncio.get_running_loop().run_in_executor(_parsers, partial(_extracted, asked, answer.body))
    charset = _charset(answer) or "utf-8"
    text = await asyncio.to_thread(answer.body.decode, charset, "replace")
    return {"text": text.removeprefix("\N{BYTE ORDER MARK}")}


def _charset(answer: Answer) -> str:
    name = (answer.charset or "").lower()[:40]
    if not _CHARSET.match(name):
        return ""
    try:
        return codecs.lookup(name).name
    except LookupError:
        return ""


def _extracted(asked: dict[str, Any], body: bytes) -> dict[str, Any]:
    """Blocks for as long as the program runs."""
    ran = None
    try:
        ran = subprocess.run(
            [sys.executable, "-I", str(PROGRAM)],
            input=orjson.dumps(asked) + b"\n" + body,
            capture_output=True,
            timeout=EXTRACT_SECONDS,
            env={name: os.environ[name] for name in ("SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ToolError(f"The page is too complex: its text was not found within {EXTRACT_SECONDS} s.") from None
    if ran.returncode:
        logger.info("A page could not be read: %s", ran.stderr.decode("utf-8", "replace")[-500:])
        raise ToolError("The page could not be read: it is damaged or too complex.")
    found: dict[str, Any] = orjson.loads(ran.stdout)
    if "error" in found:
        raise ToolError(found["error"])
    return found


def _part(arguments: FetchUrl, answer: Answer, found: dict[str, Any]) -> dict[str, Any]:
    text: str = found["text"]
    end = arguments.start + arguments.max_chars
    if arguments.start > len(text):
        raise ToolError(f"The text has {len(text)} characters: start lies beyond its end.")
    part: dict[str, Any] = {
        "url": answer.url,
        "title": found.get("title", ""),
        "content_type": answer.content_type,
        "text": text[arguments.start : end],
        "start": arguments.start,
        "total_chars": len(text),
        "next_start": end if end < len(text) else None,
    }
    if arguments.links:
        part["links"] = found.get("links", [])
    if found.get("note"):
        part["note"] = found["note"]
    return part
