"""Background work on toolsets; every job is safe to run twice."""

from uuid import UUID

from django.utils import timezone

from core.aio import in_db_thread
from core.errors import Conflict, NotFound, Unavailable
from core.jobs import enqueue, job
from core.tenant import current_tenant, tenant_context
from tenants.models import Tenant
from tenants.principal import Principal, system_principal
from toolsets.learning import postpone, toolset_refresh
from toolsets.models import Toolset

MOST = 500  # toolsets whose servers begin to be asked in a minute, those first that are due for longest


@job("toolsets.learn_due", platform=True, cron="* * * * *")
def learn_due() -> None:
    """Have the tools of those toolsets learned again whose time has come."""
    due = Toolset.objects.using("ops").filter(learn_due__lte=timezone.now(), enabled=True)
    due = due.filter(tenant__status=Tenant.Status.ACTIVE).order_by("learn_due", "id")
    for tenant_id, toolset_id in due.values_list("tenant_id", "id")[:MOST]:
        with tenant_context(tenant_id):
            enqueue("toolsets.learn", once=str(toolset_id), toolset_id=str(toolset_id))


@job("toolsets.learn")
async def learn(toolset_id: str) -> None:
    """Nothing is to be done for one that was deleted meanwhile; one that was changed has a job of its own."""
    actor = await in_db_thread(_actor)
    try:
        await toolset_refresh(actor=actor, ref=toolset_id, watching=True)
    except NotFound:
        return
    except (Conflict, Unavailable) as error:
        if error.code != "toolset_changed":
            await in_db_thread(postpone, actor.tenant_id, UUID(toolset_id))


def _actor() -> Principal:
    tenant_id = current_tenant()
    assert tenant_id is not None
    tenant = Tenant.objects.get(id=tenant_id)
    return system_principal(tenant.id, tenant.slug)
