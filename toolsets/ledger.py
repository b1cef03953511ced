"""The rows of tool calls: one for each, and one before whatever should not be done twice."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Literal, NamedTuple, Protocol
from uuid import UUID

from core.aio import in_db_thread
from core.rows import as_given, insert_sql, send
from core.tenant import tenant_context
from tenants.principal import Principal
from toolsets.models import ToolCall

MAX_STORED = 32_000  # characters of the arguments, and of the result, of one row


Reason = Literal["policy", "untrusted", "unknown"]  # why a person is asked


class Answer(NamedTuple):
    """What the model is shown of a call; `size` is in bytes, of the whole, and `ms` how long the tool worked."""

    content: str
    is_error: bool
    size: int = 0
    ms: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One call under way. `key` tells it from the other calls of its run; `approver` is the lowest role that may
    approve it. An agent that another one asked calls in the name of `agent`, within the calls `above`.
    """

    id: UUID
    key: str
    began: datetime
    call_id: str
    toolset: str
    tool: str
    risk: str
    arguments: str
    approver: str = "member"
    agent: str = ""
    above: tuple[UUID, ...] = ()


class Ledger(Protocol):
    """Keeps what a toolbox calls. `untrusted`: something that comes from outside was read."""

    untrusted: bool

    async def approve(self, call: Call, reason: Reason) -> str | None:
        """Returns once a person has approved the call: the arguments in place of its own, if the person changed them.

        Raises ToolError when the call must not be made.
        """

    async def begin(self, call: Call, *, once: bool) -> Answer | None:
        """Before a call is made. What answers one that must be made `once` and was, or whose end nobody knows."""

    async def finish(self, call: Call, answer: Answer, *, begun: bool) -> None:
        """After any call that was made or refused; `begun`: it was begun here."""

    def give_up(self, call: Call) -> None:
        """Nothing more comes of the call here: it was cut off, and stays as it is."""


class NoLedger:
    """Of what calls no tool: a replay."""

    untrusted = False

    async def approve(self, call: Call, reason: Reason) -> str | None:
        return None

    async def begin(self, call: Call, *, once: bool) -> Answer | None:
        return None

    async def finish(self, call: Call, answer: Answer, *, begun: bool) -> None:
        """Nothing is kept."""

    def give_up(self, call: Call) -> None:
        """Nobody waits for it."""


class PersonsLedger:
    """Of a person who tries a tool, outside of any run, and approves it by that."""

    untrusted = False

    def __init__(self, actor: Principal) -> None:
        self.last: UUID | None = None  # the id of the last call's row
        self._tenant_id = actor.tenant_id
        self._whose = {"actor_kind": actor.kind, "actor_id": actor.id, "actor_label": actor.label}

    async def approve(self, call: Call, reason: Reason) -> str | None:
        return None

    async def begin(self, call: Call, *, once: bool) -> Answer | None:
        if once:
            await self._store(row_of(call, ToolCall.Status.STARTED, self._whose))
        return None

    async def finish(self, call: Call, answer: Answer, *, begun: bool) -> None:
        await self._store(finished_row(call, answer, self._whose, begun=begun))

    def give_up(self, call: Call) -> None:
        """Nobody waits for it."""

    async def _store(self, row: dict[str, Any]) -> None:
        self.last = row["id"]
        with tenant_context(self._tenant_id):
            await in_db_thread(tool_call_store, {**row, "tenant_id": self._tenant_id})


def row_of(call: Call, status: str, whose: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of ToolCall but for `tenant_id`; `whose` are those of the run or the person."""
    return {
        "id": call.id,
        "created_at": call.began,
        "run_id": None,
        "session_id": None,
        "fence": 0,
        "key": call.key,
        "call_id": call.call_id[:255],
        "toolset": call.toolset,
        "tool": call.tool[:64],
        "risk": call.risk,
        "status": status,
        "arguments": call.arguments[:MAX_STORED],
        "result": "",
        "size": 0,
        "ms": None,
        "actor_kind": "",
        "actor_id": None,
        "actor_label": "",
        **whose,
    }


def finished_row(call: Call, answer: Answer, whose: Mapping[str, Any], *, begun: bool) -> dict[str, Any]:
    """Only what was begun must not be made again: it alone has the call's key."""
    status = ToolCall.Status.FAILED if answer.is_error else ToolCall.Status.SUCCEEDED
    told = {"result": answer.content[:MAX_STORED], "size": answer.size, "ms": answer.ms}
    return {**row_of(call, status, whose), **told, **({} if begun else {"key": str(call.id)})}


def tool_call_store(row: dict[str, Any]) -> None:
    """A new row, or the end of one that has begun."""
    send(_store_sql(tuple(row)), as_given([row]))


@cache
def _store_sql(columns: tuple[str, ...]) -> str:
    ended = ", ".join(f"{name} = EXCLUDED.{name}" for name in ("status", "result", "size", "ms"))
    return f"{insert_sql(ToolCall._meta.db_table, columns)} ON CONFLICT (id) DO UPDATE SET {ended}"
