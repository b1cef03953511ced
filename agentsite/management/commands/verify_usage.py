from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from agentsite.ledger import ledger_differences
from core.tenant import tenant_context
from tenants.models import Tenant
from tenants.principal import system_principal
from usage.services.budgets import period_repair

DIFFERENT = 1  # exit code
_OF_PERIODS = ("spent", "reserved")


class Command(BaseCommand):
    help = (
        "Prove that usage adds up: each budget's periods are the sums of its records and holds, each record costs what "
        "its prices and tokens say, each finished run has its records' tokens, and nothing is held for one. "
        "Prints what differs; the exit code is 1 when something does."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", help="the slug of one tenant; without it, all")
        parser.add_argument("--repair", action="store_true", help="count the budgets' periods that differ again")

    def handle(self, *args: Any, tenant: str | None, repair: bool, **options: Any) -> None:
        rows = Tenant.objects.using("ops").order_by("slug")
        tenants = list(rows.filter(slug=tenant) if tenant else rows)
        if tenant and not tenants:
            raise CommandError(f"No tenant '{tenant}'.")
        left = sum([self._verify(found, repair=repair) for found in tenants])
        if left:
            raise SystemExit(DIFFERENT)
        self.stdout.write("usage adds up")

    def _verify(self, tenant: Tenant, *, repair: bool) -> int:
        """How many differences are left."""
        left = 0
        with tenant_context(tenant.id):
            for difference in list(ledger_differences(tenant.id)):
                mended = repair and difference.kind in _OF_PERIODS
                if mended:
                    period_repair(actor=system_principal(tenant.id, tenant.slug), period_id=difference.row)
                left += not mended
                self.stdout.write(f"{tenant.slug}: {difference.text}{'; counted again' if mended else ''}")
        return left
