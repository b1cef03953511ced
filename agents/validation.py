"""What an agent may be; every fault at once, each as `{path, code, message}`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from agents.circles import asking_faults
from agents.models import AgentVersion
from agents.requirements import best_of, model_faults, toolset_faults
from core.errors import NotFound
from core.validation import slug_faults
from llm.capabilities import capabilities_of, capabilities_with
from llm.catalog.matrix import Capabilities
from llm.models import Provider, Route
from llm.routing.routed import PREFIX as ROUTE
from llm.routing.stored import targets_of, why_left_out
from llm.selectors.models import provider_of_model
from llm.selectors.providers import model_fault, provider_models
from templates_app.base import AgentTemplate
from templates_app.registry import registry
from templates_app.requirements import Requirements
from templates_app.validation import Fault, check_config, deprecation, fault
from tenants.principal import Principal
from toolsets.models import Toolset
from toolsets.selectors import reserved_kind, toolsets_by_slug, usable_toolsets
from toolsets.toolbox import GrantedToolset, ToolIndex, tool_index
from toolsets.validation import toolset_warnings

RESERVED = frozenset({"validate"})  # a path below /v1/agents
MAX_NAME = 120
MAX_MODEL = 255
MAX_INSTRUCTIONS = 100_000  # characters
MAX_BYTES = {"config": 512 * 1024, "metadata": 65_536}  # of their JSON
MAX_TOOLSETS = 50
MAX_RUNS = 10_000  # of one agent at once
MAX_CACHE_SECONDS = 30 * 86_400
# What keeps no agent from other changes that was granted the toolset before: it answers without its tools.
_MAY_STAY = frozenset({"unknown_toolset", "toolset_broken", "toolset_disabled"})


@dataclass(slots=True)
class Report:
    """What was found. `template_version` and `config` are as they will be stored, `needs` are the config's; None where
    there is a fault.
    """

    errors: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    template_version: str | None = None
    config: dict[str, Any] | None = None
    needs: Requirements | None = None
    named_tools: list[tuple[str, str]] = field(default_factory=list)

    @property
    def valid(self) -> bool:
        return not self.errors


def check_agent(*, actor: Principal, values: Mapping[str, Any], held: Collection[str] = ()) -> Report:
    """Checks the fields that are there, so that an edge which found faults of its own can add the others.

    `held` are the toolsets that the agent is granted already: one that was switched off since is a warning.
    """
    report = Report()
    if "slug" in values:
        report.errors += slug_faults(values["slug"], reserved=RESERVED)
    report.errors += _text_faults(values) + _size_faults(values)
    template = _check_template(report, values)
    if template is not None and "config" in values:
        _check_config(report, template, values["config"])
    report.errors += _when_busy_faults(values, template) + _limit_faults(values)
    if "model" in values and (able := _check_model(report, actor, values["model"])):
        _check_abilities(report, able, values, template)
    if "toolsets" in values:
        _check_toolsets(report, actor, values, template, held)
    return report


def _text_faults(values: Mapping[str, Any]) -> list[Fault]:
    faults = []
    name = values.get("name")
    if name is not None and not (name.strip() and len(name) <= MAX_NAME):
        faults.append(fault("name", "invalid", f"Give a name of 1 to {MAX_NAME} characters."))
    if len(values.get("instructions", "")) > MAX_INSTRUCTIONS:
        message = f"Instructions have at most {MAX_INSTRUCTIONS} characters."
        faults.append(fault("instructions", "max_length", message))
    return faults


def _size_faults(values: Mapping[str, Any]) -> list[Fault]:
    return [
        fault(name, "too_large", f"The JSON of {name} has {size:,} bytes; at most {most:,} are taken.")
        for name, most in MAX_BYTES.items()
        if (size := len(orjson.dumps(values.get(name, {}), default=str))) > most
    ]


def _check_template(report: Report, values: Mapping[str, Any]) -> AgentTemplate | None:
    slug, version = values.get("template"), values.get("template_version")
    if slug is None:
        return None
    broken = [health for health in registry.health() if health.slug == slug and not health.versions]
    if broken:
        reason = broken[0].problems[0].reason if broken[0].problems else "Nothing of it could be loaded."
        report.errors.append(fault("template", "template_unhealthy", f"The template '{slug}' is unusable: {reason}"))
        return None
    try:
        template = registry.get(slug, version)
    except NotFound as error:
        report.errors.append(fault(error.param or "template", error.code, error.message))
        return None
    report.template_version = template.version
    report.warnings += deprecation(template, "template_version")
    return template


def _check_config(report: Report, template: AgentTemplate, config: Mapping[str, Any]) -> None:
    found = check_config(template, config)
    report.errors += found.errors
    report.config, report.needs, report.named_tools = found.config, found.requirements, found.named_tools


def _when_busy_faults(values: Mapping[str, Any], template: AgentTemplate | None) -> list[Fault]:
    known = AgentVersion.WhenBusy
    chosen = values.get("when_busy", known.QUEUE)
    if chosen not in known.values:
        return [fault("when_busy", "invalid_choice", f"Choose one of {', '.join(known.values)}.")]
    if chosen == known.STEER and template is not None and "steering" not in template.capabilities:
        others = ", ".join(other for other in known.values if other != known.STEER)
        message = f"The template '{template.slug}' hears nothing while it runs. Choose one of {others}."
        return [fault("when_busy", "steering_unsupported", message)]
    return []


def _limit_faults(values: Mapping[str, Any]) -> list[Fault]:
    limits = {"max_concurrent_runs": MAX_RUNS, "cache_seconds": MAX_CACHE_SECONDS}
    return [
        fault(name, "invalid", f"Give a whole number from 1 to {most}, or none.")
        for name, most in limits.items()
        if (value := values.get(name)) is not None and not 1 <= value <= most
    ]


def _check_model(report: Report, actor: Principal, name: str) -> Capabilities | None:
    """What the model can do, as far as it is known; None when there is no such model."""
    slug, _, model = name.partition("/")
    if not (slug and model) or len(name) > MAX_MODEL or not name.isprintable() or " " in name:
        message = "Write the model as provider/model or route/slug, without blanks."
        report.errors.append(fault("model", "invalid", message))
        return None
    if slug == ROUTE:
        return _check_route(report, actor, model)
    found = provider_of_model(actor=actor, slug=slug, model=model)
    if found is None:
        report.errors.append(fault("model", "unknown_provider", f"There is no provider '{slug}'."))
        return None
    provider, overrides = found
    return capabilities_with(provider, model, overrides) if _check_listed(report, provider, model) else None


def _check_listed(report: Report, provider: Provider, model: str) -> bool:
    wrong = model_fault(provider, model)
    if wrong is not None:
        report.errors.append(fault("model", *wrong))
    elif model not in provider_models(provider):
        message = f"Whether '{provider.slug}' has the model '{model}' is unknown until the provider is tested."
        report.warnings.append(fault("model", "model_unverified", message))
    return wrong is None


def _check_abilities(
    report: Report, able: Capabilities, values: Mapping[str, Any], template: AgentTemplate | None
) -> None:
    """What the configuration asks of a model that it is known to lack is an error, what is not known a warning."""
    if report.needs:
        errors, warnings = model_faults(report.needs, able, values["model"])
        report.errors += errors
        report.warnings += warnings
    uses_tools = values.get("toolsets") and template is not None and "tools" in template.capabilities
    if uses_tools and able.tools is False:
        message = f"The model '{values['model']}' calls no tools. If it does, say so in its provider's list of models."
        report.errors.append(fault("toolsets", "unsupported_by_model", message))
    elif uses_tools and able.tools is None:
        message = f"Whether the model '{values['model']}' calls tools is not known."
        report.warnings.append(fault("toolsets", "tools_unverified", message))
    longest = (report.config or {}).get("max_tokens")
    if longest and able.output_tokens and longest > able.output_tokens:
        message = f"An answer of the model '{values['model']}' has at most {able.output_tokens} tokens."
        report.errors.append(fault("config.max_tokens", "over_model_output", message))


def _check_route(report: Report, actor: Principal, slug: str) -> Capabilities | None:
    """What any of the route's models can do."""
    route = Route.objects.filter(tenant_id=actor.tenant_id, slug=slug).first()
    if route is None:
        report.errors.append(fault("model", "unknown_route", f"There is no route '{slug}'."))
        return None
    if not route.is_active:
        message = f"The route '{slug}' is switched off: the agent cannot answer until it is switched on."
        report.warnings.append(fault("model", "route_inactive", message))
    targets = [row for row in targets_of(route) if not why_left_out(row)]
    return best_of(capabilities_of(row.provider, row.model) for row in targets)


def _check_named_tools(report: Report, index: ToolIndex) -> None:
    for path, name in report.named_tools:
        if name not in index.tools:
            message = f"The agent is granted no tool '{name}'. It has {', '.join(index.tools) or 'none'}."
            report.errors.append(fault(f"config.{path}", "tool_not_granted", message))


def _check_toolsets(
    report: Report,
    actor: Principal,
    values: Mapping[str, Any],
    template: AgentTemplate | None,
    held: Collection[str],
) -> None:
    slugs: Sequence[str] = values["toolsets"]
    if len(slugs) > MAX_TOOLSETS:
        report.errors.append(fault("toolsets", "too_many", f"An agent has at most {MAX_TOOLSETS} toolsets."))
        return
    found = toolsets_by_slug(actor=actor, slugs=slugs)
    usable = usable_toolsets(found.values())
    granted = []
    for index, slug in enumerate(slugs):
        path = f"toolsets.{index}"
        if slug in slugs[:index]:
            report.errors.append(fault(path, "duplicate", f"The toolset '{slug}' is listed twice."))
            continue
        refusal = _refusal(slug, found.get(slug), usable, template)
        if refusal:
            may_stay = slug in held and refusal[0] in _MAY_STAY
            (report.warnings if may_stay else report.errors).append(fault(path, *refusal))
        else:
            _warn_unlearned(report, path, found[slug])
        if slug in usable and (not refusal or may_stay):
            granted.append(usable[slug])
    places = [(f"toolsets.{index}", found[slug]) for index, slug in enumerate(slugs) if slug in found]
    report.warnings += toolset_warnings(actor, [(path, toolset.kind, toolset.config) for path, toolset in places])
    report.warnings += asking_faults(actor.tenant_id, values.get("slug", ""), slugs, found)
    offered = tool_index(granted)
    if len(granted) == len(slugs):
        _check_named_tools(report, offered)
    for name in offered.clashes:
        message = f"Several tools would be called '{name}', or the name is too long: rename a toolset."
        report.errors.append(fault("toolsets", "tool_name_clash", message))
    if report.needs:
        able = [toolset for toolset in found.values() if toolset.enabled or toolset.slug in held]
        report.errors += toolset_faults(report.needs, able)
    if slugs and template is not None and "tools" not in template.capabilities:
        message = f"The template '{template.slug}' uses no tools: the granted toolsets have no effect."
        report.warnings.append(fault("toolsets", "tools_unused", message))


def _refusal(
    slug: str, toolset: Toolset | None, usable: Mapping[str, GrantedToolset], template: AgentTemplate | None
) -> tuple[str, str] | None:
    """Code and message."""
    if toolset is None:
        return "unknown_toolset", f"There is no toolset '{slug}'."
    if slug not in usable:
        message = f"The kind of the toolset '{slug}' is not installed, or no longer takes its config."
        return "toolset_broken", message
    if not toolset.enabled:
        return "toolset_disabled", f"The toolset '{toolset.slug}' is disabled."
    if template is not None and reserved_kind(toolset) not in {"", *template.reserved_toolsets}:
        return "toolset_reserved", (
            f"Toolsets of the kind '{toolset.kind}' are reserved for agents of templates that name the kind in their "
            f"reserved_toolsets, and the template '{template.slug}' does not."
        )
    return None


def _warn_unlearned(report: Report, path: str, toolset: Toolset) -> None:
    if toolset.learn_due is not None and toolset.learned_at is None:
        message = f"The server of the toolset '{toolset.slug}' has not told its tools yet. {toolset.learn_error}"
        report.warnings.append(fault(path, "tools_unknown", message.rstrip()))
