"""The tool calls of a run: what changes something or reaches outside begins once, and only while the run is ours."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

from django.db import IntegrityError

from core.aio import in_db_thread
from core.rows import as_given, ask, insert_sql
from runs.approvals import Approvals
from runs.events import Event
from runs.models import Run, ToolApproval
from runs.starting import plain
from runs.stream import RunLost
from runs.transcript import Transcript
from toolsets.base import Risk
from toolsets.exceptions import ToolError
from toolsets.ledger import Answer, Call, Reason, finished_row, row_of, tool_call_store
from toolsets.models import ToolCall

# The lease's row is locked until the statement ends, so that nobody takes the run over meanwhile; the run's before it,
# as whoever stops, ends or deletes it does: the new row's foreign key locks it anyhow.
_BEGIN = """
    WITH run AS MATERIALIZED (SELECT 1 FROM run WHERE tenant_id = $4::uuid AND id = $2::uuid FOR KEY SHARE),
    mine AS MATERIALIZED (
        SELECT 1 FROM run_lease WHERE run_id = $2::uuid AND fence = $3::int AND EXISTS (SELECT FROM run) FOR SHARE)
    {insert}, mine ON CONFLICT (tenant_id, run_id, key) DO NOTHING RETURNING id
"""
_FOUND = (
    "SELECT status, result, size, id::text FROM tool_call WHERE tenant_id = $1::uuid AND run_id = $2::uuid AND key = $3"
)
_AGAIN = """
    WITH mine AS MATERIALIZED (SELECT 1 FROM run_lease WHERE run_id = $4::uuid AND fence = $2::int FOR SHARE)
    UPDATE tool_call SET id = $1::uuid, fence = $2::int FROM mine
    WHERE tenant_id = $3::uuid AND run_id = $4::uuid AND key = $5 AND status = 'started' RETURNING id
"""
UNKNOWN = Answer(
    "The server stopped while it made this call, and it is not known whether it was done. It is not made again: "
    "say so, and let a person check.",
    is_error=True,
)


class RunLedger:
    """`toolsets.ledger.Ledger` of one attempt of a run; used in the run's tenant.

    `flush` returns once the run's events so far are stored: another attempt must know the answer that asked for a call.
    """

    untrusted = False

    def __init__(self, run: Run, fence: int, flush: Callable[[], Awaitable[None]], approvals: Approvals) -> None:
        self._flush = flush
        self._approvals = approvals
        self._tenant_id, self._run_id, self._fence = run.tenant_id, run.id, fence
        self._whose = {"tenant_id": run.tenant_id, "run_id": run.id, "session_id": run.session_id, "fence": fence}

    async def approve(self, call: Call, reason: Reason) -> str | None:
        """Raises RunLost when another process has the run."""
        self._approvals.works(call)
        await self._flush()
        return await self._approvals.ask(call, reason)

    async def begin(self, call: Call, *, once: bool) -> Answer | None:
        """Raises RunLost when another process has the run. A person says whether one of unknown end is made again."""
        self._approvals.works(call)
        known = await self._known(call) if once else None
        if known is not None:
            self._approvals.worked(call)
        return known

    async def finish(self, call: Call, answer: Answer, *, begun: bool) -> None:
        try:
            await in_db_thread(tool_call_store, finished_row(call, answer, self._whose, begun=begun))
        except IntegrityError:  # the run was deleted meanwhile
            raise RunLost from None
        finally:
            self._approvals.worked(call)

    def give_up(self, call: Call) -> None:
        self._approvals.worked(call)

    async def _known(self, call: Call) -> Answer | None:
        await self._flush()
        known = await in_db_thread(self._begin, call)
        return None if known is UNKNOWN and await self._again(call) else known

    def _begin(self, call: Call) -> Answer | None:
        row = row_of(call, ToolCall.Status.STARTED, self._whose)
        if ask(_begin_sql(tuple(row)), as_given([row]), str(self._run_id), str(self._fence), str(self._tenant_id)):
            return None
        return self._earlier(call)

    def _found(self, call: Call) -> Any:
        found: list[Any] = ask(_FOUND, str(self._tenant_id), str(self._run_id), call.key)
        if not found:
            raise RunLost
        return found[0]

    def _earlier(self, call: Call) -> Answer:
        status, result, size, _ = self._found(call)
        if status == ToolCall.Status.STARTED:
            return UNKNOWN
        return Answer(result, status == ToolCall.Status.FAILED, size)

    async def _again(self, call: Call) -> bool:
        """May a call of unknown end be made again? Its row is this call's then: what is asked once more is new."""
        *_, row_id = await in_db_thread(self._found, call)
        try:
            await self._approvals.ask(replace(call, key=row_id), "unknown")
        except ToolError:
            return False
        self._approvals.works(call)
        await in_db_thread(self._begin_again, call)
        return True

    def _begin_again(self, call: Call) -> None:
        of = (str(call.id), str(self._fence), str(self._tenant_id), str(self._run_id), call.key)
        if not ask(_AGAIN, *of):
            raise RunLost


def answers_to_keep(run: Run, told: Sequence[Event]) -> list[dict[str, Any]]:
    """The model's answers that another attempt begins with, by the events of the one before.

    Those up to the last that asked for a call which was begun, or about which a person was asked: asked again, the
    model might ask for the same in other words. None beyond a message that was heard meanwhile, which comes when it
    comes.
    """
    begun = ToolCall.objects.filter(tenant_id=run.tenant_id, run_id=run.id).exclude(risk=Risk.READ)
    asked = ToolApproval.objects.filter(tenant_id=run.tenant_id, run_id=run.id)
    ids = {*begun.values_list("call_id", flat=True), *asked.values_list("call_id", flat=True)}
    known = takewhile(lambda event: not (event.type == "CUSTOM" and event.data["name"] == "heard"), told)
    answers = (
        [message for message in plain(Transcript(known).messages) if message["role"] == "assistant"] if ids else []
    )
    places = [place for place, message in enumerate(answers, 1) if _ids(message) & ids]
    return answers[: max(places, default=0)]


def _ids(message: dict[str, Any]) -> set[str]:
    return {call["id"] for call in message.get("tool_calls") or ()}


def _begin_sql(columns: tuple[str, ...]) -> str:
    return _BEGIN.format(insert=insert_sql(ToolCall._meta.db_table, columns))
