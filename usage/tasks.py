"""Background work on budgets; every job is safe to run twice."""

import logging
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from core.jobs import job
from core.tenant import tenant_context
from tenants.models import Tenant
from usage.daily import roll_up
from usage.models import Budget, BudgetHold, BudgetPeriod
from usage.services.budgets import budget_recount

logger = logging.getLogger(__name__)
SETTLED = timedelta(seconds=10)  # after which every process knows of a changed budget


@job("usage.notify")
def notify(budget_id: str, subject: str, percent: int) -> None:
    """Mail that a budget has reached a share of its amount."""
    budget = Budget.objects.filter(id=UUID(budget_id)).first()
    if budget is None or not budget.notify_emails:
        return
    whose = f" of {budget.get_scope_display().lower()} {subject}" if subject else ""
    title = f"Budget {budget.slug}{whose}: {percent} % reached"
    text = (
        f"{percent} % of the budget '{budget.slug}'{whose} ({budget.amount.normalize():f} {budget.unit} for each "
        f"{budget.period}) is spent.\n\n{settings.BASE_URL}/admin/\n"
    )
    send_mail(title, text, None, budget.notify_emails)


@job("usage.recount", platform=True, cron="* * * * *")
def recount() -> None:
    """Count budgets again that were changed a moment ago: calls that another process settled meanwhile did not know."""
    now = timezone.now()
    changed = Budget.objects.using("ops").filter(updated_at__gt=now - timedelta(minutes=3), is_active=True)
    for tenant_id, id in changed.filter(updated_at__lt=now - SETTLED).values_list("tenant_id", "id"):
        with tenant_context(tenant_id), transaction.atomic():
            budget = Budget.objects.filter(tenant_id=tenant_id, id=id).first()
            wrong = budget_recount(budget) if budget else 0
        if wrong:
            logger.info("%d periods of a budget were counted again", wrong, extra={"budget_id": str(id)})


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
