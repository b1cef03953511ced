"""Lets most generated requests name objects that exist. Loaded by schemathesis.

Its own dictionaries mix up operations whose parameters look alike. Environment: EXISTING, a JSON object of lists.
"""

import json
import os
import re
from typing import Any
from zlib import crc32

import schemathesis

EXISTING: dict[str, list[Any]] = json.loads(os.environ["EXISTING"])
# Operation, place of the value, and the list of EXISTING from which it is taken. Deleting has objects of its own.
BINDINGS = [
    (r"DELETE /v1/agents/", "path.ref", "spare_agents"),
    (r"POST /v1/agents/\S+/ag-ui", "path.ref", "talkers"),
    (r"\S+ /v1/agents/\S+/ui-stream", "path.ref", "talkers"),
    (r"\S+ /v1/agents/", "path.ref", "agents"),
    (r"\S+ /v1/agents/\S+/versions/", "path.number", "numbers"),
    (r"\S+ /v1/agents", "body.template", "templates"),
    (r"\S+ /v1/agents", "body.model", "models"),
    (r"DELETE /v1/providers/", "path.ref", "spare_providers"),
    (r"\S+ /v1/providers/", "path.ref", "providers"),
    (r"\S+ /v1/providers", "body.kind", "provider_kinds"),
    (r"DELETE /v1/toolsets/", "path.ref", "spare_toolsets"),
    (r"\S+ /v1/toolsets/", "path.ref", "toolsets"),
    (r"\S+ /v1/toolsets", "body.kind", "toolset_kinds"),
    (r"\S+ /v1/templates/", "path.slug", "templates"),
    (r"DELETE /v1/sessions/", "path.ref", "spare_sessions"),
    (r"\S+ /v1/sessions/", "path.ref", "sessions"),
    (r"\S+ /v1/sessions/\S+/participants/", "path.id", "participants"),
    (r"\S+ /v1/sessions/\S+/invitations/", "path.id", "invitations"),
    (r"POST /v1/sessions/\S+/participants", "body.user", "usernames"),
    (r"POST /v1/invitations/accept", "body.token", "tokens"),
    (r"POST /v1/sessions$", "body.agent", "talkers"),
    (r"\S+ /v1/runs/", "path.ref", "runs"),
    (r"\S+ /v1/api-keys/", "path.ref", "keys"),
    (r"DELETE /v1/publishable-keys/", "path.ref", "spare_publishable_keys"),
    (r"\S+ /v1/publishable-keys/", "path.ref", "publishable_keys"),
    (r"\S+ /v1/publishable-keys", "body.agent", "talkers"),
    (r"\S+ /v1/members/", "path.ref", "members"),
    (r"DELETE /v1/budgets/", "path.ref", "spare_budgets"),
    (r"\S+ /v1/budgets/", "path.ref", "budgets"),
    (r"DELETE /v1/prices/", "path.ref", "spare_prices"),
    (r"\S+ /v1/prices/", "path.ref", "prices"),
    (r"POST /v1/prices$", "body.provider", "priced_providers"),
    (r"POST /v1/chat/completions", "body.model", "chat_models"),
]


@schemathesis.hook
def map_path_parameters(context: schemathesis.HookContext, path_parameters: Any) -> Any:
    return _with_existing(context.operation.label, "path", path_parameters)


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    return _with_existing(context.operation.label, "body", body)


def _with_existing(operation: str, place: str, values: Any) -> Any:
    """Seven in ten of the values; which ones follows from the values, so that a run can be repeated."""
    if not isinstance(values, dict):
        return values
    replaced = dict(values)
    for pattern, target, name in reversed(BINDINGS):
        where, _, key = target.partition(".")
        chance = crc32(f"{key}{values.get(key)!r}".encode("utf-8", "replace"))
        if where == place and key in values and re.match(pattern, operation) and chance % 10 < 7:
            replaced[key] = EXISTING[name][chance % len(EXISTING[name])]
    return replaced
