"""The credentials of single persons for a toolset whose calls use them: stored, used, and never shown."""

import re
from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from core import audit
from core.errors import Conflict, InvalidRequest, NotFound
from core.validation import invalid
from tenants.models import Membership
from tenants.permissions import authorize, refuse_guest
from tenants.principal import Principal
from toolsets.models import Toolset, ToolsetCredential
from toolsets.persons import end_user_key, member_key
from toolsets.registry import toolset_kinds
from toolsets.secrets import set_secrets
from toolsets.selectors import by_ref, is_personal, toolset_not_found
from toolsets.validation import secret_faults

END_USER = re.compile(r"[^\x00-\x1f\x7f]{1,128}")  # as in a chat's metadata


class _Person(NamedTuple):
    key: str
    member_id: UUID | None


def credential_get(*, actor: Principal, ref: str, user_id: str = "") -> ToolsetCredential:
    """One's own, or those of an API key's end user. Raises NotFound."""
    authorize(actor, "chat.run")
    person, toolset = _person(actor, user_id), _toolset(actor, ref)
    return _found(_rows(actor).filter(toolset=toolset, person=person.key))


@transaction.atomic
def credential_put(
    *, actor: Principal, ref: str, secrets: Mapping[str, str | None], user_id: str = ""
) -> ToolsetCredential:
    """In place of all that were there; null is none.

    Raises Conflict for a toolset whose calls use none of persons, InvalidRequest with every fault, NotFound.
    """
    authorize(actor, "chat.run")
    person = _person(actor, user_id, locked=True)
    toolset = _toolset(actor, ref, locked=True)
    given = {name: secret for name, secret in secrets.items() if secret is not None}
    faults = secret_faults(toolset_kinds()[toolset.kind], given)
    if faults or not given:
        raise invalid(faults or [{"path": "secrets", "code": "missing", "message": "Give at least one secret."}])
    found = _rows(actor).filter(toolset=toolset, person=person.key).first()
    before = list(found.secret_names) if found else []
    credential = found or ToolsetCredential(
        tenant_id=actor.tenant_id, toolset=toolset, person=person.key, member_id=person.member_id
    )
    credential.secret_names = []
    set_secrets(credential, given)
    credential.save()
    _audit(actor, "toolset.credential.store", credential, before)
    return credential


@transaction.atomic
def credential_delete(*, actor: Principal, ref: str, user_id: str = "") -> None:
    """Runs under way may go on with it. Raises NotFound."""
    authorize(actor, "chat.run")
    person, toolset = _person(actor, user_id), _toolset(actor, ref)
    _delete(actor, _rows(actor).filter(toolset=toolset, person=person.key))


@transaction.atomic
def credential_remove(*, actor: Principal, credential_id: UUID) -> None:
    """Anybody's, by an operator. Raises NotFound."""
    authorize(actor, "toolset.edit")
    _delete(actor, _rows(actor).filter(id=credential_id))


def _delete(actor: Principal, rows: QuerySet[ToolsetCredential]) -> None:
    credential = _found(rows.select_for_update(of=("self",)))
    _audit(actor, "toolset.credential.delete", credential, list(credential.secret_names))
    credential.delete()


def _rows(actor: Principal) -> QuerySet[ToolsetCredential]:
    return ToolsetCredential.objects.filter(tenant_id=actor.tenant_id).select_related("toolset")


def _found(rows: QuerySet[ToolsetCredential]) -> ToolsetCredential:
    credential = rows.first()
    if credential is None:
        raise NotFound("No credentials are stored.", code="credentials_not_found")
    return credential


def _person(actor: Principal, user_id: str, *, locked: bool = False) -> _Person:
    """Raises InvalidRequest where it is not clear whose they are, NotPermitted for a guest."""
    refuse_guest(actor)
    if actor.kind != "user":
        if not END_USER.fullmatch(user_id):
            message = "An API key names the end user whose credentials these are, by 1 to 128 printable characters."
            raise InvalidRequest(message, param="user_id")
        return _Person(end_user_key(user_id), None)
    if user_id:
        raise InvalidRequest("Only an API key names a user: you store your own credentials.", param="user_id")
    members = Membership.objects.filter(tenant_id=actor.tenant_id)
    members = members.select_for_update(no_key=True) if locked else members
    member = members.filter(user_id=actor.id).first() if actor.id else None
    if member is None:  # a superuser of the platform
        raise InvalidRequest("Only a member of the tenant has credentials here.")
    return _Person(member_key(actor.id), member.id)


def _toolset(actor: Principal, ref: str, *, locked: bool = False) -> Toolset:
    """Raises NotFound, and Conflict for one whose calls use no credentials of persons."""
    toolsets = Toolset.objects.filter(tenant_id=actor.tenant_id).defer("learned")
    toolset = by_ref(toolsets.select_for_update() if locked else toolsets, ref).first()
    if toolset is None:
        raise toolset_not_found(ref)
    if locked and not is_personal(toolset):
        message = f"The toolset '{toolset.slug}' uses no credentials of single persons."
        raise Conflict(message, code="credentials_not_personal")
    return toolset


def _audit(actor: Principal, action: str, credential: ToolsetCredential, before: list[str]) -> None:
    after = list(credential.secret_names) if action.endswith("store") else []
    audit.record(
        actor=actor,
        action=action,
        target=credential.toolset,
        before={"person": credential.person, "secrets": before},
        after={"person": credential.person, "secrets": after},
    )
