from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections

from agents.models import AgentVersion
from agents.services import agent_create, agent_update
from core.errors import Conflict
from core.tenant import tenant_context
from tests.conftest import Actor

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])


def together(actor: Actor, work: Callable[[int], Any], count: int = 8) -> list[Any]:
    def one(number: int) -> Any:
        try:
            with tenant_context(actor.tenant.id):
                return work(number)
        except Conflict as error:
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))


def test_changes_at_once_each_make_their_version(owner: Actor, body: dict[str, Any]) -> None:
    agent_create(actor=owner.principal, **body)
    together(owner, lambda n: agent_update(actor=owner.principal, ref="helper", changes={"name": f"Name {n}"}))
    assert list(AgentVersion.objects.order_by("number").values_list("number", flat=True)) == list(range(1, 10))


def test_one_of_many_gets_a_slug(owner: Actor, body: dict[str, Any]) -> None:
    made = together(owner, lambda _: agent_create(actor=owner.principal, **body))
    conflicts = [error for error in made if isinstance(error, Conflict)]
    assert len(conflicts) == 7
    assert {error.code for error in conflicts} == {"slug_taken"}
    assert AgentVersion.objects.count() == 1
