"""How many queries agents and toolsets take does not depend on how many of them there are."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from core.ids import uuid7
from runs.services.begin import begin_turn
from runs.services.turns import TurnRequest
from tenants.models import Tenant
from tests.conftest import Actor
from tests.toolsets.http_api import document
from toolsets.services import toolset_create

API = {"document": document(("get", "/pets", {"operationId": "listPets"})), "base_url": "https://example.com"}
CONFIGS: list[tuple[str, dict[str, Any]]] = [
    ("time", {}),
    ("files", {}),
    ("http", API),
    ("llm", {"model": "scripted/default"}),
    ("agents", {"agents": ["helper", "nobody"]}),
]
PATHS = ("agents", "agents/first", "toolsets", "toolsets/agents-0/tools", "toolsets/http-1/tools")


@pytest.fixture
def toolsets(owner: Actor, scripted: str, in_acme: Tenant) -> list[str]:
    """Two of each kind, by pairs."""
    slugs = []
    for place in range(2):
        for kind, config in CONFIGS:
            slug, policy = f"{kind}-{place}", {"prefix": f"{kind[0]}{place}-"}
            secrets = {"token": "hunter2"} if kind == "http" else {}
            values: dict[str, Any] = {"kind": kind, "config": config, "policy": policy, "secrets": secrets}
            slugs.append(toolset_create(actor=owner.principal, slug=slug, name=slug, **values).slug)
    return slugs


def queries(work: Callable[..., Any], *arguments: Any) -> int:
    with CaptureQueriesContext(connection) as captured:
        work(*arguments)
    return len(captured)


def reads(owner: Actor) -> dict[str, int]:
    return {path: queries(owner.get, path) for path in PATHS}


def create(owner: Actor, slug: str, toolsets: list[str]) -> None:
    body = {"slug": slug, "name": slug, "template": "conversation", "model": "scripted/default", "toolsets": toolsets}
    response = owner.post("agents", body)
    assert response.status_code == 201, response.content


def begin(owner: Actor, slug: str) -> None:
    """And undo it, so that the next finds as many runs."""
    request = TurnRequest(slug, [{"role": "user", "content": "Hello"}], "api")
    with transaction.atomic():
        turn = begin_turn(actor=owner.principal, request=request, owner=uuid7()).turn
        transaction.set_rollback(True)
    assert turn is not None
    assert turn.version is not None
    assert [toolset.slug for toolset in turn.toolsets] == turn.version.toolsets


def test_agents_and_turns_take_as_many_for_one_of_each_kind_as_for_two(owner: Actor, toolsets: list[str]) -> None:
    few, many = toolsets[: len(CONFIGS)], toolsets
    owner.get("agents")  # who asks is cached from here on
    assert queries(create, owner, "few", few) == queries(create, owner, "many", many)
    begin(owner, "few")  # what every turn needs is cached from here on
    assert queries(begin, owner, "few") == queries(begin, owner, "many")


def test_lists_take_as_many_however_long_they_are(owner: Actor, toolsets: list[str]) -> None:
    create(owner, "first", toolsets)
    before = reads(owner)
    for number in range(5):
        create(owner, f"agent-{number}", toolsets)
        toolset = {"slug": f"toolset-{number}", "name": "More", "kind": "time"}
        assert owner.post("toolsets", toolset).status_code == 201
    assert reads(owner) == before


def test_the_compatibility_of_many_takes_as_many(owner: Actor, toolsets: list[str]) -> None:
    def ask(granted: list[str]) -> None:
        body = {"template": "conversation", "model": "scripted/default", "toolsets": granted}
        assert owner.post("toolsets/compatibility", body).status_code == 200

    ask(toolsets)
    assert queries(ask, toolsets[: len(CONFIGS)]) == queries(ask, toolsets)
