"""Messages that come while an agent answers, and that it hears at its next step: `when_busy` is `steer`.

Each is a run of its own that waits for its turn. The run under way takes it in; the two end together. One that was not
taken in, because the other had ended or was lost, has its turn like any other.
"""

from django.db import transaction

from runs.models import Run
from runs.services.turns import Messages, locked_session, new_messages


@transaction.atomic
def steering_hear(*, run: Run) -> list[tuple[str, Messages]]:
    """The messages that `run` shall hear, by the id of the run that brought them, in order; each is heard once.

    Only those at the head of the session's line: what waits behind another message is answered after it.
    """
    if locked_session(run) is None:
        return []
    heard = []
    others = Run.objects.filter(tenant_id=run.tenant_id, session_id=run.session_id, status=Run.Status.QUEUED)
    for other in others.filter(finished_at=None).order_by("created_at", "id"):
        if other.request.get("heard_by") == str(run.id):
            continue
        if other.request["when_busy"] != "steer" or other.cancel_requested_at is not None:
            break
        other.request["heard_by"] = str(run.id)
        other.save(update_fields=["request"])
        heard.append((str(other.id), new_messages(other.request["messages"])))
    return heard


def steering_forget(run: Run) -> None:
    """Another attempt of `run` has heard nothing yet."""
    others = Run.objects.filter(tenant_id=run.tenant_id, session_id=run.session_id, finished_at=None)
    for other in others.filter(status=Run.Status.QUEUED, request__heard_by=str(run.id)):
        other.request.pop("heard_by")
        other.save(update_fields=["request"])
