"""Whether who asked for a run may still speak in its session, once its messages are to join it."""

from core.errors import NotFound, NotPermitted
from core.ids import NIL
from runs.exceptions import ParticipationEnded
from runs.models import Run
from sessions_app.selectors.participants import authorize_in
from tenants.models import Membership, Role
from tenants.principal import Principal


def author_check(run: Run) -> Principal | None:
    """The person who asked, with the role that they have now in the tenant; None for a program, of which nothing is
    asked. Raises ParticipationEnded.
    """
    if run.session is None or run.actor_kind not in ("user", "guest"):
        return None
    role = Role.MEMBER if run.actor_kind == "guest" else _role(run)
    if role is None:
        raise ParticipationEnded
    person = Principal(run.tenant_id, "", run.actor_kind, run.actor_id, run.actor_label, role)
    try:
        authorize_in(actor=person, session=run.session, permission="chat.run")
    except (NotFound, NotPermitted):
        raise ParticipationEnded from None
    return person


def may_speak(run: Run) -> bool:
    try:
        author_check(run)
    except ParticipationEnded:
        return False
    return True


def _role(run: Run) -> str | None:
    """The user's in the tenant; None for who is no active member any more."""
    those = Membership.objects.filter(tenant_id=run.tenant_id, user_id=run.actor_id or NIL, user__is_active=True)
    return those.filter(status=Membership.Status.ACTIVE).values_list("role", flat=True).first()
