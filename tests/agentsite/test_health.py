"""Health: what a load balancer and an operator read."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError
from django.test import Client
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateWorker

from core.plugins import Fault
from templates_app.registry import registry

pytestmark = pytest.mark.django_db


@pytest.fixture
def ready() -> Any:
    return lambda: Client(raise_request_exception=False).get("/v1/health/ready")


def states(response: Any) -> dict[str, str]:
    return {part["name"]: part["status"] for part in response.json()["components"]}


def test_alive() -> None:
    assert Client().get("/v1/health").json() == {"status": "ok"}


def test_ready_names_every_component(ready: Any) -> None:
    answer = ready()
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    found = states(answer)
    assert found.pop("sandbox") in ("ok", "absent")  # absent until its probe has ended
    assert found == {
        "server": "ok",
        "database": "ok",
        "worker": "degraded",
        "model providers": "ok",
        "templates": "ok",
        "toolsets": "ok",
    }


def test_a_worker_counts_while_it_reports(ready: Any) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now())")
        assert states(ready())["worker"] == "ok"
        assert ready().json()["status"] == "ok"
        cursor.execute("UPDATE procrastinate_workers SET last_heartbeat = %s", [timezone.now() - timedelta(minutes=2)])
    assert states(ready())["worker"] == "degraded"
    assert ProcrastinateWorker.objects.exists()


def test_without_the_database_it_is_down_and_says_nothing_else(ready: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise DatabaseError("password authentication failed for user agentsite")

    monkeypatch.setattr("agentsite.health.connection.cursor", fail)
    answer = ready()
    assert (answer.status_code, answer.json()["status"]) == (503, "down")
    assert "password" not in answer.content.decode()


def test_a_broken_template_degrades(ready: Any, settings: Any, tmp_path: Any) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "__init__.py").write_text("import nosuchmodule\n")
    settings.TEMPLATE_DIRS = [str(tmp_path)]
    registry.reload()
    try:
        answer = ready()
        assert states(answer)["templates"] == "degraded"
        assert "broken" in answer.content.decode()
    finally:
        settings.TEMPLATE_DIRS = []
        registry.reload()


def test_a_toolset_kind_that_does_not_load_degrades(ready: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Fault("broken", "plugin", "ImportError")
    monkeypatch.setattr("agentsite.health.toolset_kind_faults", lambda: [fault])
    answer = ready()
    assert states(answer)["toolsets"] == "degraded"
    assert "broken" in answer.content.decode()


def test_the_sandbox_is_told(ready: Any, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sandbox import probe

    def told(probed: probe.Probed) -> tuple[str, str]:
        monkeypatch.setattr(probe.Standing, "ask", lambda self: probed)
        return next(
            (part["status"], part["detail"]) for part in ready().json()["components"] if part["name"] == "sandbox"
        )

    status, detail = told(probe.Probed({"python": "bubblewrap", "deno": "bubblewrap"}, []))
    assert status == "ok"
    assert "python by bubblewrap. Slots: " in detail
    assert told(probe.Probed({"python": "landlock"}, [], "It needs deno."))[0] == "degraded"
    assert told(probe.Probed({}, [], "It needs bubblewrap.")) == ("degraded", "It needs bubblewrap.")
    assert "It does not hold" in told(probe.Probed({"python": "bubblewrap"}, ["python starts a process"]))[1]
    settings.SANDBOX_LEVEL = "off"
    assert told(probe.Probed({}, []))[0] == "absent"


def test_the_sandbox_is_probed_in_the_background() -> None:
    from sandbox import probe

    assert probe.standing().wait().is_safe
    assert probe.describe()[0] == "ok"
