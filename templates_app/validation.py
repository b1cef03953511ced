"""What is wrong with a config, and what it needs: every fault at once, each as `{path, code, message}`."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from core.validation import config_faults, parse_config
from templates_app.base import AgentTemplate
from templates_app.requirements import Requirements, sandbox_fault

logger = logging.getLogger(__name__)
Fault = dict[str, Any]


@dataclass(slots=True)
class ConfigReport:
    """`config` is as it will be stored and `requirements` what it needs; None where there is a fault. `named_tools` are
    those of the config, be it right or wrong, after where it names them.
    """

    errors: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    config: dict[str, Any] | None = None
    requirements: Requirements | None = None
    named_tools: list[tuple[str, str]] = field(default_factory=list)

    @property
    def valid(self) -> bool:
        return not self.errors


def fault(path: str, code: str, message: str) -> Fault:
    return {"path": path, "code": code, "message": message}


def check_config(template: AgentTemplate, config: Mapping[str, Any]) -> ConfigReport:
    """By the template's schema, its validators, and what this server has; of a template only these are called."""
    try:
        faults = config_faults(template.Config, config) + _server_faults(template, config)
        named = list(template.named_tools(config))
        parsed = None if faults else parse_config(template.Config, config)
    except (Exception, SystemExit):  # foreign code runs here: whatever it raises is its own fault
        logger.exception("A config cannot be validated", extra={"template": template.slug})
        return ConfigReport([_failed(template)])
    if parsed is None:
        return ConfigReport(faults, named_tools=named)
    report = ConfigReport(config=parsed.model_dump(mode="json", exclude_unset=True), named_tools=named)
    report.requirements = _requirements(template, parsed)
    if report.requirements is None:
        report.errors.append(_failed(template))
    elif lacks := sandbox_fault(report.requirements.sandbox):
        report.errors.append(fault("config", "sandbox_missing", lacks))
    return report


def _server_faults(template: AgentTemplate, config: Mapping[str, Any]) -> list[Fault]:
    found = template.server_faults(config)
    return [fault(".".join(map(str, ("config", *where))), code, message) for where, code, message in found]


def _requirements(template: AgentTemplate, config: BaseModel) -> Requirements | None:
    try:
        found = template.requirements(config)
        if not isinstance(found, Requirements):
            raise TypeError("requirements() must answer Requirements.")
    except (Exception, SystemExit):  # foreign code as well
        logger.exception("The requirements of a config cannot be told", extra={"template": template.slug})
        return None
    return found


def _failed(template: AgentTemplate) -> Fault:
    message = f"The template '{template.slug}' failed at this configuration; the server's log says why."
    return fault("config", "template_failed", message)


def deprecation(template: AgentTemplate, path: str) -> list[Fault]:
    if not template.deprecated:
        return []
    message = f"The template '{template.slug}' {template.version} is deprecated: {template.deprecated}"
    return [fault(path, "template_deprecated", message)]
