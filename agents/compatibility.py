"""Whether toolsets go with a template and a model, and why not: asked before an agent is made."""

from collections.abc import Mapping
from typing import Any

from agents.validation import Report, check_agent
from templates_app.validation import Fault
from tenants.principal import Principal
from toolsets.selectors import toolsets_by_slug, usable_toolsets

# Warnings of an agent with which the toolsets would have no effect.
_USELESS = frozenset({"tools_unused"})


def compatibility(*, actor: Principal, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` are an agent's template, template_version, model (the last two may be missing) and toolsets.

    `reasons` of a toolset concern it alone; `errors` and `warnings` are of all.
    """
    report = check_agent(actor=actor, values=values)
    errors = report.errors + [each for each in report.warnings if each["code"] in _USELESS]
    warnings = [each for each in report.warnings if each["code"] not in _USELESS]
    toolsets = _of_toolsets(actor, values["toolsets"], report)
    shared = [each for each in errors if not _index(each)]
    return {"compatible": not errors, "toolsets": toolsets, "errors": shared, "warnings": warnings}


def _of_toolsets(actor: Principal, slugs: list[str], report: Report) -> list[dict[str, Any]]:
    usable = usable_toolsets(toolsets_by_slug(actor=actor, slugs=slugs).values())
    told = []
    for index, slug in enumerate(slugs):
        reasons = [each for each in report.errors if _index(each) == str(index)]
        names = [] if reasons or slug not in usable else sorted(tool.name for tool in usable[slug].tools)
        told.append({"toolset": slug, "compatible": not reasons, "reasons": reasons, "tools": names})
    return told


def _index(fault: Fault) -> str:
    """The place of the toolset that a fault is of; "" for one of all."""
    return fault["path"].removeprefix("toolsets.") if fault["path"].startswith("toolsets.") else ""
