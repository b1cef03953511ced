"""What becomes of an agent that goes to another version of its template: what changes, and why it cannot."""

import logging
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from agents.validation import check_agent
from core.differences import Difference, differences
from templates_app.base import AgentTemplate
from templates_app.exceptions import ConfigNotMigrated
from templates_app.validation import Fault, check_config, fault
from templates_app.versions import precedence
from tenants.principal import Principal

logger = logging.getLogger(__name__)
MAX_REASON = 500  # characters of a template's own reason


@dataclass(slots=True)
class Upgrade:
    """Of one agent. `config` is the one that it will have; None where there are errors, and where nothing changes.

    `number` is the agent version that was made by it.
    """

    agent: str
    before: Mapping[str, Any]
    to: str
    config: dict[str, Any] | None = None
    errors: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    number: int | None = None

    @property
    def status(self) -> str:
        """`unchanged`: it has that version already."""
        if self.errors:
            return "refused"
        if self.number:
            return "migrated"
        return "unchanged" if self.config is None else "ready"

    @property
    def changes(self) -> list[Difference]:
        if self.config is None:
            return []
        return differences({"config": self.before["config"]}, {"config": self.config})


def upgrade_of(*, actor: Principal, values: Mapping[str, Any], to: AgentTemplate) -> Upgrade:
    """`values` are the agent's slug and what its version holds. Writes nothing; of the template only `migrate_config`
    and `requirements` are called.
    """
    upgrade = Upgrade(values["slug"], values, to.version)
    if values["template"] != to.slug:
        message = f"The agent's template is '{values['template']}', not '{to.slug}'."
        upgrade.errors.append(fault("template", "other_template", message))
    elif values["template_version"] != to.version:
        _fill(upgrade, actor, to)
    return upgrade


def _fill(upgrade: Upgrade, actor: Principal, to: AgentTemplate) -> None:
    config, upgrade.errors = _migrated(upgrade.before, to)
    if config is None:
        return
    values = {**upgrade.before, "template_version": to.version, "config": config}
    report = check_agent(actor=actor, values=values, held=values["toolsets"])
    upgrade.errors, upgrade.warnings = report.errors, report.warnings
    upgrade.config = report.config if report.valid else None


def _migrated(before: Mapping[str, Any], to: AgentTemplate) -> tuple[dict[str, Any] | None, list[Fault]]:
    """The config for the version `to`, or every reason why there is none."""
    given: str = before["template_version"]
    if precedence(given) > precedence(to.version):
        message = f"{to.version} is below the agent's {given}. Restore an older version of the agent instead."
        return None, [fault("template_version", "not_an_upgrade", message)]
    if to.migrates():
        return _asked(before, to)
    if to.takes_over(given):
        return dict(before["config"]), []
    message = (
        f"'{to.slug}' {to.version} is no compatible upgrade of {given}, only of {to.compatible_from()} and above, "
        "and turns no older configuration into its own."
    )
    reasons = check_config(to, before["config"]).errors
    return None, [fault("template_version", "incompatible_version", message), *reasons]


def _asked(before: Mapping[str, Any], to: AgentTemplate) -> tuple[dict[str, Any] | None, list[Fault]]:
    given = before["template_version"]
    try:
        config = to.migrate_config(given, deepcopy(before["config"]))
        if not isinstance(config, dict):
            raise TypeError("migrate_config() must answer a dict.")
    except ConfigNotMigrated as error:
        reason = str(error)[:MAX_REASON] or "The template gives no reason."
        return None, [fault("config", "not_migrated", reason)]
    except (Exception, SystemExit):  # foreign code runs here: whatever it raises is its own fault
        logger.exception("A template failed to migrate a config", extra={"template": to.slug, "version": to.version})
        message = f"'{to.slug}' {to.version} failed at this configuration of {given}; the server's log says why."
        return None, [fault("config", "migration_failed", message)]
    return config, []
