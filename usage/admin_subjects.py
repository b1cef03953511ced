"""What people call those that a budget may be of, and their ids."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any
from uuid import UUID

from django import forms
from django.db.models import Q, QuerySet

from core.ids import parse_uuid
from tenants.models import ApiKey, Membership
from usage.models import Budget, UsageRecord

OFFERED = 100  # of each kind
KEY_MARK = "ask_"  # before an API key's prefix, where people see it


@dataclass(frozen=True, slots=True)
class Subjects:
    """Those of a tenant in one scope of a budget, which stores their `id`.

    `noun` says what they are, `names` by which lookups they are found; the first one is what they are called.
    """

    noun: str
    names: tuple[str, ...]
    rows: Callable[[], QuerySet[Any]]
    id: str = "id"

    def of(self, tenant_id: UUID) -> QuerySet[Any]:
        return self.rows().filter(tenant_id=tenant_id)


SUBJECTS = {
    Budget.Scope.USER: Subjects("member", ("user__username", "user__email__iexact"), Membership.objects.all, "user_id"),
    Budget.Scope.API_KEY: Subjects("API key", ("name", "prefix"), lambda: ApiKey.objects.filter(revoked_at=None)),
}
"""By scope; apps above this one add theirs."""


def subject_id(tenant_id: UUID, scope: str, text: str) -> str:
    """What a budget of this scope stores; ValidationError where nobody is meant, or more than one."""
    if scope == Budget.Scope.TENANT:
        raise forms.ValidationError("A budget of the tenant is of nobody else: leave this empty.")
    if scope == Budget.Scope.END_USER or parse_uuid(text) is not None:
        return text
    known = SUBJECTS.get(Budget.Scope(scope))
    if known is None:
        raise forms.ValidationError(f"Give the id of the {scope}, or leave this empty for each one for itself.")
    either = [Q(**{name: text.removeprefix(KEY_MARK) if name == "prefix" else text}) for name in known.names]
    found = known.of(tenant_id).filter(reduce(or_, either)).values_list(known.id, flat=True)[:2]
    if len(found) != 1:
        many = f"More than one {known.noun} is called '{text}': give the id." if found else ""
        raise forms.ValidationError(many or f"There is no {known.noun} '{text}'.")
    return str(found[0])


def subjects_offered(tenant_id: UUID) -> list[tuple[str, str]]:
    """Names that `subject_id` takes, with what they are of."""
    return [
        (name, known.noun)
        for known in SUBJECTS.values()
        for name in known.of(tenant_id).values_list(known.names[0], flat=True)[:OFFERED]
    ]


def subject_names(tenant_id: UUID) -> dict[str, str]:
    """What people call them, by id; also agents that were called lately and are gone."""
    rows = UsageRecord.objects.filter(tenant_id=tenant_id).exclude(agent_id=None).values_list("agent_id", "agent")
    found = {str(id): f"agent {slug}" for id, slug in rows[:500]}
    for known in SUBJECTS.values():
        named = known.of(tenant_id).values_list(known.id, known.names[0])[:OFFERED]
        found |= {str(id): f"{known.noun} {name}" for id, name in named}
    return found
