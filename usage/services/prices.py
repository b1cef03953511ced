"""Writes to a tenant's own prices. What is recorded keeps the price that it had."""

from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from core import audit
from core.errors import Conflict, InvalidRequest
from tenants.permissions import authorize
from tenants.principal import Principal
from usage.models import Price
from usage.prices import forget_prices
from usage.selectors import price_get
from usage.validation import PriceFields, as_json, checked
from usage.vendors import vendor_of

MAX_PRICES = 5_000  # of a tenant; they are looked through for each call
FIELDS = tuple(PriceFields.model_fields)


@transaction.atomic
def price_create(*, actor: Principal, **values: Any) -> Price:
    """`values` as `usage.validation.PriceFields`; in force at once unless `effective_from` says otherwise.

    Raises InvalidRequest with every fault, or for a provider that the tenant does not have, and Conflict for a second
    price of the same models from the same time on.
    """
    authorize(actor, "price.edit")
    fields = checked(PriceFields, values)
    if fields["provider"]:
        vendor_of(actor.tenant_id, fields["provider"])
    if Price.objects.filter(tenant_id=actor.tenant_id).count() >= MAX_PRICES:
        message = f"A tenant has at most {MAX_PRICES:,} prices: delete old ones, or price many models by gpt-*."
        raise InvalidRequest(message, code="too_many")
    fields["effective_from"] = fields["effective_from"] or timezone.now()
    price = Price(tenant_id=actor.tenant_id, **fields)
    try:
        with transaction.atomic():
            price.save(force_insert=True)
    except IntegrityError:
        message = "There is a price of these models from this time on: give another effective_from."
        raise Conflict(message, code="price_exists", param="effective_from") from None
    audit.record(actor=actor, action="price.create", target=price, after=as_json(fields))
    _forget_on_commit(actor.tenant_id)
    return price


@transaction.atomic
def price_delete(*, actor: Principal, ref: str) -> None:
    """The price before it, or the list price, is in force again."""
    authorize(actor, "price.edit")
    price = price_get(actor=actor, ref=ref)
    before = as_json({name: getattr(price, name) for name in FIELDS})
    audit.record(actor=actor, action="price.delete", target=price, before=before)
    price.delete()
    _forget_on_commit(actor.tenant_id)


def _forget_on_commit(tenant_id: UUID) -> None:
    transaction.on_commit(lambda: forget_prices(tenant_id))
