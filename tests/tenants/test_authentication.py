"""Whether those who were let in may stay: what long-lived connections ask again and again."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from core.errors import NotAuthenticated, NotPermitted
from tenants.authentication import ended, refreshed
from tenants.models import ApiKey, Membership, Tenant, User
from tenants.principal import Principal
from tenants.services import member_add
from tests.conftest import Actor, make_actor

pytestmark = pytest.mark.django_db
OVER = timezone.now() - timedelta(seconds=1)


@pytest.fixture
def mia(owner: Actor, in_acme: Tenant) -> Principal:
    """An operator of acme who signed in."""
    user = User.objects.create_user("mia", password="correct horse")
    member_add(actor=owner.principal, username="mia", role="operator")
    return Principal(in_acme.id, in_acme.slug, "user", user.id, "mia", "operator")


def test_who_is_as_before_may_stay(owner: Actor, viewer: Actor, mia: Principal) -> None:
    assert ended([owner.principal, viewer.principal, mia]) == {}
    assert refreshed(mia) == mia


@pytest.mark.parametrize("change", [{"revoked_at": OVER}, {"expires_at": OVER}])
def test_a_key_that_is_over_ends_itself_alone(
    owner: Actor, viewer: Actor, mia: Principal, change: dict[str, Any]
) -> None:
    ApiKey.objects.filter(id=viewer.principal.id).update(**change)
    faults = ended([owner.principal, viewer.principal, mia])
    assert {who: (type(fault), fault.code) for who, fault in faults.items()} == {
        viewer.principal: (NotAuthenticated, "api_key_revoked")
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda: Membership.objects.update(role="viewer"),
        lambda: Membership.objects.update(status=Membership.Status.SUSPENDED),
        lambda: Membership.objects.all().delete(),
        lambda: User.objects.update(is_active=False),
    ],
)
def test_a_member_who_is_lowered_ends(owner: Actor, mia: Principal, change: Callable[[], Any]) -> None:
    change()
    faults = ended([owner.principal, mia])
    assert {who: (type(fault), fault.code) for who, fault in faults.items()} == {
        mia: (NotPermitted, "membership_changed")
    }
    with pytest.raises(NotPermitted):
        refreshed(mia)


def test_everybody_of_a_suspended_tenant_ends(owner: Actor, mia: Principal) -> None:
    Tenant.objects.filter(id=mia.tenant_id).update(status=Tenant.Status.SUSPENDED)
    faults = ended([owner.principal, mia])
    assert {fault.code for fault in faults.values()} == {"tenant_suspended"}
    assert set(faults) == {owner.principal, mia}


def test_a_stranger_and_what_has_no_credential_end(owner: Actor, stranger: Actor, in_acme: Tenant) -> None:
    guest = replace(stranger.principal, tenant_id=in_acme.id)
    nobody = replace(owner.principal, kind="system", id=None)
    assert set(ended([owner.principal, guest, nobody])) == {guest, nobody}


def test_many_of_any_tenants_are_one_statement(
    mia: Principal, stranger: Actor, in_acme: Tenant, django_assert_num_queries: Any
) -> None:
    many = [make_actor(in_acme, "viewer").principal for _ in range(20)]
    with django_assert_num_queries(1):
        assert ended([mia, stranger.principal, *many]) == {}
