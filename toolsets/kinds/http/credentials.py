"""How a call says who asks, and how its answer is kept from telling it."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, quote_plus

from toolsets.exceptions import ToolError
from toolsets.kinds.http.encoding import Pairs, header_value

Auth = Literal["none", "bearer", "basic", "header", "query"]
HIDDEN = "[secret]"
SHORTEST = 4  # characters; what is shorter would be found everywhere


@dataclass(frozen=True, slots=True)
class Credentials:
    """`forms` are the texts by which an answer could tell the secret."""

    headers: dict[str, str]
    pairs: Pairs
    forms: tuple[str, ...]


def credentials_of(auth: Auth, name: str, secret: str) -> Credentials:
    """Raises ToolError, which does not hold the secret."""
    if auth == "none":
        return Credentials({}, [], _forms(secret))
    if not secret:
        raise ToolError("The toolset has no secret 'token', which its calls need: a person must store one.")
    forms = _forms(secret)
    if auth == "query":
        return Credentials({}, [(name, secret)], forms)
    if auth == "header":
        return Credentials({name: header_value("The secret 'token'", secret)}, [], forms)
    if auth == "bearer":
        return Credentials({"Authorization": "Bearer " + header_value("The secret 'token'", secret)}, [], forms)
    _, colon, password = secret.partition(":")
    if not colon:
        raise ToolError("The toolset's secret 'token' must have the form user:password: a person must store it anew.")
    coded = base64.b64encode(secret.encode()).decode()
    return Credentials({"Authorization": f"Basic {coded}"}, [], _forms(secret, coded, password))


def _forms(*secrets: str) -> tuple[str, ...]:
    """Longest first: one may be part of another."""
    forms = {
        form for secret in secrets for form in (secret, secret.strip(), quote(secret, safe=""), quote_plus(secret))
    }
    forms |= {base64.b64encode(secret.encode()).decode() for secret in secrets}
    return tuple(sorted((form for form in forms if len(form) >= SHORTEST), key=len, reverse=True))


def hidden(value: Any, forms: Sequence[str]) -> Any:
    """A JSON value, nested at most 254 levels, without the secret."""
    match value:
        case str():
            for form in forms:
                value = value.replace(form, HIDDEN)
        case dict():
            return {hidden(key, forms): hidden(item, forms) for key, item in value.items()}
        case list():
            return [hidden(item, forms) for item in value]
        case int() | float() if not isinstance(value, bool) and any(form in str(value) for form in forms):
            return HIDDEN
    return value
