"""Who opens a socket: a server with its key, a browser with a one-use ticket; and from which page."""

from typing import Any

from core.errors import InvalidRequest, NotAuthenticated
from core.ids import uuid7
from core.request_context import RequestContext
from runs.origins import check_origin
from tenants.authentication import at_origin, authenticate_ticket, authenticate_token
from tenants.permissions import authorize
from tenants.principal import Principal

SUBPROTOCOL = "agui.v1"
_TICKET = "ticket."


def authenticate(scope: dict[str, Any]) -> Principal:
    """Raises NotAuthenticated for the credential or the subprotocol, NotPermitted for the origin or the role.

    And InvalidRequest for an address that no session can have.
    """
    protocols: list[str] = scope.get("subprotocols") or []
    if "\0" in scope.get("path", ""):
        raise InvalidRequest("The address contains a NUL character.", code="invalid_character")
    if SUBPROTOCOL not in protocols:
        raise NotAuthenticated(f"Ask for the subprotocol {SUBPROTOCOL}.", code="subprotocol_required")
    headers = _headers(scope)
    principal = _principal(headers, protocols)
    if principal.widget is None:
        check_origin(headers.get("origin"), headers.get("host"))
    else:
        principal = at_origin(principal, headers.get("origin", ""))
    authorize(principal, "session.view")
    return principal


def _principal(headers: dict[str, str], protocols: list[str]) -> Principal:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return authenticate_token(token.strip())
    ticket = next((name for name in protocols if name.startswith(_TICKET)), None)
    if ticket is None:
        raise NotAuthenticated("Send an Authorization header or a ticket.")
    return authenticate_ticket(ticket.removeprefix(_TICKET))


def _headers(scope: dict[str, Any]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope.get("headers", [])}


def request_facts(scope: dict[str, Any]) -> RequestContext:
    """The socket's id, the same for its whole life, and the peer's address."""
    facts = scope.get("agentsite.request")
    if facts is None:
        client = scope.get("client")
        facts = scope["agentsite.request"] = RequestContext(str(uuid7()), client[0] if client else None)
    return facts
