"""Background work on budgets; every job is safe to run twice."""

import logging
from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.mail import EmailMessage
from django.db.models import Exists, OuterRef
from django.utils import timezone

from audit.models import AuditEvent
from core import audit
from core.jobs import enqueue, job
from core.tenant import tenant_context
from tenants.models import Tenant
from tenants.principal import system_principal
from usage.daily import roll_up
from usage.models import Budget, BudgetHold, BudgetPeriod
from usage.services.budgets import budget_recount

logger = logging.getLogger(__name__)
MAX_TRIES = 5  # of one mail: after 1, 5, 25 and 125 minutes
SETTLED = timedelta(seconds=10)  # after which every process knows of a changed budget


@job("usage.notify")
def notify(budget_id: str, subject: str, percent: int, tries: int = 1) -> None:
    """Mail that a budget has reached a share of its amount."""
    budget = _told_by_mail(budget_id)
    if budget is None:
        return
    whose = f" of {budget.get_scope_display().lower()} {' '.join(subject.split())}" if subject else ""
    title = f"Budget {budget.slug}{whose}: {percent} % reached"
    text = f"{percent} % of the budget '{budget.slug}'{whose} ({_amount(budget)}) is spent."
    if not _sent(budget, title, text):
        _again("usage.notify", tries, budget_id=budget_id, subject=subject, percent=percent)


@job("usage.notify_subjects")
def notify_subjects(budget_id: str, hour: str, tries: int = 1) -> None:
    """Mail how many subjects, each of which has the amount for itself, reached a share of it in one hour.

    Not which: callers name them, and what strangers write is no text for a mail of ours.
    """
    budget, since = _told_by_mail(budget_id), datetime.fromisoformat(hour)
    if budget is None:
        return
    rows = AuditEvent.objects.filter(tenant_id=budget.tenant_id, object_type="budget", object_id=budget_id)
    rows = rows.filter(action="budget.reached", created_at__gte=since, created_at__lt=since + timedelta(hours=1))
    percents = {subject: percent for percent, subject in sorted(rows.values_list("after__percent", "after__subject"))}
    if not percents:
        return
    whose = f"of each {budget.get_scope_display().lower()}"
    title = f"Budget {budget.slug} {whose}: {min(percents.values())} % or more reached by {len(percents)}"
    counts = sorted(Counter(percents.values()).items(), reverse=True)
    shares = "\n".join(f"{percent} % is spent by {count}." for percent, count in counts)
    text = f"Of the budget '{budget.slug}' {whose} ({_amount(budget)}):\n{shares}"
    if not _sent(budget, title, text):
        _again("usage.notify_subjects", tries, budget_id=budget_id, hour=hour)


def _told_by_mail(budget_id: str) -> Budget | None:
    budget = Budget.objects.filter(id=UUID(budget_id)).first()
    return budget if budget and budget.notify_emails else None


def _amount(budget: Budget) -> str:
    return f"{budget.amount.normalize():f} {budget.unit} for each {budget.period}"


def _sent(budget: Budget, title: str, text: str) -> bool:
    """One mail, whose readers do not see each other; False when the mail server does not take it."""
    text += f"\n\n{settings.BASE_URL}/admin/\n"
    try:
        EmailMessage(title, text, bcc=budget.notify_emails).send()
    except OSError as error:  # SMTP's own errors are among them
        logger.warning("A budget's mail could not be sent: %s", type(error).__name__, extra={"budget": str(budget.id)})
        return False
    return True


def _again(name: str, tries: int, **arguments: Any) -> None:
    """Raises RuntimeError, with which the job fails, after the last try."""
    if tries >= MAX_TRIES:
        raise RuntimeError(f"The mail server took no mail in {tries} tries.")
    enqueue(name, at=timezone.now() + timedelta(minutes=5 ** (tries - 1)), tries=tries + 1, **arguments)


@job("usage.recount", platform=True, cron="* * * * *")
def recount() -> None:
    """Count budgets again that were changed a moment ago: calls that another process settled meanwhile did not know."""
    now = timezone.now()
    changed = Budget.objects.using("ops").filter(updated_at__gt=now - timedelta(minutes=3), is_active=True)
    for tenant_id, id in changed.filter(updated_at__lt=now - SETTLED).values_list("tenant_id", "id"):
        with tenant_context(tenant_id):
            budget = Budget.objects.filter(tenant_id=tenant_id, id=id).first()
            if budget is not None and (wrong := budget_recount(budget)):
                actor, told = system_principal(tenant_id, ""), {"periods": wrong}
                audit.record(actor=actor, action="budget.recount", target=budget, after=told)


@job("usage.forget_run_periods", platform=True, cron="27 * * * *")
def forget_run_periods() -> None:
    """What one run has spent is asked while it runs; its records stay."""
    old = BudgetPeriod.objects.using("ops").filter(budget__scope=Budget.Scope.RUN)
    old = old.filter(created_at__lt=timezone.now() - timedelta(days=2))
    old.filter(~Exists(BudgetHold.objects.using("ops").filter(period_id=OuterRef("id")))).delete()


@job("usage.roll_up", platform=True, cron="13 * * * *")
def roll_up_days() -> None:
    """Add up past days, for reports; one that a late record came to is added up again."""
    for tenant_id in Tenant.objects.using("ops").values_list("id", flat=True):
        with tenant_context(tenant_id):
            roll_up(tenant_id, timezone.now())
