"""A person tries a tool, outside of any run."""

from typing import Any

from core import audit
from core.aio import in_db_thread
from core.errors import NotFound, NotPermitted
from tenants.permissions import RANK, authorize
from tenants.principal import Principal
from toolsets.base import ToolCallContext
from toolsets.events import ToolResult
from toolsets.ledger import PersonsLedger
from toolsets.models import Toolset
from toolsets.persons import person_of
from toolsets.selectors import granted_to, toolset_get
from toolsets.toolbox import Offered, Toolbox, ToolIndex


async def tool_invoke(*, actor: Principal, ref: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """What a model would be shown. Raises NotFound, or Unavailable for a toolset whose kind no longer works.

    Who asks for it approves it: NotPermitted where the toolset's policy leaves that to a higher role. A toolset that is
    switched off can be tried as well.
    """
    authorize(actor, "toolset.edit")
    person = person_of(actor_kind=actor.kind, actor_id=actor.id, end_user="")
    offered = await in_db_thread(_offered, actor, ref, name, person)
    told: list[ToolResult] = []

    async def emit(result: ToolResult) -> None:
        told.append(result)

    ledger = PersonsLedger(actor)
    context = ToolCallContext(actor.tenant_id, person=person)
    toolbox = Toolbox(ToolIndex({name: offered}, []), emit=emit, context=context, ledger=ledger)
    await toolbox.call({"function": {"name": name, "arguments": arguments}})
    (result,) = told
    return {"id": ledger.last, "content": result.content, "is_error": result.is_error, "ms": result.ms}


def _offered(actor: Principal, ref: str, name: str, person: str) -> Offered:
    toolset = toolset_get(actor=actor, ref=ref, learned=True)
    granted = granted_to(actor=actor, toolset=toolset, person=person)
    tool = next((tool for tool in granted.tools if tool.name == name), None)
    if tool is None:
        raise NotFound(f"The toolset '{toolset.slug}' has no tool '{name}'.", code="tool_not_found")
    approver = granted.policy.approver
    if tool.approval and RANK[actor.role] < RANK[approver]:
        message = f"Only the role {approver} or higher may approve this tool, as its toolset's policy says."
        raise NotPermitted(message, code="role_too_low")
    _audit(actor, toolset, name)
    return Offered(tool, granted)


def _audit(actor: Principal, toolset: Toolset, name: str) -> None:
    audit.record(actor=actor, action="toolset.invoke", target=toolset, after={"tool": name})
