"""`manage.py tenant`: a tenant with somebody in it."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from tenants.authentication import memberships_of
from tenants.models import User
from tests.conftest import Actor

pytestmark = pytest.mark.django_db


def make(*arguments: str) -> list[str]:
    out = StringIO()
    call_command("tenant", *arguments, stdout=out)
    return out.getvalue().split()


def test_its_owner_can_sign_in_and_its_key_works(client: Client) -> None:
    words = make("initech", "--name", "Initech", "--owner", "bill")
    assert client.login(username="bill", password=words[words.index("password") + 1])
    assert client.get("/", follow=True).request["PATH_INFO"] == "/t/initech/admin/"
    found = client.get("/v1/me", headers={"Authorization": f"Bearer {words[-1]}"}).json()
    assert (found["tenant"]["name"], found["role"]) == ("Initech", "owner")


def test_somebody_with_an_account_keeps_their_password() -> None:
    User.objects.create_user("bill", password="a long password")
    words = make("initech", "--owner", "bill")
    assert words[words.index("password") + 1] == "unchanged"
    bill = User.objects.get(username="bill")
    assert bill.check_password("a long password")
    assert [(found.tenant_slug, found.role) for found in memberships_of(bill)] == [("initech", "owner")]


@pytest.mark.parametrize(
    ("slug", "fault"), [("Initech!", "slug must be"), ("acme", "A tenant with the slug acme exists")]
)
def test_a_wrong_slug_makes_nothing(owner: Actor, slug: str, fault: str) -> None:
    with pytest.raises(CommandError, match=fault):
        make(slug, "--owner", "bill")
    assert not User.objects.filter(username="bill").exists()
