"""The one permission table, asked by REST, sockets and the admin alike."""

from collections.abc import Iterable

from core.errors import NotPermitted
from tenants.models import Role
from tenants.principal import Principal

RANK = {role: rank for rank, role in enumerate(reversed(Role.values))}
SCOPES = ("chat", "read", "write", "admin")

# permission → the lowest role that has it, and the API-key scope that it needs
PERMISSIONS: dict[str, tuple[Role, str]] = {
    "template.view": (Role.VIEWER, "read"),
    "agent.view": (Role.VIEWER, "read"),
    "toolset.view": (Role.VIEWER, "read"),
    "provider.view": (Role.VIEWER, "read"),
    "route.view": (Role.VIEWER, "read"),
    "model.view": (Role.VIEWER, "chat"),
    "session.view": (Role.VIEWER, "read"),
    "run.view": (Role.VIEWER, "read"),
    "member.view": (Role.VIEWER, "read"),
    "chat.run": (Role.MEMBER, "chat"),
    "run.cancel": (Role.MEMBER, "chat"),
    "tool.approve": (Role.MEMBER, "chat"),
    "session.edit": (Role.MEMBER, "chat"),
    "session.share": (Role.MEMBER, "chat"),
    "usage.view": (Role.OPERATOR, "read"),
    "budget.view": (Role.OPERATOR, "read"),
    "price.view": (Role.OPERATOR, "read"),
    "agent.edit": (Role.OPERATOR, "write"),
    "toolset.edit": (Role.OPERATOR, "write"),
    "provider.reset": (Role.OPERATOR, "write"),
    "audit.view": (Role.OPERATOR, "admin"),
    "provider.edit": (Role.ADMIN, "admin"),
    "route.edit": (Role.ADMIN, "admin"),
    "provider.test": (Role.ADMIN, "admin"),
    "api_key.view": (Role.ADMIN, "admin"),
    "api_key.edit": (Role.ADMIN, "admin"),
    "budget.edit": (Role.ADMIN, "admin"),
    "price.edit": (Role.ADMIN, "admin"),
    "member.edit": (Role.ADMIN, "admin"),
    "tenant.edit": (Role.OWNER, "admin"),
}
# What else a scope covers: who may write may read what is written, and who chats may read what chat made.
_COVERS = {"admin": {"admin", "write", "read"}, "write": {"write", "read"}, "read": {"read"}, "chat": {"chat"}}
_CHAT_READS = {"session.view", "run.view", "agent.view"}
_GUEST = {"session.view", "session.edit", "run.view", "chat.run", "run.cancel"}


def is_allowed(actor: Principal, permission: str) -> bool:
    lowest, scope = PERMISSIONS[permission]
    if RANK[actor.role] < RANK[lowest] or _closed_to(actor, permission):
        return False
    if not actor.scopes or ("chat" in actor.scopes and permission in _CHAT_READS):
        return True
    return any(scope in _COVERS[held] for held in actor.scopes)


def _closed_to(actor: Principal, permission: str) -> bool:
    return actor.kind == "guest" and permission not in _GUEST


def authorize(actor: Principal, permission: str) -> None:
    """Raises NotPermitted, which names the role or scope that is missing."""
    lowest, scope = PERMISSIONS[permission]
    if _closed_to(actor, permission):
        refuse_guest(actor)
    if RANK[actor.role] < RANK[lowest]:
        raise NotPermitted(f"This needs the role {lowest} or higher; you are {actor.role}.", code="role_too_low")
    if not is_allowed(actor, permission):
        raise NotPermitted(f"This API key lacks the scope {scope}.", code="scope_missing")


def is_confined(actor: Principal) -> bool:
    """Has the actor only the sessions that they take part in? So have guests, and users below the role operator."""
    return actor.kind == "guest" or (actor.kind == "user" and RANK[actor.role] < RANK[Role.OPERATOR])


def is_person(actor: Principal) -> bool:
    return actor.kind in ("user", "guest")


def refuse_guest(actor: Principal) -> None:
    """Raises NotPermitted, for what no permission of `_GUEST` shall open."""
    if actor.kind == "guest":
        raise NotPermitted("Guests may not do this: sign in, or use an API key.", code="not_for_guests")


def outranks(actor: Principal, roles: Iterable[str]) -> bool:
    """May the actor hand out, change or take away these roles? Nobody touches a role above their own."""
    return all(RANK[role] <= RANK[actor.role] for role in roles)
