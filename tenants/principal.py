"""Who is asking: the one value that authentication produces and every service takes as `actor`."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Widget:
    """What a publishable key lets its guests do: talk with the agent of this slug, from pages of these origins."""

    agent: str
    origins: frozenset[str]


@dataclass(frozen=True, slots=True)
class Principal:
    """`scopes` empty means all that the role may do. `kind` is "user", "api_key", "guest" or "system".

    `widget` is of a guest who came by a publishable key. Where it is known from which page they ask, it has that
    origin alone.
    """

    tenant_id: UUID
    tenant_slug: str
    kind: str
    id: UUID | None
    label: str
    role: str
    scopes: frozenset[str] = frozenset()
    widget: Widget | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "tenant_slug": self.tenant_slug,
            "kind": self.kind,
            "id": str(self.id) if self.id else None,
            "label": self.label,
            "role": self.role,
            "scopes": sorted(self.scopes),
            "widget": {"agent": self.widget.agent, "origins": sorted(self.widget.origins)} if self.widget else None,
        }

    @classmethod
    def from_dict(cls, tenant_id: UUID, data: dict[str, Any]) -> "Principal":
        widget = data.get("widget")
        return cls(
            tenant_id=tenant_id,
            tenant_slug=data["tenant_slug"],
            kind=data["kind"],
            id=UUID(data["id"]) if data["id"] else None,
            label=data["label"],
            role=data["role"],
            scopes=frozenset(data["scopes"]),
            widget=Widget(widget["agent"], frozenset(widget["origins"])) if widget else None,
        )


def system_principal(tenant_id: UUID, tenant_slug: str) -> Principal:
    """Work that no person asked for: demo data, jobs, platform support."""
    return Principal(tenant_id, tenant_slug, "system", None, "system", "owner")
