"""The demo data: complete, idempotent, and on the best model that this machine offers."""

import json
import stat
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from agents.models import Agent
from agentsite import demo
from audit.models import AuditEvent
from core.tenant import tenant_context
from llm.models import Provider
from tenants.authentication import authenticate_api_key
from tenants.models import ApiKey, Membership, User

pytestmark = pytest.mark.django_db(databases=["default", "owner", "ops"], transaction=True)


@pytest.fixture(autouse=True)
def _bare_machine(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transactional_db: None) -> None:
    settings.HOME_DIR = tmp_path
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(demo, "OLLAMA", ("127.0.0.1", 9))


def prepare(tmp_path: Path, **options: Any) -> dict[str, Any]:
    demo.prepare("http://127.0.0.1:8000", **{"local_model": True, **options})
    written: dict[str, Any] = json.loads((tmp_path / "demo.json").read_text())
    return written


def rows() -> dict[str, list[Any]]:
    return {slug: _rows(slug) for slug in ("acme", "globex")}


def _rows(slug: str) -> list[Any]:
    tenant = demo._find_tenant(slug)
    assert tenant is not None
    with tenant_context(tenant.id):
        return [
            list(Provider.objects.order_by("slug").values_list("slug", flat=True)),
            list(Agent.objects.order_by("slug").values_list("slug", "status", "version__model")),
            list(ApiKey.objects.order_by("id").values_list("role", flat=True)),
            list(Membership.objects.order_by("user__username").values_list("user__username", "role")),
            AuditEvent.objects.count(),
        ]


def test_the_first_start_makes_everything_and_the_second_nothing(tmp_path: Path) -> None:
    written = prepare(tmp_path)
    first = rows()
    assert stat.S_IMODE((tmp_path / "demo.json").stat().st_mode) == 0o600
    assert [entry["slug"] for entry in written["tenants"]] == ["acme", "globex"]
    assert first["acme"][:4] == [
        ["local", "scripted"],
        [("assistant", "active", "local/smollm2"), ("scripted", "active", "scripted/default")],
        ["owner", "viewer"],
        [("ada", "member"), ("admin", "owner"), ("grace", "member")],
    ]
    assert first["globex"][3] == [("ada", "member"), ("admin", "owner")]
    roles = [
        authenticate_api_key(entry[key]).role for entry in written["tenants"] for key in ("api_key", "viewer_api_key")
    ]
    assert roles == ["owner", "viewer"] * 2
    for person in [written["admin"], *written["people"]]:
        assert User.objects.get(username=person["username"]).check_password(person["password"])
    assert prepare(tmp_path) == written
    assert rows() == first


def test_without_the_local_model_the_assistant_is_scripted(tmp_path: Path) -> None:
    prepare(tmp_path, local_model=False)
    assert rows()["acme"][:2] == [
        ["scripted"],
        [("assistant", "active", "scripted/default"), ("scripted", "active", "scripted/default")],
    ]


def test_an_openai_key_is_used_and_kept_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-verysecretkey")
    prepare(tmp_path)
    providers, agents = rows()["acme"][:2]
    provider = Provider.objects.using("ops").get(slug="openai", tenant__slug="acme")
    assert providers == ["local", "openai", "scripted"]
    assert agents[0] == ("assistant", "active", "openai/gpt-4o-mini")
    assert provider.secret_last4 == "tkey"
    assert b"verysecret" not in bytes(provider.secret)


def test_an_ollama_on_its_port_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ollama(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"models": [{"name": "llama3:8b"}]}'
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Ollama)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(demo, "OLLAMA", server.server_address)
    try:
        prepare(tmp_path)
        providers, agents = rows()["acme"][:2]
    finally:
        server.shutdown()
    assert providers == ["local", "ollama", "scripted"]
    assert agents[0] == ("assistant", "active", "ollama/llama3:8b")


def test_a_lost_file_leads_to_new_keys(tmp_path: Path) -> None:
    before = prepare(tmp_path)
    (tmp_path / "demo.json").unlink()
    after = prepare(tmp_path)
    assert authenticate_api_key(after["tenants"][0]["api_key"]).tenant_slug == "acme"
    assert before["tenants"][0]["api_key"] != after["tenants"][0]["api_key"]
    for person in [after["admin"], *after["people"]]:
        assert User.objects.get(username=person["username"]).check_password(person["password"])
