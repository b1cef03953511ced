"""One call of an operation, from arguments to what the model is told."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from core.net import AddressRefused
from toolsets.base import ToolCallContext
from toolsets.exceptions import ToolError
from toolsets.kinds.http.arguments import OperationArguments
from toolsets.kinds.http.credentials import Auth, Credentials, credentials_of, hidden
from toolsets.kinds.http.encoding import body_of, headers_of, url_of
from toolsets.kinds.http.operations import SAFE, Operation

if TYPE_CHECKING:
    from core.fetch import Answer, FetchFailed, Limits, Request

MAX_PIECE = 2000  # characters of the body of an answer that says what failed
ACCEPT = "application/json, text/*;q=0.5, */*;q=0.1"
UNSENT = frozenset({"rate_limited", "certificate"})
RAISES = {
    "too_large": "The toolset's max_answer_kb raises this.",
    "timeout": "The toolset's timeout raises this.",
}
MAY_HAVE_WORKED = "It may have taken effect all the same: see whether it did before you call it again."
_CHARSETS = frozenset({"us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252", "utf-16", "shift_jis", "gb18030"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Calls the operations of one server. `timeout` is in seconds, `most` the bytes of an answer's body."""

    server: str
    auth: Auth
    auth_name: str
    timeout: float
    most: int

    async def call(self, operation: Operation, arguments: OperationArguments, context: ToolCallContext) -> Any:
        """Raises ToolError for what cannot be sent, for no answer, and for an answer of another status than 2xx."""
        from core.fetch import Limits, Request

        credentials = credentials_of(self.auth, self.auth_name, context.secrets.get("token", ""))
        body = body_of(operation, arguments.root)
        request = Request(
            url_of(self.server, operation, arguments.root, credentials.pairs),
            operation.method,
            self._headers(operation, arguments.root, credentials, body),
            body,
        )
        answer = await _fetched(request, Limits(max_bytes=self.most, seconds=self.timeout))
        if not 200 <= answer.status < 300:
            raise ToolError(_failure(answer, credentials))
        return _told(answer, credentials)

    def _headers(
        self, operation: Operation, arguments: Mapping[str, Any], credentials: Credentials, body: bytes | None
    ) -> dict[str, str]:
        """The credentials replace what the model set by the same name, in any case of its letters."""
        ours = {"Accept": ACCEPT, **credentials.headers}
        if body is not None:
            ours["Content-Type"] = operation.body_type
        names = {name.lower() for name in ours}
        theirs = headers_of(operation, arguments)
        return {**{name: value for name, value in theirs.items() if name.lower() not in names}, **ours}


async def _fetched(request: "Request", limits: "Limits") -> "Answer":
    from core.fetch import FetchFailed, fetcher

    try:
        return await fetcher().fetch(request, limits)
    except AddressRefused as error:
        raise ToolError(error.message) from None
    except FetchFailed as error:
        raise ToolError(_why(error, request.method)) from None


def _why(error: "FetchFailed", method: str) -> str:
    unclear = MAY_HAVE_WORKED if method not in SAFE and error.code not in UNSENT else ""
    return " ".join(filter(None, [error.message, RAISES.get(error.code), unclear]))


def _told(answer: "Answer", credentials: Credentials) -> dict[str, Any]:
    told: dict[str, Any] = {"status": answer.status}
    if not answer.body:
        return told
    told["content_type"] = hidden(answer.content_type[:100], credentials.forms)
    kind, body = _read(answer)
    if kind == "left_out":
        return {**told, kind: f"{len(answer.body):,} bytes, which are neither JSON nor text."}
    return {**told, kind: hidden(body, credentials.forms)}


def _read(answer: "Answer") -> tuple[str, Any]:
    """`json` or `text` with the body; `left_out` for any other type."""
    kind = answer.content_type
    if kind == "application/json" or kind.endswith("+json"):
        try:
            found = orjson.loads(answer.body)
            orjson.dumps(found)  # refuses what is nested deeper than it may be told
            return "json", found
        except (ValueError, TypeError):
            return "text", _decoded(answer)
    if kind.startswith("text/") or kind.endswith(("/xml", "+xml", "/yaml", "/x-www-form-urlencoded")):
        return "text", _decoded(answer)
    return "left_out", None


def _decoded(answer: "Answer") -> str:
    charset = (answer.charset or "").lower()
    return answer.body.decode(charset if charset in _CHARSETS else "utf-8", errors="replace")


def _failure(answer: "Answer", credentials: Credentials) -> str:
    """The secret is hidden before the text is cut, or half of it might stay."""
    kind, body = _read(answer)
    if kind == "left_out":
        return f"The server answered {answer.status}."
    shown = hidden(body, credentials.forms)
    text = shown if isinstance(shown, str) else orjson.dumps(shown).decode()
    piece = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return f"The server answered {answer.status}" + (f": {piece[:MAX_PIECE]}" if piece else ".")
