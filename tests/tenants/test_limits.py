import pytest

from audit.models import AuditEvent
from core.errors import InvalidRequest
from tenants.models import Tenant
from tenants.services import tenant_update
from tests.conftest import Actor

pytestmark = pytest.mark.django_db


def test_the_service_changes_what_it_is_told_to(owner: Actor, in_acme: Tenant) -> None:
    tenant_update(actor=owner.principal, changes={"max_concurrent_runs": 7})
    tenant_update(actor=owner.principal, changes={"name": "Acme Ltd"})
    found = Tenant.objects.get(id=in_acme.id)
    assert (found.name, found.status, found.max_concurrent_runs) == ("Acme Ltd", "active", 7)
    assert tenant_update(actor=owner.principal, changes={"max_concurrent_runs": None}).max_concurrent_runs is None


@pytest.mark.parametrize("limit", [0, -1, 100_001])
def test_the_service_refuses_a_wrong_limit(owner: Actor, in_acme: Tenant, limit: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        tenant_update(actor=owner.principal, changes={"max_concurrent_runs": limit})
    assert refused.value.param == "max_concurrent_runs"
    assert Tenant.objects.get(id=in_acme.id).max_concurrent_runs is None
    assert not AuditEvent.objects.filter(action="tenant.update").exists()
