"""A run that waits for persons: what it asks them, as AG-UI's interrupts, and how it hears of what they decide."""

import asyncio
import logging
from contextlib import suppress
from typing import Any
from uuid import UUID

import orjson
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from core.aio import in_db_thread
from core.deadline import current_deadlines, stopped
from runs.events import run_interrupted
from runs.models import Run, ToolApproval
from runs.process import Process
from runs.services.approvals import approval_look, approval_open
from runs.sink import RunSink
from runs.starting import goes_on
from runs.stream import RunLost
from toolsets.exceptions import ToolError
from toolsets.ledger import Call, Reason

logger = logging.getLogger(__name__)
RETRY_SECONDS = 0.5
QUIET_SECONDS = 1.0  # for which a template tells nothing, until an interrupt that it went on beside is told again
POLL_SECONDS = 30.0  # after which an approval is looked at, in case that a notification was lost
_WHY = {
    ToolApproval.Reason.POLICY: "Approve the call of {tool}?",
    ToolApproval.Reason.UNTRUSTED: "The run has read what comes from outside. Approve the call of {tool}?",
    ToolApproval.Reason.UNKNOWN: "The server stopped during the call of {tool}, and it is not known whether it was "
    "done. Make it again?",
}


class Approvals:
    """What one run of this process waits for. The interrupt is told once nothing else of the run is under way, so that
    a client is not told that it is finished while it goes on.
    """

    def __init__(self, here: Process, run: Run, fence: int, sink: RunSink) -> None:
        self._here, self._run, self._fence, self._sink = here, run, fence, sink
        self._pending: dict[Call, ToolApproval] = {}
        self._working: set[UUID] = set()  # ids of calls
        self._soon: asyncio.TimerHandle | None = None
        sink.when_said, sink.when_told = self._quiet, self._told

    async def ask(self, call: Call, reason: Reason) -> str | None:
        """`toolsets.ledger.Ledger.approve`; used in the run's tenant."""
        self.works(call)
        try:
            approval = await in_db_thread(approval_open, run=self._run, fence=self._fence, call=call, reason=reason)
        finally:
            self._working.discard(call.id)
        if approval.status == ToolApproval.Status.PENDING:
            with stopped(current_deadlines()):
                approval = await self._decided(call, approval)
        if approval.status == ToolApproval.Status.APPROVED:
            return approval.edited or None
        raise ToolError(_refusal(approval))

    def works(self, call: Call) -> None:
        self._working.add(call.id)

    def worked(self, call: Call) -> None:
        """Its answer is told right after this."""
        self._working.discard(call.id)
        if self._pending:
            asyncio.get_running_loop().call_soon(self._quiet)

    async def _decided(self, call: Call, approval: ToolApproval) -> ToolApproval:
        self._pending[call] = approval
        news = asyncio.Event()

        def wake() -> None:
            self.works(call)  # it may be the one that was decided
            news.set()

        try:
            with self._here.waits(self._run.id, wake):
                self._quiet()
                return await self._news_of(call, approval, news)
        finally:
            del self._pending[call]

    async def _news_of(self, call: Call, approval: ToolApproval, news: asyncio.Event) -> ToolApproval:
        """Returns once it is decided, or its time is over."""
        while True:
            news.clear()
            found = await self._look(approval)
            if found.status != ToolApproval.Status.PENDING:
                return found
            if not news.is_set():
                self._working.discard(call.id)
                self._quiet()
            left = (found.expires_at - timezone.now()).total_seconds()
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), min(POLL_SECONDS, max(left, 0.01)))

    async def _look(self, approval: ToolApproval) -> ToolApproval:
        """Waits while the database does not answer: the run has waited for longer."""
        while True:
            try:
                found = await in_db_thread(approval_look, tenant_id=self._run.tenant_id, approval_id=approval.id)
            except (OperationalError, InterfaceError):
                logger.warning("An approval cannot be read; its run waits", extra={"run_id": str(self._run.id)})
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if found is None:
                raise RunLost
            return found

    def _told(self) -> None:
        """The template went on beside what waits: the interrupt is told again once that was quiet for a while."""
        if self._pending:
            if self._soon is not None:
                self._soon.cancel()
            self._soon = asyncio.get_running_loop().call_later(QUIET_SECONDS, self._quiet)

    def _quiet(self) -> None:
        """Tells the interrupt, unless something of the run still works that does not itself wait for a person."""
        waits = {id for call in self._pending for id in call.above}
        if self._pending and self._working <= waits:
            ids = self._run.thread_id, str(self._run.id)
            asked = [interrupt(approval) for approval in self._pending.values()]
            self._sink.pause(run_interrupted(*ids, asked), goes_on(self._run))


def interrupt(approval: ToolApproval) -> dict[str, Any]:
    """AG-UI's Interrupt. What answers it: `runs.agui.decisions`."""
    arguments = orjson.loads(approval.arguments)
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"approved": {"type": "boolean"}, "comment": {"type": "string", "maxLength": 500}},
        "required": ["approved"],
    }
    if approval.reason != ToolApproval.Reason.UNKNOWN:
        schema["properties"]["editedArgs"] = {"type": "object", "description": "In place of the call's arguments."}
    about = {name: getattr(approval, name) for name in ("agent", "toolset", "tool", "risk", "role")}
    told = {
        "id": str(approval.id),
        "reason": "tool_call",
        "message": _WHY[ToolApproval.Reason(approval.reason)].format(tool=approval.tool),
        "responseSchema": schema,
        "expiresAt": approval.expires_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "metadata": {**about, "why": approval.reason, "arguments": arguments},
    }
    return told if approval.nested else {**told, "toolCallId": approval.call_id}


def _refusal(approval: ToolApproval) -> str:
    match approval.status:
        case ToolApproval.Status.DENIED:
            said = f" They say: “{approval.comment}”" if approval.comment else ""
            return f"A person denied this call: it was not made.{said} Do not try to reach the same in another way."
        case ToolApproval.Status.EXPIRED:
            return "Nobody approved this call in time: it was not made. Say so."
        case _:
            return "This call was not approved: it was not made."
