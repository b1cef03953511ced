from typing import Any

import pytest

import toolsets.secrets
from tests.conftest import Actor
from toolsets.models import Toolset
from toolsets.selectors import granted_toolsets
from toolsets.services import toolset_create, toolset_update


@pytest.fixture
def pair(owner: Actor, in_acme: Any) -> None:
    for slug in ("clock", "watch"):
        toolset_create(actor=owner.principal, slug=slug, name=slug, kind="time")


def slugs(actor: Actor, *wanted: str) -> list[str]:
    return [toolset.slug for toolset in granted_toolsets(actor=actor.principal, slugs=wanted)]


def test_grants_come_in_their_order_with_one_query(owner: Actor, pair: None, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        assert slugs(owner, "watch", "clock") == ["watch", "clock"]
    with django_assert_num_queries(0):
        assert slugs(owner) == []


def test_what_is_disabled_missing_or_broken_is_left_out(owner: Actor, pair: None) -> None:
    toolset_update(actor=owner.principal, ref="watch", changes={"enabled": False})
    assert slugs(owner, "clock", "watch", "gone") == ["clock"]
    Toolset.objects.filter(slug="clock").update(config={"default_timezone": "Mars"})
    assert slugs(owner, "clock") == []


def test_the_log_says_what_is_missing_and_whose(owner: Actor, pair: None, caplog: pytest.LogCaptureFixture) -> None:
    granted_toolsets(actor=owner.principal, slugs=["clock", "gone"], agent="helper")
    assert [record.getMessage() for record in caplog.records] == [
        "The toolset 'gone' granted to the agent 'helper' is missing or broken"
    ]


def test_nobody_is_granted_anothers_toolset(stranger: Actor, pair: None) -> None:
    assert slugs(stranger, "clock") == []


def test_a_change_is_a_new_revision(owner: Actor, pair: None) -> None:
    (before,) = granted_toolsets(actor=owner.principal, slugs=["clock"])
    toolset_update(actor=owner.principal, ref="clock", changes={"config": {"default_timezone": "Asia/Tokyo"}})
    (after,) = granted_toolsets(actor=owner.principal, slugs=["clock"])
    assert before.revision != after.revision


def test_secrets_are_decrypted_when_a_tool_asks_for_one(
    owner: Actor, in_acme: Any, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    document = '{"openapi": "3.1.0", "paths": {"/pets": {"get": {}}}}'
    config = {"document": document, "base_url": "https://example.com"}
    secrets = {"token": "hunter2"}
    toolset_create(actor=owner.principal, slug="pets", name="Pets", kind="http", config=config, secrets=secrets)
    decrypted: list[bytes] = []
    decrypt = toolsets.secrets.decrypt
    monkeypatch.setattr(
        toolsets.secrets, "decrypt", lambda stored, **where: decrypted.append(stored) or decrypt(stored, **where)
    )
    (granted,) = granted_toolsets(actor=owner.principal, slugs=["pets"])
    assert decrypted == []
    assert (granted.secrets["token"], granted.secrets.get("pin"), {**granted.secrets}) == ("hunter2", None, secrets)
    assert len(decrypted) == 1
    assert "hunter2" not in repr(granted) + repr(granted.secrets) + str(granted.secrets)
    settings.MASTER_KEY = "0" * 64
    (granted,) = granted_toolsets(actor=owner.principal, slugs=["pets"])
    assert {**granted.secrets} == {}
