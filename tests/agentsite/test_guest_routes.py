"""Every endpoint of the schema, asked by a guest: what is not theirs to ask is refused, whatever the body says."""

import re
from typing import Any

import pytest
from drf_spectacular.generators import SchemaGenerator

from tenants.models import Tenant
from tests.tenants.guests import GuestActor, make_guest, make_key

pytestmark = pytest.mark.django_db
# What looks at no credential of a tenant, and what a guest gets who takes part in nothing.
PUBLIC = {"health", "health_ready", "guest_tokens_create", "visitors_create"}
ANSWERED = {"me", "sessions_list", "approvals_list", "search", "ws_tickets_create"}
OF_SESSIONS = {"chat", "runs", "sharing"}  # tags of operations
QUERIES = {"prices_quote": "?provider=scripted&model=default"}
BODIES = {"routes_preview": {"messages": [{"role": "user", "content": "x"}]}}


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    schema = SchemaGenerator().get_schema(request=None, public=True)
    found = []
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            found.append((method.upper(), path, {**operation, "body": example(body or {}, schema)}))
    return found


def example(schema: dict[str, Any], root: dict[str, Any]) -> Any:
    """The least that the schema takes."""
    if "$ref" in schema:
        return example(root["components"]["schemas"][schema["$ref"].rpartition("/")[2]], root)
    if "enum" in schema:
        return schema["enum"][0]
    for several in ("oneOf", "anyOf", "allOf"):
        if several in schema:
            return example(schema[several][0], root)
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    if kind == "array":
        return [example(schema["items"], root)] if schema.get("minItems") else []
    if kind == "string":
        return {"date-time": "2030-01-01T00:00:00Z", "uri": "https://x.example"}.get(schema.get("format", ""), "x")
    if kind == "boolean":
        return True
    return {name: example(schema["properties"][name], root) for name in schema.get("required", ())}


def ask(guest: GuestActor, method: str, path: str, operation: dict[str, Any]) -> Any:
    name = operation["operationId"]
    parts = {"slug": "conversation", "name": "now", "number": "1", "ref": "time" if "toolsets" in path else "helper"}
    filled = re.sub(r"{(\w+)}", lambda part: parts.get(part[1], "x"), path.removeprefix("/v1/"))
    return guest.send(method, filled + QUERIES.get(name, ""), BODIES.get(name, operation["body"]))


@pytest.mark.parametrize("widget", [True, False])
def test_a_guest_is_refused_everything_that_is_not_theirs(in_acme: Tenant, scripted: str, widget: bool) -> None:
    """What belongs to sessions is missing, as these have none; all else is not for guests."""
    guest = make_guest(in_acme, key=make_key(in_acme) if widget else None)
    answered = set()
    for method, path, operation in operations():
        name = operation["operationId"]
        answer = ask(guest, method, path, operation)
        if answer.status_code < 300:
            answered.add(name)
        elif not OF_SESSIONS.intersection(operation["tags"]) and name not in PUBLIC:
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_for_guests"), name
        else:
            assert answer.status_code in (400, 401, 403, 404), name
    assert answered - PUBLIC == ANSWERED | ({"sessions_create"} if widget else set())
