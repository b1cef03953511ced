"""The tables of `runs.presence`, by the event log's role: each statement serves many tenants."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from runs.store import Store

_BEAT = """
WITH before AS MATERIALIZED (SELECT alive_until > now() AS alive FROM socket_server WHERE id = %s),
here AS (
    INSERT INTO socket_server (id, alive_until) VALUES (%s, now() + make_interval(secs => %s))
    ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until
)
SELECT coalesce((SELECT alive FROM before), false),
    coalesce((SELECT array_agg(id) FROM socket_server WHERE alive_until > now()), '{}')
"""
_CHANGE = """
WITH asked AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(asked)s::jsonb) AS asked (
        t uuid, s uuid, k text, i uuid, l text, r text, gone bool, elsewhere bool, typing float)
), gone AS (
    DELETE FROM open_socket USING asked
    WHERE asked.gone AND tenant_id = t AND topic = s AND server = %(server)s AND kind = k AND person_id = i
), quiet AS (
    UPDATE open_socket SET typing_until = NULL FROM asked
    WHERE elsewhere AND tenant_id = t AND topic = s AND server <> %(server)s AND kind = k AND person_id = i
)
INSERT INTO open_socket (tenant_id, topic, server, kind, person_id, label, role, typing_until)
SELECT t, s, %(server)s, k, i, l, r, CASE WHEN typing > 0 THEN now() + make_interval(secs => typing) END
FROM asked WHERE NOT asked.gone AND NOT elsewhere
ON CONFLICT (tenant_id, topic, server, kind, person_id)
DO UPDATE SET label = excluded.label, role = excluded.role, typing_until = excluded.typing_until
RETURNING server
"""
_READ = """
SELECT topic, server, kind, person_id, label, role, coalesce(extract(epoch FROM typing_until - now()), 0)::float,
    coalesce(alive_until > now(), false)
FROM jsonb_to_recordset(%s::jsonb) AS asked (t uuid, s uuid)
JOIN open_socket ON tenant_id = t AND topic = s
LEFT JOIN socket_server ON id = server
ORDER BY joined_at, person_id
"""
_LEAVE = """
WITH gone AS (DELETE FROM open_socket WHERE server = %s)
DELETE FROM socket_server WHERE id = %s RETURNING id
"""


class Seat(NamedTuple):
    """A person who has a socket open; `role` is theirs in the session."""

    kind: str
    id: UUID
    label: str
    role: str

    @property
    def person(self) -> tuple[str, UUID]:
        return self.kind, self.id


class Change(NamedTuple):
    """A person came, or is `gone`; types for so many seconds, or 0; or does not type `elsewhere` any more."""

    tenant_id: UUID
    topic: UUID
    seat: Seat
    gone: bool = False
    elsewhere: bool = False
    typing: float = 0.0

    def asked(self) -> dict[str, Any]:
        kind, id, label, role = self.seat
        row = {"t": self.tenant_id, "s": self.topic, "k": kind, "i": id, "l": label, "r": role}
        return {**row, "gone": self.gone, "elsewhere": self.elsewhere, "typing": self.typing}


class Row(NamedTuple):
    """`typing`: for so many seconds still. `alive`: its process is."""

    topic: UUID
    server: UUID
    seat: Seat
    typing: float
    alive: bool


class PresenceStore(Store):
    """Its connection is its own, so that no event waits for it."""

    async def beat(self, server: UUID, *, alive: float) -> tuple[bool, set[UUID]]:
        """A sign of life, good for so many seconds. Was the last one still good, and which processes live?"""
        ((was_alive, living),) = await self.for_tenants((), _BEAT, [server, server, alive])
        return was_alive, set(living)

    async def change(self, server: UUID, changes: Sequence[Change]) -> None:
        asked = orjson.dumps([change.asked() for change in changes]).decode()
        given = {"asked": asked, "server": server}
        await self.for_tenants({change.tenant_id for change in changes}, _CHANGE, given)

    async def present(self, topics: Mapping[UUID, UUID]) -> list[Row]:
        """Who is in the sessions, which are given with their tenants; those first who came first."""
        asked = orjson.dumps([{"t": tenant_id, "s": topic} for topic, tenant_id in topics.items()]).decode()
        rows = await self.for_tenants(set(topics.values()), _READ, [asked])
        return [Row(topic, server, Seat(*seat), typing, alive) for topic, server, *seat, typing, alive in rows]

    async def leave(self, server: UUID, tenants: Collection[UUID]) -> None:
        await self.for_tenants(tenants, _LEAVE, [server, server])
