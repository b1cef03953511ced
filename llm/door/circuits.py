"""The breakers of this process, and the table by which processes and operators know of each other's."""

import asyncio
import logging
import time
from collections import OrderedDict
from datetime import UTC, datetime
from uuid import UUID

from django.db import DatabaseError
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from core.aio import detached, in_db_thread
from core.ids import uuid7
from core.tenant import tenant_context
from llm.door.bounded import OF_TENANT
from llm.door.breaker import Breakers, State, Transition
from llm.models import EndpointHealth
from llm.providers import provider_kind
from llm.targets import Endpoint, ModelTarget

logger = logging.getLogger(__name__)

LEARN_SECONDS = 4.0  # an endpoint that another process opened is known within 5 s
MAX_TENANTS = 4096

_untold: dict[Endpoint, Transition] = {}
_writer: asyncio.Task[None] | None = None
_learned: OrderedDict[UUID, float] = OrderedDict()


def _tell(endpoint: Endpoint, transition: Transition) -> None:
    """Stored in the background; of several transitions at once the last counts."""
    global _writer
    logger.warning("Model endpoint %s/%s is %s", endpoint.provider, endpoint.model, transition.state)
    if endpoint.tenant_id is None:
        return
    _untold[endpoint] = transition
    if _writer is None or _writer.done() or _writer.get_loop() is not asyncio.get_running_loop():
        _writer = detached(_write(), name="endpoint health")


breakers = Breakers(_tell)


def guarded(target: ModelTarget) -> bool:
    """What answers on this machine has no breaker, nor has what is no provider at all."""
    kind = provider_kind(target.connection.kind)
    return kind is not None and kind.remote


def close(tenant_id: UUID, provider: str, *, model: str | None = None, key: str | None = None) -> None:
    """Let calls of this process through again to a provider's endpoints, or to those of one model or key."""
    for endpoint in breakers.of(tenant_id):
        if endpoint.provider != provider:
            continue
        if model in (None, endpoint.model) and key in (None, endpoint.key):
            breakers.close(endpoint)


async def learn(tenant_id: UUID | None) -> None:
    """Take over what other processes found of the tenant's endpoints; one statement in LEARN_SECONDS."""
    now = time.monotonic()
    if tenant_id is None or _learned.get(tenant_id, 0.0) > now:
        return
    _learned[tenant_id] = now + LEARN_SECONDS
    _learned.move_to_end(tenant_id)
    if len(_learned) > MAX_TENANTS:
        _learned.popitem(last=False)
    mine = {endpoint.provider for endpoint in breakers.of(tenant_id)}
    try:
        with tenant_context(tenant_id):
            rows = await in_db_thread(_rows, tenant_id, mine)
    except DatabaseError:
        logger.exception("The health of model endpoints was not read")
        return
    for row in rows:
        _take_over(row)


async def written() -> None:
    """Wait until the transitions of now are stored."""
    while _writer is not None and not _writer.done():
        await asyncio.wait({_writer})


def forget_all() -> None:
    """As if the process had just begun."""
    for endpoint in breakers:
        breakers.close(endpoint)
    _learned.clear()
    _untold.clear()


def _rows(tenant_id: UUID, providers: set[str]) -> list[EndpointHealth]:
    """What is open, and what became of those that this process leaves alone; the latest news first."""
    news = Q(state=State.OPEN, until__gt=Now()) | Q(provider__in=providers)
    return list(EndpointHealth.objects.filter(news, tenant_id=tenant_id).order_by("-updated_at")[:OF_TENANT])


def _take_over(row: EndpointHealth) -> None:
    endpoint = Endpoint(row.tenant_id, row.provider, row.model, row.key)
    opened_at = breakers.opened_at(endpoint)
    if row.state == State.OPEN and row.until > timezone.now():
        breakers.learn(
            endpoint,
            until=row.until.timestamp(),
            opened_at=row.opened_at.timestamp(),
            failures=row.failures,
            code=row.last_error_code,
        )
    elif row.state == State.CLOSED and opened_at is not None and row.updated_at.timestamp() > opened_at:
        breakers.close(endpoint)


async def _write() -> None:
    while _untold:
        endpoint, transition = _untold.popitem()
        assert endpoint.tenant_id is not None
        try:
            with tenant_context(endpoint.tenant_id):
                await in_db_thread(_store, endpoint.tenant_id, endpoint, transition)
        except DatabaseError:
            logger.exception("The health of a model endpoint was not stored")


def _store(tenant_id: UUID, endpoint: Endpoint, transition: Transition) -> None:
    EndpointHealth.objects.bulk_create(
        [
            EndpointHealth(
                id=uuid7(),
                tenant_id=tenant_id,
                provider=endpoint.provider,
                model=endpoint.model[:200],
                key=endpoint.key,
                state=transition.state,
                failures=transition.failures,
                opened_at=datetime.fromtimestamp(transition.opened_at, UTC),
                until=datetime.fromtimestamp(transition.until, UTC),
                last_error_code=transition.code[:64],
                updated_at=timezone.now(),
            )
        ],
        update_conflicts=True,
        unique_fields=["tenant", "provider", "model", "key"],
        update_fields=["state", "failures", "opened_at", "until", "last_error_code", "updated_at"],
    )
