"""The demo data of a first start: two tenants, each with providers, agents, an owner key and a viewer key, and people.

Safe to run at every start: it makes what is missing and changes nothing else. `demo.json` in the state folder holds
the credentials, which the database does not know in the clear.
"""

import http.client
import json
import os
import secrets
from pathlib import Path
from typing import Any

from django.conf import settings

from agents.selectors import agent_find
from agents.services import agent_create
from core.tenant import tenant_context
from llm.providers import provider_kind
from llm.selectors.providers import provider_list
from llm.services.providers import provider_create
from tenants.models import Membership, Role, Tenant, User
from tenants.principal import Principal, system_principal
from tenants.services import api_key_create, member_add, tenant_create
from toolsets.selectors import toolset_list
from toolsets.services import toolset_create

TENANTS = {"acme": "Acme", "globex": "Globex"}
PEOPLE = {"ada": ["acme", "globex"], "grace": ["acme"]}  # members, who have somebody to share a conversation with
OLLAMA = ("127.0.0.1", 11434)
INSTRUCTIONS = "You are a helpful assistant. Answer briefly and plainly."


def prepare(base_url: str, *, local_model: bool) -> None:
    """Make what is missing, and write `demo.json` (mode 0600)."""
    path = settings.HOME_DIR / "demo.json"
    demo = _read(path)
    demo["base_url"] = base_url
    demo["admin"] = demo.get("admin") or _credentials("admin")
    demo["people"] = demo.get("people") or [_credentials(name) for name in PEOPLE]
    admin = _admin(demo["admin"])
    known = {entry["slug"]: entry for entry in demo.get("tenants", [])}
    demo["tenants"] = [_tenant(slug, name, known.get(slug), admin, local_model) for slug, name in TENANTS.items()]
    for person in demo["people"]:
        _person(person)
    _write(path, demo)


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return found


def _write(path: Path, demo: dict[str, Any]) -> None:
    """Whole or not at all, and never readable by others."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(demo, file, indent=2)
    draft.replace(path)


def _credentials(username: str) -> dict[str, str]:
    return {"username": username, "password": secrets.token_urlsafe(12)}


def _admin(credentials: dict[str, str]) -> User:
    user = User.objects.filter(username=credentials["username"]).first()
    if user is None:
        return User.objects.create_superuser(credentials["username"], "", credentials["password"])
    _let_in(user, credentials["password"])
    return user


def _let_in(user: User, password: str) -> None:
    """Give the person this password where demo.json was lost before they ever signed in."""
    if not user.check_password(password) and not user.last_login:
        user.set_password(password)
        user.save(update_fields=["password"])


def _person(credentials: dict[str, str]) -> None:
    """A member of the demo tenants, made once: who was taken out of them stays out."""
    username, password = credentials["username"], credentials["password"]
    if user := User.objects.filter(username=username).first():
        _let_in(user, password)
        return
    for slug in PEOPLE[username]:
        tenant = _find_tenant(slug)
        assert tenant is not None
        with tenant_context(tenant.id):
            actor = system_principal(tenant.id, slug)
            member_add(actor=actor, username=username, role=Role.MEMBER, password=password)


def _tenant(slug: str, name: str, known: dict[str, str] | None, admin: User, local_model: bool) -> dict[str, str]:
    tenant = _find_tenant(slug) or tenant_create(slug=slug, name=name)
    actor = system_principal(tenant.id, slug)
    with tenant_context(tenant.id):
        if not Membership.objects.filter(tenant_id=tenant.id, user=admin).exists():
            member_add(actor=actor, username=admin.username, role=Role.OWNER)
        _providers(actor, local_model)
        _toolsets(actor)
        _agents(actor)
        return known or {"slug": slug, "api_key": _key(actor, "owner"), "viewer_api_key": _key(actor, "viewer")}


def _find_tenant(slug: str) -> Tenant | None:
    """Before its id is known, a tenant is visible to the platform only."""
    return Tenant.objects.using("ops").filter(slug=slug).first()


def _key(actor: Principal, role: str) -> str:
    return api_key_create(actor=actor, name=f"Demo {role}", role=role)[1]


def _providers(actor: Principal, local_model: bool) -> None:
    existing = {provider.slug for provider in provider_list(actor=actor)}
    wanted: dict[str, dict[str, Any]] = {"scripted": {"kind": "scripted"}}
    local = provider_kind("local")
    if local_model and local and local.installed():
        wanted["local"] = {"kind": "local"}
    if os.environ.get("OPENAI_API_KEY"):
        wanted["openai"] = {"kind": "openai", "api_key": os.environ["OPENAI_API_KEY"]}
        if os.environ.get("OPENAI_BASE_URL"):
            wanted["openai"]["base_url"] = os.environ["OPENAI_BASE_URL"]
    if ollama_models():
        wanted["ollama"] = {"kind": "openai", "base_url": f"http://{OLLAMA[0]}:{OLLAMA[1]}/v1"}
    for slug, fields in wanted.items():
        if slug not in existing:
            provider_create(actor=actor, slug=slug, **fields)


def ollama_models() -> list[str]:
    """The models of an Ollama on its usual port, if one answers within half a second."""
    connection = http.client.HTTPConnection(*OLLAMA, timeout=0.5)
    try:
        connection.request("GET", "/api/tags")
        return [model["name"] for model in json.load(connection.getresponse())["models"]]
    except (OSError, ValueError, KeyError, http.client.HTTPException):
        return []
    finally:
        connection.close()


def best_model(providers: set[str]) -> str:
    """What the demo agent `assistant` answers with."""
    if "openai" in providers:
        return os.environ.get("OPENAI_MODEL", "openai/gpt-4o-mini")
    if "ollama" in providers and ollama_models():
        return f"ollama/{ollama_models()[0]}"
    return "local/smollm2" if "local" in providers else "scripted/default"


def _toolsets(actor: Principal) -> None:
    if not toolset_list(actor=actor).filter(slug="time").exists():
        toolset_create(actor=actor, slug="time", name="Time", kind="time")


def _agents(actor: Principal) -> None:
    if agent_find(actor=actor, ref="scripted") is None:
        _agent(actor, "scripted", "Scripted", "scripted/default", ["time"])
    if agent_find(actor=actor, ref="assistant") is None:
        providers = {provider.slug for provider in provider_list(actor=actor)}
        _agent(actor, "assistant", "Assistant", best_model(providers), [])


def _agent(actor: Principal, slug: str, name: str, model: str, toolsets: list[str]) -> None:
    agent_create(
        actor=actor,
        slug=slug,
        name=name,
        template="conversation",
        model=model,
        instructions=INSTRUCTIONS,
        toolsets=toolsets,
        status="active",
    )
