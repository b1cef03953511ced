"""Whether toolsets go with a template and a model, and why not: asked before an agent is made."""

from collections.abc import Mapping
from typing import Any

from agents.validation import Report, check_agent
from templates_app.validation import Fault
from tenants.principal import Principal
from toolsets.selectors import toolsets_by_slug, usable_toolsets
from toolsets.toolbox import tool_index


def compatibility(*, actor: Principal, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` are an agent's template, template_version, model (the last two may be missing) and toolsets.

    `reasons` of a toolset concern it alone; `errors` and `warnings` are of all.
    """
    report = check_agent(actor=actor, values=values)
    toolsets = _of_toolsets(actor, values["toolsets"], report)
    shared = [each for each in report.errors if not _index(each)]
    return {"compatible": report.valid, "toolsets": toolsets, "errors": shared, "warnings": report.warnings}


def _of_toolsets(actor: Principal, slugs: list[str], report: Report) -> list[dict[str, Any]]:
    """With the names of the tools as the agent's model would have them."""
    reasons_of = [[each for each in report.errors if _index(each) == str(index)] for index in range(len(slugs))]
    usable = usable_toolsets(toolsets_by_slug(actor=actor, slugs=slugs).values())
    good = [slug for slug, reasons in zip(slugs, reasons_of, strict=True) if not reasons and slug in usable]
    offered = tool_index(usable[slug] for slug in good).tools
    told = []
    for slug, reasons in zip(slugs, reasons_of, strict=True):
        names = sorted(name for name, each in offered.items() if not reasons and each.toolset.slug == slug)
        told.append({"toolset": slug, "compatible": not reasons, "reasons": reasons, "tools": names})
    return told


def _index(fault: Fault) -> str:
    """The place of the toolset that a fault is of; "" for one of all."""
    return fault["path"].removeprefix("toolsets.") if fault["path"].startswith("toolsets.") else ""
