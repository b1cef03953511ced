"""Who pays for a run, and what was used by attempts that nobody could account for."""

from typing import Any

from django.db.models import Sum
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Length
from django.utils import timezone

from agents.models import AgentVersion
from core.errors import ApplicationError
from llm.metering import Held, hold
from llm.pricing import quote_of
from llm.selectors.providers import model_resolve
from llm.targets import Target
from llm.tokens import BYTES_LIKELY, asked_likely
from runs.events import DELTAS
from runs.models import Run, RunEvent
from tenants.principal import Principal
from usage.budgets import Payer
from usage.models import UsageRecord
from usage.prices import Quote, Tokens
from usage.records import MOST_TOKENS, CallRecord, call_id
from usage.services.spending import settle

Messages = list[dict[str, Any]]


def payer_of(run: Run) -> Payer:
    version = run.agent_version
    return Payer(
        tenant_id=run.tenant_id,
        actor_kind=run.actor_kind,
        actor_id=run.actor_id,
        actor_label=run.actor_label,
        end_user=run.end_user,
        agent_id=version.agent_id if version else None,
        agent=version.agent.slug if version else "",
        agent_version=version.number if version else None,
        session_id=run.session_id,
        run_id=run.id,
    )


def hold_first(run: Run, *, fence: int, target: Target, context: Messages) -> Held | None:
    """Hold for the run's first call of a model; None where no hard budget applies. The last work of a begin.

    Raises BudgetExceeded or PriceUnknown, with which nothing has begun.
    """
    version, request = run.agent_version, run.request
    params = {**request["params"], "tools": request["client_tools"]}
    told = [*_instructions(version), *context]
    return hold(payer_of(run), call_id(run.id, fence, 1), target.models(), told, params)


def _instructions(version: AgentVersion | None) -> Messages:
    return [{"role": "system", "content": version.instructions}] if version and version.instructions else []


def pay_for_lost(*, run: Run, fence: int, actor: Principal, context: Messages) -> None:
    """A process ended during the attempt `fence`: what it held is free, and what it used is estimated by what it said.

    `context` is what its model saw. Calls that it has accounted for are not counted again.
    """
    known = UsageRecord.objects.filter(tenant_id=run.tenant_id, run_id=run.id, fence=fence)
    before = list(known.values_list("output_tokens", flat=True))
    said = RunEvent.objects.filter(tenant_id=run.tenant_id, run_id=run.id, day=run.day, fence=fence, type__in=DELTAS)
    size = said.aggregate(size=Sum(Length(KeyTextTransform("delta", "data"))))["size"] or 0
    more = size // BYTES_LIKELY - sum(before)
    told = [*_instructions(run.agent_version), *context]
    tokens = Tokens(input=asked_likely(told), output=max(more, 0))
    calls = [_estimated(run, fence, len(before) + 1, tokens, actor)] if more > 0 or not before else []
    settle(tenant_id=run.tenant_id, calls=calls, run_id=run.id)


def tokens_used(run: Run) -> tuple[int, int]:
    """Of all calls of the run, those of lost attempts included: tokens taken in, and answered."""
    calls = UsageRecord.objects.filter(tenant_id=run.tenant_id, run_id=run.id)
    found = calls.aggregate(asked=Sum("input_tokens"), answered=Sum("output_tokens"))
    return min(found["asked"] or 0, MOST_TOKENS), min(found["answered"] or 0, MOST_TOKENS)


def run_recount(*, run: Run) -> None:
    """A call of the run has ended after it."""
    prompt, completion = tokens_used(run)
    rows = Run.objects.filter(tenant_id=run.tenant_id, id=run.id).exclude(finished_at=None)
    rows.update(prompt_tokens=prompt, completion_tokens=completion)


def _estimated(run: Run, fence: int, number: int, tokens: Tokens, actor: Principal) -> CallRecord:
    provider, model, quote = _asked(run, actor)
    return CallRecord(
        id=call_id(run.id, fence, number),
        payer=payer_of(run),
        began=run.started_at or timezone.now(),
        provider=provider,
        model=model,
        quote=quote,
        tokens=tokens,
        tokens_certain=False,
        fence=fence,
        number=number,
        told={"error_code": "run_lost"},
    )


def _asked(run: Run, actor: Principal) -> tuple[str, str, Quote]:
    """The provider, the model and its price; of a route the first of its models, since nobody knows which it was."""
    try:
        target = model_resolve(actor=actor, name=run.model).models()[0]
    except (ApplicationError, IndexError):  # deleted meanwhile
        provider, _, model = run.model.partition("/")
        return provider, model, Quote(None, "unknown")
    return target.connection.slug, target.model, quote_of(actor.tenant_id, target, timezone.now())
