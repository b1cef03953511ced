"""Publishable keys over REST."""

from typing import Any

import pytest

from audit.models import AuditEvent
from tenants.models import PublishableKey, Tenant
from tests.conftest import Actor, make_actor

pytestmark = pytest.mark.django_db
SHOP = "https://shop.example"


def create(actor: Actor, **fields: Any) -> Any:
    return actor.post("publishable-keys", {"name": "Shop", "agent": "helper", "origins": [SHOP], **fields})


def faults(response: Any) -> dict[str, str]:
    assert response.status_code == 400, response.content
    return {fault["path"]: fault["code"] for fault in response.json()["error"]["details"]}


def test_a_key_is_made_changed_and_revoked(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    made = create(owner, origins=[SHOP, "http://localhost:3000", SHOP]).json()
    assert made["token"].startswith(f"pk_{in_acme.id.hex}_")
    assert made["origins"] == [SHOP, "http://localhost:3000"]
    assert (made["agent"], made["visitors_per_minute"], made["messages_per_minute"]) == (scripted, 30, 20)
    path = f"publishable-keys/{made['id']}"
    assert owner.get(path).json() == made
    changed = owner.patch(path, {"origins": ["https://[::1]:8443"], "messages_per_minute": 5}).json()
    assert changed == {**made, "origins": ["https://[::1]:8443"], "messages_per_minute": 5}
    assert owner.patch(path, {"messages_per_minute": 5}).json() == changed  # which changes nothing
    assert [owner.delete(path).status_code for _ in range(2)] == [204, 204]
    assert owner.get(path).json()["revoked_at"] is not None
    refused = owner.patch(path, {"name": "x"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "publishable_key_revoked")
    events = AuditEvent.objects.filter(object_id=made["id"]).order_by("id")
    assert [event.action.partition(".")[2] for event in events] == ["create", "update", "revoke"]
    assert (events[1].before["messages_per_minute"], events[1].after["messages_per_minute"]) == (20, 5)


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "https://*",
        "https://*.shop.example",
        "shop.example",
        "//shop.example",
        "ftp://shop.example",
        "https://",
        "https://shop.example/",
        "https://shop.example/page",
        "https://shop.example?x",
        "https://shop.example#x",
        "https://me@shop.example",
        "https://Shop.example",
        "HTTPS://shop.example",
        "https://shop.example:443",
        "http://shop.example:80",
        "https://shop.example:0x1",
        "https://shop.example:99999",
        "https://shöp.example",
        "https://shop .example",
        "https://[::1",
        "null",
        "",
    ],
)
def test_what_is_no_origin_is_refused(owner: Actor, scripted: str, in_acme: Tenant, origin: str) -> None:
    assert list(faults(create(owner, origins=[SHOP, origin]))) == ["origins.1"]
    assert not PublishableKey.objects.exists()


def test_every_fault_is_named_at_once(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    found = faults(create(owner, agent="nobody", origins=["a", SHOP, "b"]))
    assert found == {"agent": "agent_not_found", "origins.0": "invalid_origin", "origins.2": "invalid_origin"}
    assert faults(create(owner, origins=[])) == {"origins": "invalid"}
    assert faults(create(owner, origins=[f"https://s{number}.example" for number in range(21)])) == {
        "origins": "invalid"
    }
    assert faults(create(owner, name="", visitors_per_minute=0, messages_per_minute=10_001)).keys() == {
        "name",
        "visitors_per_minute",
        "messages_per_minute",
    }
    made = create(owner).json()
    assert faults(owner.patch(f"publishable-keys/{made['id']}", {"agent": "x", "origins": ["*"]})).keys() == {
        "agent",
        "origins.0",
    }


def test_they_are_for_those_who_may_make_keys(
    owner: Actor, viewer: Actor, stranger: Actor, scripted: str, acme: Tenant
) -> None:
    made = create(owner).json()
    path = f"publishable-keys/{made['id']}"
    operator = make_actor(acme, "operator")
    chatter = make_actor(acme, "owner", scopes=["chat"])
    for actor in (viewer, operator, chatter):
        assert create(actor).status_code == 403
        assert actor.get("publishable-keys").status_code == actor.get(path).status_code == 403
        assert actor.patch(path, {"name": "x"}).status_code == actor.delete(path).status_code == 403
    assert [stranger.send(method, path, body).status_code for method, body in METHODS] == [404, 404, 404]
    assert stranger.get("publishable-keys").json()["data"] == []
    assert owner.get(path).json() == made


METHODS: list[tuple[str, Any]] = [("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)]


def test_the_list_is_one_query(owner: Actor, scripted: str, django_assert_num_queries: Any) -> None:
    for number in range(3):
        create(owner, name=f"k{number}")
    owner.get("me")
    with django_assert_num_queries(1):
        page = owner.get("publishable-keys").json()
    assert [row["name"] for row in page["data"]] == ["k2", "k1", "k0"]
