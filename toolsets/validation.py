"""What a toolset may be; every fault at once."""

from collections.abc import Mapping
from typing import Any

from core.validation import config_faults, slug_faults
from toolsets.registry import toolset_kinds

Fault = dict[str, Any]
RESERVED = frozenset({"kinds", "compatibility"})  # paths below /v1/toolsets


def toolset_faults(values: Mapping[str, Any]) -> list[Fault]:
    """Checks the fields that are there: slug, name, kind and config."""
    faults: list[Fault] = []
    if "slug" in values:
        faults += slug_faults(values["slug"], reserved=RESERVED)
    if "name" in values and not (values["name"].strip() and len(values["name"]) <= 120):
        faults.append({"path": "name", "code": "invalid", "message": "Give a name of 1 to 120 characters."})
    if "kind" in values:
        faults += _kind_faults(values["kind"], values.get("config", {}))
    return faults


def _kind_faults(slug: str, config: Mapping[str, Any]) -> list[Fault]:
    kind = toolset_kinds().get(slug)
    if kind is None:
        message = f"Unknown kind; this server has {', '.join(toolset_kinds())}."
        return [{"path": "kind", "code": "unknown_kind", "message": message}]
    return config_faults(kind.Config, config)
