import asyncio
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, get_args

from pydantic import Field, StringConstraints

from core.validation import CheckedTogether, Found
from toolsets.base import LearningKind, Risk, Tool, ToolCallContext, ToolsetConfig
from toolsets.exceptions import ToolError
from toolsets.kinds.http.arguments import OperationArguments
from toolsets.kinds.http.calls import Caller
from toolsets.kinds.http.credentials import Auth
from toolsets.kinds.http.faults import MAX_FAULTS, Fault
from toolsets.kinds.http.operations import HEADER, MAX_OPERATIONS, SAFE, Operation
from toolsets.kinds.http.plan import MAX_BASE, Plan, base_faults, plan_of, source_faults
from toolsets.places import private_places

MAX_DOCUMENT = 2_000_000  # characters
_NAMED = {"header": "header", "query": "query parameter"}  # by their authentication
UNFIT = frozenset({"host", "content-length", "content-type", "transfer-encoding", "connection", "accept", "cookie"})


class HttpConfig(CheckedTogether, ToolsetConfig):
    document: str = Field(
        "",
        max_length=MAX_DOCUMENT,
        title="OpenAPI document",
        description="The whole OpenAPI 3.0 or 3.1 document, pasted as JSON or YAML. References to other documents are "
        "not followed. MAX_BODY_BYTES on the server bounds what can be sent at once. Or give its address below.",
    )
    document_url: str = Field(
        "",
        max_length=MAX_BASE,
        title="Address of the document",
        description="Such as https://api.example.com/openapi.json, which is fetched, and again every few hours.",
    )
    base_url: str = Field(
        "",
        max_length=MAX_BASE,
        title="Address of the API",
        description="Such as https://api.example.com/v1. Empty: the document's first server. A document that is "
        "fetched may not choose the server where a secret goes to the API.",
    )
    operations: list[Annotated[str, StringConstraints(min_length=1, max_length=300)]] = Field(
        default_factory=list,
        max_length=MAX_OPERATIONS,
        title="Operations",
        description="Those that become tools, by operationId, or by method and path (get_pets_id) where there is none. "
        f"Empty: all that can be tools, where the document has at most {MAX_OPERATIONS}.",
    )
    auth: Auth = Field(
        "none",
        title="Authentication",
        description="How the secret `token` goes out: not at all, as a bearer token, as user:password (basic), in the "
        "header or query parameter named below.",
    )
    auth_name: str = Field(
        "", max_length=100, title="Header or parameter", description="Such as X-API-Key, for header and query only."
    )
    timeout: int = Field(30, ge=1, le=300, title="Timeout", description="Seconds for a call, redirects included.")
    max_answer_kb: int = Field(
        1000,
        ge=1,
        le=10_000,
        title="Largest answer",
        description="KB that are read; the policy says how much is shown.",
    )

    @classmethod
    def found_together(cls, data: Mapping[str, Any]) -> list[Fault]:
        """What is of another type, or too long to be looked at, counts as empty: it has a fault of its own."""
        chosen = data.get("operations")
        operations = [each for each in chosen if isinstance(each, str)] if isinstance(chosen, list) else []
        faults = _auth_faults(data.get("auth", "none"), _text(data, "auth_name", 100))
        document, url = _text(data, "document", MAX_DOCUMENT), _text(data, "document_url", MAX_BASE)
        return (faults + _document_faults(data, document, url, operations))[:MAX_FAULTS]

    def plan(self) -> Plan:
        """Of the document that was pasted."""
        return plan_of(self.document, self.base_url, self.operations)


def _text(data: Mapping[str, Any], name: str, longest: int) -> str:
    value = data.get(name)
    return value if isinstance(value, str) and len(value) <= longest else ""


def _document_faults(data: Mapping[str, Any], document: str, url: str, operations: Sequence[str]) -> list[Fault]:
    """Of a document that is still to be fetched nothing is known."""
    base_url = _text(data, "base_url", MAX_BASE)
    if url and document:
        message = "Give the document or its address, not both."
        told = plan_of(document, base_url, operations).faults
        return [*source_faults(url), *told, Fault(("document_url",), "both", message)]
    if document:
        return list(plan_of(document, base_url, operations).faults)
    if not url:
        missing = Fault(("document",), "missing", "Give the document, or its address in document_url.")
        return [*base_faults(base_url), *([] if data.get("document") or data.get("document_url") else [missing])]
    faults = source_faults(url) + base_faults(base_url)
    if data.get("auth", "none") != "none" and not data.get("base_url"):
        message = "Name the API's address: a document that is fetched could send the secret anywhere."
        faults.append(Fault(("base_url",), "missing", message))
    return faults


def _auth_faults(auth: Any, name: str) -> list[Fault]:
    path = ("auth_name",)
    if auth in ("none", "bearer", "basic") and name:
        return [Fault(path, "invalid", "Only the authentications header and query have a name.")]
    if auth not in ("header", "query"):
        return []
    if not name:
        return [Fault(path, "missing", f"Name the {_NAMED[auth]} that the secret goes to.")]
    if auth == "header" and (not HEADER.fullmatch(name) or name.lower() in UNFIT):
        return [Fault(path, "invalid", "This is no header that can hold a secret.")]
    return []


class HttpToolset(LearningKind):
    slug = "http"
    title = "HTTP API"
    description = "The operations of an API that an OpenAPI document describes, each as a tool."
    Config: ClassVar[type[HttpConfig]] = HttpConfig
    secrets: ClassVar[dict[str, str]] = {"token": "Token, key, or user:password"}
    places: ClassVar[frozenset[str]] = frozenset({"document", "document_url", "base_url"})

    def server_faults(self, config: Mapping[str, Any], secrets: Mapping[str, str | None]) -> Iterator[Found]:
        yield from private_places(config, "base_url", "document_url")
        auth = config.get("auth")
        if auth in get_args(Auth) and auth != "none" and "token" not in secrets:
            yield ("auth",), "secret_missing", "This authentication needs the secret 'token': give it as well."
        if auth == "basic" and ":" not in (secrets.get("token") or ":"):
            yield ("auth",), "invalid_secret", "For basic the secret 'token' must have the form user:password."

    def needs_learning(self, config: HttpConfig) -> bool:
        return bool(config.document_url)

    async def learn(self, config: HttpConfig, context: ToolCallContext) -> Any:
        from toolsets.kinds.http.source import fetched_document  # aiohttp, which most need not load

        found = await fetched_document(config.document_url)
        plan = await asyncio.to_thread(_plan_of_fetched, config, found)
        if plan.faults:
            raise ToolError(" ".join(f"{'.'.join(map(str, path))}: {text}" for path, _, text in plan.faults))
        return found

    def learned_tools(self, config: HttpConfig, learned: Any) -> Sequence[Tool]:
        """None where the document that is known has not, or no longer, what the config names."""
        plan = _plan_of_fetched(config, learned) if config.document_url else config.plan()
        caller = Caller(plan.server, config.auth, config.auth_name, config.timeout, config.max_answer_kb * 1000)
        return [_tool(caller, operation, arguments) for operation, arguments in plan.operations]


def _plan_of_fetched(config: HttpConfig, learned: Any) -> Plan:
    """`learned` is what `fetched_document` answered, or None."""
    if not isinstance(learned, dict):
        return Plan("", (), ())
    return plan_of(str(learned.get("document")), config.base_url, config.operations, str(learned.get("url")))


def _tool(caller: Caller, operation: Operation, arguments: type[OperationArguments]) -> Tool:
    """Its timeout is a little longer than the fetch's own, which says more."""
    return Tool(
        operation.name,
        operation.description,
        arguments,
        partial(caller.call, operation),
        risk=Risk.EGRESS,
        timeout=caller.timeout + 2.0,
        parallel=operation.method in SAFE,
        repeatable=operation.method in SAFE,
        untrusted=True,
    )
