"""A program of its own: a page of HTML or a PDF on standard input, its text as JSON on standard output.

Both parsers work on what a stranger sent, and neither can be stopped from within. So this process is given as much time
and memory as its arguments say, no environment, and is killed by who started it. It imports nothing of the project.
"""

import json
import os
import sys
import time
from io import BytesIO
from typing import Any
from urllib.parse import urljoin, urlsplit

MAX_SORTED = 2_000_000  # bytes; a larger page is not searched for its main text, which takes quadratic time at worst
MAX_TEXT = 2_000_000  # characters
MAX_PAGES = 300  # of a PDF
MAX_LINKS = 300
MAX_TITLE = 300


def confine(seconds: int, megabytes: int) -> None:
    """Windows has no such limits; there the time alone is limited, by who started this process."""
    if sys.platform == "win32":
        return
    import resource

    os.nice(5)  # the server goes first
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # standard output is a pipe, which it does not limit
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def read_html(body: bytes, url: str, charset: str) -> dict[str, Any]:
    """The main text if there is one, else all text. Without a known charset the page itself says it."""
    from lxml import html

    tree = html.document_fromstring(body, parser=_parser(charset or _utf_8(body)))
    links = _links(tree, url)
    title = " ".join((tree.findtext(".//title") or "").split())
    return {"title": title, "text": _text(tree, main=len(body) <= MAX_SORTED), "links": links}


def _utf_8(body: bytes) -> str:
    """libxml2 takes a page that says nothing for Latin-1."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return ""
    return "utf-8"


def _parser(charset: str) -> Any:
    from lxml import html

    options = {"remove_comments": True, "remove_pis": True, "no_network": True, "huge_tree": False}
    try:
        return html.HTMLParser(encoding=charset or None, **options)
    except LookupError:
        return html.HTMLParser(**options)


def _text(tree: Any, *, main: bool) -> str:
    import trafilatura

    found = main and trafilatura.extract(tree, output_format="markdown", include_comments=False)
    return str(found or trafilatura.html2txt(tree))


def _links(tree: Any, url: str) -> list[dict[str, str]]:
    base = urljoin(url, next(iter(tree.xpath("//base/@href")), ""))
    links: dict[str, str] = {}
    for anchor in tree.iter("a"):
        address = _absolute(base, anchor.get("href") or "")
        if address and len(links) < MAX_LINKS:
            links.setdefault(address, " ".join(anchor.text_content().split())[:200])
    return [{"url": address, "text": text} for address, text in links.items()]


def _absolute(base: str, href: str) -> str:
    """Without its fragment; nothing for what leads to no other page."""
    try:
        address = urljoin(base, href.strip()).partition("#")[0]
        usable = urlsplit(address).scheme in ("http", "https") and len(address) <= 2000
    except ValueError:
        return ""
    return address if usable and not href.startswith("#") else ""


def read_pdf(body: bytes, deadline: float) -> dict[str, Any]:
    """The pages that could be read until `deadline`, as `time.monotonic` counts."""
    import logging

    from pypdf import PdfReader

    logging.disable()  # it warns of each fault of a file
    reader = PdfReader(BytesIO(body))
    if reader.is_encrypted and not reader.decrypt(""):
        return {"error": "The PDF is protected by a password."}
    texts: list[str] = []
    for page in reader.pages[:MAX_PAGES]:
        if time.monotonic() > deadline or sum(map(len, texts)) > MAX_TEXT:
            break
        texts.append(page.extract_text().strip())
    title = str((reader.metadata and reader.metadata.title) or "")
    note = "" if len(texts) == len(reader.pages) else f"The first {len(texts)} of {len(reader.pages)} pages."
    return {"title": title, "text": "\n\n".join(texts), "links": [], "note": note}


def main() -> None:
    """Arguments: html or pdf, seconds, megabytes, the page's URL, its charset."""
    kind, seconds, megabytes, url, charset = sys.argv[1:]
    deadline = time.monotonic() + int(seconds) * 0.7
    confine(int(seconds), int(megabytes))
    body = sys.stdin.buffer.read()
    found = read_html(body, url, charset) if kind == "html" else read_pdf(body, deadline)
    if len(found.get("text", "")) > MAX_TEXT:
        found["note"] = f"The text is cut at {MAX_TEXT:,} characters."
    found.update({name: found.get(name, "")[:size] for name, size in (("title", MAX_TITLE), ("text", MAX_TEXT))})
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
