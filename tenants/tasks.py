from django.utils import timezone

from core.jobs import job
from tenants.models import Guest, SocketTicket


@job("tenants.purge_tickets", platform=True, cron="*/10 * * * *")
def purge_tickets() -> None:
    SocketTicket.objects.using("ops").filter(expires_at__lt=timezone.now()).delete()


@job("tenants.purge_guests", platform=True, cron="23 3 * * *")
def purge_guests() -> None:
    """Their sessions stay the tenant's, under their names."""
    Guest.objects.using("ops").filter(expires_at__lt=timezone.now()).delete()
