"""What runs ask persons about calls of their tools: asked once, decided once."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from core import audit
from core.errors import Conflict, InvalidRequest, NotFound, NotPermitted
from core.ids import NIL, parse_uuid
from core.validation import has_large_number, storable_text
from runs.models import FINISHED, Run, ToolApproval
from runs.services.turns import locked_session
from runs.stream import RunLost
from sessions_app.selectors.participants import authorize_in
from tenants.permissions import RANK, authorize
from tenants.principal import Principal, system_principal
from toolsets.exceptions import ToolError
from toolsets.ledger import Call, Reason
from toolsets.selectors import granted_toolsets
from toolsets.toolbox import parse_arguments, tool_index

MAX_ARGUMENTS = 50_000  # characters: a person must see all that they approve
MAX_COMMENT = 500  # characters
_OURS = "SELECT 1 FROM run_lease WHERE run_id = %s AND fence = %s FOR SHARE"
Status = ToolApproval.Status


class Decision(NamedTuple):
    """What a person says of one approval; `arguments` replace those of the model, as JSON."""

    approval_id: str
    approved: bool
    arguments: str | None = None
    comment: str = ""


@transaction.atomic
def approval_open(*, run: Run, fence: int, call: Call, reason: Reason) -> ToolApproval:
    """The approval that the run waits for now, or what was decided about the same call before.

    Raises RunLost when another process has the run, ToolError when nobody can be asked. Call it in the run's tenant.
    """
    _run_locked(run)
    with connection.cursor() as cursor:
        cursor.execute(_OURS, [run.id, fence])
        if cursor.fetchone() is None:
            raise RunLost
    found = ToolApproval.objects.filter(tenant_id=run.tenant_id, run_id=run.id, key=call.key, reason=reason).first()
    approval = found or _new(run, call, reason)
    if approval.status == Status.PENDING:
        Run.objects.filter(tenant_id=run.tenant_id, id=run.id).update(status=Run.Status.WAITING)
    return approval


def _new(run: Run, call: Call, reason: Reason) -> ToolApproval:
    _refuse_what_nobody_can_decide(run, call)
    return ToolApproval.objects.create(
        tenant_id=run.tenant_id,
        run_id=run.id,
        key=call.key,
        reason=reason,
        call_id=call.call_id[:255],
        agent=call.agent or (run.agent_version.agent.slug if run.agent_version else ""),
        nested=bool(call.above),
        toolset=call.toolset,
        tool=call.tool[:64],
        risk=call.risk,
        role=call.approver,
        arguments=call.arguments,
        expires_at=timezone.now() + timedelta(seconds=settings.APPROVAL_SECONDS),
    )


def _refuse_what_nobody_can_decide(run: Run, call: Call) -> None:
    if len(call.arguments) > MAX_ARGUMENTS:
        raise ToolError(
            f"A person must approve this call, and its arguments are longer than {MAX_ARGUMENTS:,} characters: "
            "make several smaller calls."
        )
    if not _reads_alike(call.arguments):
        raise ToolError(
            "A person must approve this call, and its arguments have a number that is none in JSON, or that has more "
            "than 64 bits: use another."
        )
    others = Run.objects.filter(tenant_id=run.tenant_id, status=Run.Status.WAITING).exclude(id=run.id)
    waiting = others.count()
    if waiting >= settings.TENANT_WAITING_RUNS:
        raise ToolError(
            f"A person must approve this call, and {waiting} runs wait for that already: "
            "TENANT_WAITING_RUNS on the server raises this limit."
        )


def _reads_alike(arguments: str) -> bool:
    """Is it what the person sees that is done? Tools take more than JSON has, such as NaN."""
    try:
        return not has_large_number(orjson.loads(arguments))
    except orjson.JSONDecodeError:
        return False


def approval_look(*, tenant_id: UUID, approval_id: UUID) -> ToolApproval | None:
    """As it is now; one whose time is over expires by this. None for one whose run was deleted."""
    approval = ToolApproval.objects.select_related("run").filter(tenant_id=tenant_id, id=approval_id).first()
    if approval is None or approval.status != Status.PENDING or approval.expires_at > timezone.now():
        return approval
    return _expire(approval)


@transaction.atomic
def _expire(approval: ToolApproval) -> ToolApproval | None:
    run = _run_locked(approval.run)
    found = _pending(approval.tenant_id, approval.run_id).filter(id=approval.id).first()
    if run is not None and found is not None:
        _end(run, [found], Status.EXPIRED)
        audit.record(actor=system_principal(run.tenant_id, ""), action="tool_approval.expire", target=found)
    return ToolApproval.objects.filter(tenant_id=approval.tenant_id, id=approval.id).first()


@transaction.atomic
def run_resume(*, actor: Principal, run: Run, decisions: Sequence[Decision]) -> None:
    """Decide about calls that the run waits for; all or none, and each once.

    Raises NotFound for an approval that is not this run's, Conflict for one that is decided, expired or needless,
    NotPermitted for a role below the one that the toolset's policy names, InvalidRequest for arguments that the tool
    does not take.
    """
    authorize(actor, "tool.approve")
    found = _run_locked(run)
    if found is None:
        raise NotFound("No run with this id.")
    authorize_in(actor=actor, session=run.session, permission="tool.approve")
    for place, decision in enumerate(decisions):
        _decide(actor, found, decision, f"resume.{place}")


def _decide(actor: Principal, run: Run, decision: Decision, path: str) -> None:
    approval = _found(run, decision, path)
    _refuse_late(run, approval)
    if RANK[actor.role] < RANK[approval.role]:
        message = f"The toolset's policy lets the role {approval.role} or higher approve this; you are {actor.role}."
        raise NotPermitted(message, code="role_too_low")
    approval.edited = _edited(actor, run, approval, decision, path) if decision.approved else ""
    approval.comment = storable_text(decision.comment)[:MAX_COMMENT]
    approval.decided_by_kind, approval.decided_by_id, approval.decided_by_label = actor.kind, actor.id, actor.label
    _end(run, [approval], Status.APPROVED if decision.approved else Status.DENIED)
    after = {"run": str(run.id), "tool": approval.tool, "toolset": approval.toolset, "reason": approval.reason}
    told = {name: getattr(approval, name) for name in ("edited", "comment") if getattr(approval, name)}
    action = "tool_approval.approve" if decision.approved else "tool_approval.deny"
    audit.record(actor=actor, action=action, target=approval, after={**after, **told})


def _found(run: Run, decision: Decision, path: str) -> ToolApproval:
    approvals = ToolApproval.objects.select_for_update().filter(tenant_id=run.tenant_id, run_id=run.id)
    approval = approvals.filter(id=parse_uuid(decision.approval_id) or NIL).first()
    if approval is None:
        message = "The run has asked no such thing."
        raise NotFound(message, code="approval_not_found", param=f"{path}.interruptId")
    return approval


def _refuse_late(run: Run, approval: ToolApproval) -> None:
    if approval.status in (Status.APPROVED, Status.DENIED):
        by, at = approval.decided_by_label or "somebody", _time(approval.decided_at)
        raise Conflict(f"This was {approval.status} by {by} at {at}.", code="approval_decided")
    if approval.status == Status.EXPIRED or approval.expires_at <= timezone.now():
        message = f"This expired at {_time(approval.expires_at)}; APPROVAL_SECONDS on the server gives more time."
        raise Conflict(message, code="approval_expired")
    if approval.status == Status.WITHDRAWN or run.status in FINISHED:
        raise Conflict("The run ended, and needs no answer any more.", code="approval_withdrawn")


def _edited(actor: Principal, run: Run, approval: ToolApproval, decision: Decision, path: str) -> str:
    """The arguments to store in place of the model's, "" for none."""
    if decision.arguments is None or orjson.loads(decision.arguments) == orjson.loads(approval.arguments):
        return ""
    param = f"{path}.payload.editedArgs"
    if approval.reason == ToolApproval.Reason.UNKNOWN:
        message = "This call may have been made already: it can be made again as it was, or not at all."
        raise InvalidRequest(message, code="not_editable", param=param)
    if len(decision.arguments) > MAX_ARGUMENTS:
        raise InvalidRequest(f"Arguments may have {MAX_ARGUMENTS:,} characters.", param=param)
    try:
        _check_arguments(actor, run, approval, decision.arguments)
    except ToolError as error:
        raise InvalidRequest(str(error), code="wrong_arguments", param=param) from None
    return storable_text(decision.arguments)


def _check_arguments(actor: Principal, run: Run, approval: ToolApproval, arguments: str) -> None:
    """As far as the toolset still offers the tool; the run checks them once more by what it has."""
    index = tool_index(granted_toolsets(actor=actor, slugs=[approval.toolset]))
    prefixed = approval.tool.removeprefix(f"{approval.toolset}_")
    offered = index.tools.get(approval.tool) or index.tools.get(prefixed)
    if offered is not None:
        parse_arguments(offered.tool, arguments)


def approvals_withdraw(run: Run, *, nested: bool = False) -> None:
    """Those that the run waits for need no answer any more: it has ended, or begins anew, where only those of agents
    that it asked are `nested` and not asked for again. The caller has locked the run.
    """
    pending = list(_pending(run.tenant_id, run.id).filter(**({"nested": True} if nested else {})))
    if pending:
        _end(run, pending, Status.WITHDRAWN)


def _end(run: Run, approvals: Sequence[ToolApproval], status: str) -> None:
    """The run, which is locked, goes on when it waits for nothing more."""
    for approval in approvals:
        approval.status, approval.decided_at = status, timezone.now()
        approval.save()
    if run.status == Run.Status.WAITING and not _pending(run.tenant_id, run.id).exists():
        Run.objects.filter(tenant_id=run.tenant_id, id=run.id).update(status=Run.Status.RUNNING)
        run.status = Run.Status.RUNNING


def _run_locked(run: Run) -> Run | None:
    """Before its lease and its approvals, and after its session, as whoever ends or deletes it does."""
    locked_session(run)
    return Run.objects.select_for_update(of=("self",)).filter(tenant_id=run.tenant_id, id=run.id).first()


def _pending(tenant_id: UUID, run_id: UUID) -> QuerySet[ToolApproval]:
    return ToolApproval.objects.filter(tenant_id=tenant_id, run_id=run_id, status=Status.PENDING)


def _time(at: datetime | None) -> Any:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z") if at else "an unknown time"
