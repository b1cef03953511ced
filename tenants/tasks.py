from django.utils import timezone

from core.jobs import job
from tenants.models import SocketTicket


@job("tenants.purge_tickets", platform=True, cron="*/10 * * * *")
def purge_tickets() -> None:
    SocketTicket.objects.using("ops").filter(expires_at__lt=timezone.now()).delete()
