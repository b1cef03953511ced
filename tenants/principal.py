"""Who is asking: the one value that authentication produces and every service takes as `actor`."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Principal:
    """`scopes` empty means all that the role may do. `kind` is "user", "api_key" or "system"."""

    tenant_id: UUID
    tenant_slug: str
    kind: str
    id: UUID | None
    label: str
    role: str
    scopes: frozenset[str] = frozenset()

    def as_dict(self) -> dict[str, Any]:
        return {
            "tenant_slug": self.tenant_slug,
            "kind": self.kind,
            "id": str(self.id) if self.id else None,
            "label": self.label,
            "role": self.role,
            "scopes": sorted(self.scopes),
        }

    @classmethod
    def from_dict(cls, tenant_id: UUID, data: dict[str, Any]) -> "Principal":
        return cls(
            tenant_id=tenant_id,
            tenant_slug=data["tenant_slug"],
            kind=data["kind"],
            id=UUID(data["id"]) if data["id"] else None,
            label=data["label"],
            role=data["role"],
            scopes=frozenset(data["scopes"]),
        )


def system_principal(tenant_id: UUID, tenant_slug: str) -> Principal:
    """Work that no person asked for: demo data, jobs, platform support."""
    return Principal(tenant_id, tenant_slug, "system", None, "system", "owner")
