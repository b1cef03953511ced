"""The rules of a route, checked together so that a caller sees every fault at once."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.validation import config_faults, invalid, pydantic_faults, slug_faults
from llm.models import Provider
from llm.routing import STRATEGIES
from llm.routing.base import Strategy
from llm.routing.cel import MAX_RULE, RuleFault, check_rule
from llm.routing.routed import PREFIX
from llm.selectors.providers import model_fault, with_models
from tenants.principal import Principal

MAX_TARGETS = 20
MAX_NAME = 120
MAX_WEIGHT = 1_000_000
Fault = dict[str, Any]


class TargetSpec(BaseModel):
    """A target as callers write it. Which of weight, rule and variant count is said by the strategy."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str = Field(max_length=255, description="provider/model")
    weight: int = Field(1, ge=0, le=MAX_WEIGHT, description="Its share of the calls; 0 makes it a fallback only.")
    rule: str = Field(
        "",
        description=f"A CEL expression of at most {MAX_RULE} characters, such as: images > 0 || input_tokens > 8000. "
        "Empty takes every request.",
    )
    variant: str = Field("", max_length=63, description="What the report calls it, such as A.")
    enabled: bool = Field(True, description="Whether calls may go to it.")


@dataclass(frozen=True, slots=True)
class CheckedTarget:
    spec: TargetSpec
    provider: Provider
    model: str  # the provider's own name for it


def fault(path: str, code: str, message: str) -> Fault:
    return {"path": path, "code": code, "message": message}


def check_route(*, actor: Principal, values: Mapping[str, Any]) -> list[CheckedTarget]:
    """The targets as they will be stored, where `targets` are among the values, which need not be all of a route's.

    Raises one InvalidRequest whose `details` hold every fault.
    """
    faults = slug_faults(values["slug"]) if "slug" in values else []
    if len(values.get("name", "")) > MAX_NAME:
        faults.append(fault("name", "max_length", f"A name has at most {MAX_NAME} characters."))
    strategy = STRATEGIES.get(values["strategy"]) if "strategy" in values else None
    if "strategy" in values and strategy is None:
        message = f"There is no strategy '{values['strategy']}'; known: {', '.join(STRATEGIES)}."
        faults.append(fault("strategy", "unknown_strategy", message))
    if strategy is not None:
        faults += config_faults(strategy.Settings, values.get("settings", {}), "settings")
    checked: list[CheckedTarget] = []
    if "targets" in values:
        checked, found = _check_targets(actor, values["targets"], strategy)
        faults += found
    if faults:
        raise invalid(faults)
    return checked


def _check_targets(
    actor: Principal, targets: Sequence[Any], strategy: Strategy | None
) -> tuple[list[CheckedTarget], list[Fault]]:
    if not 1 <= len(targets) <= MAX_TARGETS:
        return [], [fault("targets", "invalid", f"A route has 1 to {MAX_TARGETS} targets.")]
    specs, faults = _specs(targets)
    slugs = {spec.model.partition("/")[0] for spec in specs.values()}
    rows = with_models(Provider.objects.filter(tenant_id=actor.tenant_id, slug__in=slugs))
    providers = {row.slug: row for row in rows}
    checked = []
    for index, spec in specs.items():
        slug, _, model = spec.model.partition("/")
        found = _model_faults(f"targets.{index}.model", slug, model, providers.get(slug))
        found += _rule_faults(f"targets.{index}.rule", spec.rule)
        faults += found
        if not found:
            checked.append(CheckedTarget(spec, providers[slug], model))
    if strategy is not None and len(specs) == len(targets):
        faults += _strategy_faults(strategy, list(specs.values()))
    return checked, faults


def _specs(targets: Sequence[Any]) -> tuple[dict[int, TargetSpec], list[Fault]]:
    specs, faults = {}, []
    for index, target in enumerate(targets):
        try:
            specs[index] = TargetSpec.model_validate(target)
        except ValidationError as error:
            faults += pydantic_faults(error, f"targets.{index}")
    return specs, faults


def _model_faults(path: str, slug: str, model: str, provider: Provider | None) -> list[Fault]:
    if not (slug and model) or not model.isprintable() or " " in model:
        return [fault(path, "invalid", "Write the model as provider/model, without blanks.")]
    if provider is None and slug == PREFIX:
        return [fault(path, "invalid", "A route cannot hold a route: list the models of that one.")]
    if provider is None:
        return [fault(path, "unknown_provider", f"There is no provider '{slug}'.")]
    wrong = model_fault(provider, model)
    return [fault(path, *wrong)] if wrong else []


def _rule_faults(path: str, rule: str) -> list[Fault]:
    try:
        if rule:
            check_rule(rule)
    except RuleFault as error:
        return [fault(path, "invalid_rule", str(error))]
    return []


def _strategy_faults(strategy: Strategy, specs: Sequence[TargetSpec]) -> list[Fault]:
    """What is right by itself and makes no sense for the strategy."""
    faults = []
    if "weight" in strategy.uses and not any(spec.weight for spec in specs if spec.enabled):
        faults.append(fault("targets", "no_weight", "Give a weight above 0 to a target that is enabled."))
    if "rule" not in strategy.uses:
        faults += _duplicates("model", (spec.model for spec in specs))
    if "variant" in strategy.uses:
        faults += _duplicates("variant", (spec.variant for spec in specs))
        faults += [
            fault(f"targets.{index}.variant", "required", "Name the variant, such as A: the report shows it.")
            for index, spec in enumerate(specs)
            if not spec.variant.strip()
        ]
    return faults


def _duplicates(name: str, values: Iterable[str]) -> list[Fault]:
    seen: Counter[str] = Counter()
    faults = []
    for index, value in enumerate(values):
        seen[value] += 1
        if value and seen[value] > 1:
            faults.append(fault(f"targets.{index}.{name}", "duplicate", f"'{value}' is listed twice."))
    return faults
