"""What a document and the choices beside it amount to, kept by their hash: pages and runs ask for it often."""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any
from urllib.parse import urljoin

from core.net import AddressRefused, split_url
from toolsets.kinds.http.arguments import OperationArguments, arguments_of
from toolsets.kinds.http.document import Document
from toolsets.kinds.http.faults import Fault, Faulty
from toolsets.kinds.http.operations import Operation, read_operations

MAX_BASE = 500  # characters
KEPT = 32  # plans, each of at most a megabyte


@dataclass(frozen=True, slots=True)
class Plan:
    """With any fault it has nothing else. `server` ends without a slash."""

    server: str
    operations: tuple[tuple[Operation, type[OperationArguments]], ...]
    faults: tuple[Fault, ...]


_kept: OrderedDict[bytes, Plan] = OrderedDict()
_lock = Lock()


def plan_of(document: str, base_url: str, chosen: Sequence[str], origin: str = "") -> Plan:
    """Opens and fetches nothing. `origin` is where the document was fetched, if it was: its server may be relative."""
    key = _key(document, base_url, origin, *chosen)
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    plan = _made(document, base_url, chosen, origin)
    with _lock:
        _kept[key] = plan
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    return plan


def _key(*texts: str) -> bytes:
    digest = hashlib.sha256()
    for text in texts:
        written = text.encode(errors="surrogatepass")
        digest.update(len(written).to_bytes(8, "big") + written)
    return digest.digest()


def _made(text: str, base_url: str, chosen: Sequence[str], origin: str) -> Plan:
    faults = base_faults(base_url)
    try:
        document = Document(text)
    except Faulty as error:
        return Plan("", (), (*faults, Fault(("document",), "invalid_document", str(error))))
    server = base_url.rstrip("/")
    if not base_url:
        server, more = _first_server(document, origin)
        faults += more
    operations, more = read_operations(document, chosen)
    faults += more
    if faults:
        return Plan("", (), tuple(faults))
    return Plan(server, tuple((each, arguments_of(each)) for each in operations), ())


def base_faults(url: str) -> list[Fault]:
    wrong = _wrong_with(url, "?#{}") if url else ""
    return [Fault(("base_url",), "invalid_url", wrong)] if wrong else []


def source_faults(url: str) -> list[Fault]:
    """Of the address that a document is fetched from."""
    wrong = _wrong_with(url, "#{}")
    return [Fault(("document_url",), "invalid_url", wrong)] if wrong else []


def _wrong_with(url: str, closed: str) -> str:
    """`closed` are characters that it must not hold."""
    try:
        parts = split_url(url, MAX_BASE)
    except AddressRefused as error:
        return error.message
    if parts.username is not None or any(character in url for character in closed):
        query = ", a query" if "?" in closed else ""
        return f"The URL must not hold a user name{query}, a fragment or a placeholder."
    return ""


def _first_server(document: Document, origin: str) -> tuple[str, list[Fault]]:
    """Without a slash at its end. A fetched document that names none has the root of its own host (OpenAPI 3.1)."""
    servers = document.root.get("servers", [{"url": "/"}] if origin else None)
    first = servers[0] if isinstance(servers, list) and servers else None
    url = first.get("url") if isinstance(first, dict) else None
    if isinstance(first, dict) and isinstance(url, str):
        url = _joined(origin, _filled(url[:MAX_BASE], first.get("variables")))
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        message = "The document names no server by an absolute http or https address: give the API's address here."
        return "", [Fault(("base_url",), "no_server", message)]
    url = url.rstrip("/")
    wrong = _wrong_with(url, "?#{}")
    return url, [Fault(("document",), "invalid_url", f"The first server: {wrong}")] if wrong else []


def _joined(origin: str, url: str) -> str:
    try:
        return urljoin(origin, url) if origin else url
    except ValueError:
        return ""


def _filled(url: str, variables: Any) -> str:
    """With the defaults of its variables."""

    def default(match: re.Match[str]) -> str:
        variable = variables.get(match[1]) if isinstance(variables, dict) else None
        value = variable.get("default") if isinstance(variable, dict) else None
        return value if isinstance(value, str) else match[0]

    return re.sub(r"\{([^{}]+)\}", default, url)
