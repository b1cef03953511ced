"""What a toolset may be; every fault at once."""

from collections.abc import Collection, Iterable, Mapping
from itertools import chain
from typing import Any

from core.validation import Found, config_faults, parse_config, slug_faults
from tenants.principal import Principal
from toolsets.base import LearningKind, ToolsetKind
from toolsets.models import Toolset
from toolsets.policy import Policy
from toolsets.registry import toolset_kinds

Fault = dict[str, Any]
MAX_SECRET = 8192
RESERVED = frozenset({"kinds", "compatibility", "validate"})  # paths below /v1/toolsets


def toolset_faults(values: Mapping[str, Any]) -> list[Fault]:
    """Checks the fields that are there: slug, name, kind, config, policy, and secrets where the kind is there too.

    Nothing of a config is opened, fetched or run. `learned` is what is known of the tools of a kind that learns them;
    with `held`, the secrets that it will have, the config is checked against these and against the server.
    """
    faults: list[Fault] = []
    if "slug" in values:
        faults += slug_faults(values["slug"], reserved=RESERVED)
    if "name" in values and not (values["name"].strip() and len(values["name"]) <= 120):
        faults.append({"path": "name", "code": "invalid", "message": "Give a name of 1 to 120 characters."})
    kind = toolset_kinds().get(values.get("kind", ""))
    of_kind = _kind_faults(values["kind"], values.get("config", {})) if "kind" in values else []
    faults += of_kind
    if "policy" in values:
        faults += config_faults(Policy, values["policy"], "policy")
    if kind is not None and not of_kind:
        faults += _only_faults(kind, values)
    if kind is not None:
        faults += secret_faults(kind, values.get("secrets") or {})
        if "held" in values:
            faults += _placed("config", kind.server_faults(values.get("config", {}), values["held"]))
    return faults


def held_secrets(stored: Iterable[str], given: Mapping[str, Any]) -> dict[str, str | None]:
    """The secrets that a toolset will have; None for one that is stored, or is no text."""
    kept: dict[str, str | None] = dict.fromkeys(name for name in stored if name not in given)
    texts = {name: secret if isinstance(secret, str) else None for name, secret in given.items() if secret is not None}
    return kept | texts


def toolset_warnings(actor: Principal, toolsets: Iterable[tuple[str, str, Mapping[str, Any]]]) -> list[Fault]:
    """`toolsets` are each a path, a kind and a config."""
    by_kind: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for path, slug, config in toolsets:
        by_kind.setdefault(slug, []).append((path, config))
    warnings: list[Fault] = []
    for slug, given in by_kind.items():
        if kind := toolset_kinds().get(slug):
            found = kind.warnings([config for _, config in given], actor)
            warnings += chain.from_iterable(_placed(path, each) for (path, _), each in zip(given, found, strict=True))
    return warnings


def _placed(path: str, found: Iterable[Found]) -> list[Fault]:
    return [
        {"path": ".".join(map(str, (path, *where))), "code": code, "message": message} for where, code, message in found
    ]


def _only_faults(kind: ToolsetKind, values: Mapping[str, Any]) -> list[Fault]:
    """A name that is no tool's would leave out all the others without a word."""
    policy = values.get("policy")
    only = policy.get("only") if isinstance(policy, Mapping) else None
    if not (only and isinstance(only, list)):
        return []
    names = _tool_names(kind, parse_config(kind.Config, values.get("config", {})), values.get("learned"))
    if names is None:
        return []
    message = f"The toolset has no such tool; it has: {', '.join(sorted(names))}."
    return [
        {"path": f"policy.only.{index}", "code": "unknown_tool", "message": message}
        for index, name in enumerate(only)
        if isinstance(name, str) and name not in names
    ]


def _tool_names(kind: ToolsetKind, config: Any, learned: Any) -> set[str] | None:
    """None while nobody knows them."""
    if not isinstance(kind, LearningKind):
        return {tool.name for tool in kind.tools(config)}
    if learned is None and kind.needs_learning(config):
        return None
    return {tool.name for tool in kind.learned_tools(config, learned)}


def place_faults(toolset: Toolset, config: Mapping[str, Any], given: Collection[str]) -> list[Fault]:
    """A stored secret must not follow a toolset to another place unasked; `given` are the names of new ones."""
    moved = moved_places(toolset, config)
    left = sorted(set(toolset.secret_names) - set(given))
    if not (moved and left):
        return []
    message = f"With another {moved[0]} give {', '.join(left)} again: a stored secret does not go to another place."
    return [{"path": f"config.{moved[0]}", "code": "secret_needed", "message": message}]


def moved_places(toolset: Toolset, config: Mapping[str, Any]) -> list[str]:
    """The fields of a new config by which the toolset goes elsewhere; what it learned is then of no use either."""
    kind = toolset_kinds().get(toolset.kind)
    places = sorted(kind.places) if kind else ()
    return [name for name in places if toolset.config.get(name) != config.get(name)]


def secret_faults(kind: ToolsetKind, secrets: Mapping[str, Any]) -> list[Fault]:
    known = ", ".join(kind.secrets) or "none"
    unknown = f"The kind '{kind.slug}' has no such secret; it has: {known}."
    faults = [
        {"path": f"secrets.{name}", "code": "unknown_secret", "message": unknown}
        for name in secrets
        if name not in kind.secrets
    ]
    message = f"A secret is a text of 1 to {MAX_SECRET} characters, or null to take it away."
    return faults + [
        {"path": f"secrets.{name}", "code": "invalid", "message": message}
        for name, secret in secrets.items()
        if not (secret is None or (isinstance(secret, str) and 0 < len(secret) <= MAX_SECRET))
    ]


def _kind_faults(slug: str, config: Mapping[str, Any]) -> list[Fault]:
    kind = toolset_kinds().get(slug)
    if kind is None:
        message = f"Unknown kind; this server has {', '.join(toolset_kinds())}."
        return [{"path": "kind", "code": "unknown_kind", "message": message}]
    return config_faults(kind.Config, config)
