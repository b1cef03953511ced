"""Messages that come while an agent answers, and that it hears at its next step: `when_busy` is `steer`.

Each is a run of its own that waits for its turn. The run under way takes it in; the two end together. One that was not
taken in, because the other had ended or was lost, has its turn like any other.
"""

from collections.abc import Collection
from uuid import UUID

from django.db import transaction

from core.ids import uuid7
from runs.models import Run
from runs.services.authors import may_speak
from runs.services.turns import Messages, locked_session, new_messages
from runs.starting import signed


@transaction.atomic
def steering_hear(*, run: Run, heard: Collection[str]) -> list[tuple[str, Messages]]:
    """The messages that `run` shall hear, by the id of the run that brought them, in order.

    `heard` are the runs whose messages it has: those of a commit whose answer was lost are given again. Only those at
    the head of the session's line: what waits behind another message, or asks another agent, is answered after it.
    What somebody said who may not speak any more is never heard: it fails when it has its turn.
    """
    if locked_session(run) is None:
        return []
    found = []
    others = Run.objects.filter(tenant_id=run.tenant_id, session_id=run.session_id, status=Run.Status.QUEUED)
    others = others.filter(finished_at=None).select_related("agent_version", "session")
    for other in others.order_by("created_at", "id"):
        if str(other.id) in heard:
            continue
        if other.request["when_busy"] != "steer" or _agent(other) != _agent(run) or not may_speak(other):
            break
        said = new_messages(other.request["messages"])
        for message in said:  # by which all its readers will know it
            message["id"] = message.get("id") or str(uuid7())
        other.request["heard_by"] = str(run.id)
        other.save(update_fields=["request"])
        found.append((str(other.id), signed(other, said)))
    return found


def _agent(run: Run) -> UUID | None:
    return run.agent_version.agent_id if run.agent_version else None


def is_heard(run: Run) -> bool:
    """Has a run that is still under way its messages?"""
    return Run.objects.filter(tenant_id=run.tenant_id, id=run.request.get("heard_by"), finished_at=None).exists()


def steering_forget(run: Run) -> None:
    """Another attempt of `run` has heard nothing yet."""
    others = Run.objects.filter(tenant_id=run.tenant_id, session_id=run.session_id, finished_at=None)
    for other in others.filter(status=Run.Status.QUEUED, request__heard_by=str(run.id)):
        other.request.pop("heard_by")
        other.save(update_fields=["request"])
