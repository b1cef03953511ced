"""The exact cache: the same request of the same agent version is answered from its own earlier answer, if it wishes.

Rows are the store; what was found or stored in the last minute is kept in this process as well, which makes a hit cost
less than a tenth of a call.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import orjson
from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from core.aio import in_db_thread
from core.ids import uuid7
from core.tenant import tenant_context
from llm.calls import CallContext, CallOutcome
from llm.door.settling import close, in_background, logger, open_metered
from llm.exceptions import ProviderRejected
from llm.models import AnswerCache
from llm.providers.base import ProviderConnection
from llm.targets import Target
from llm.wire import Accumulator, ChatRequest, Delta, ToolCallDelta

Ask = Callable[[ChatRequest, Target, CallContext], AsyncGenerator[Delta, None]]

FINISHED = frozenset({"stop", "tool_calls", "length"})
PIECES = 8  # of a stored answer
CACHED = "cached: the same request was answered before"
USED_EXACT = timedelta(minutes=1)  # used_at is not written more often
RECENT_SECONDS = 60.0  # an answer under its key never changes; one that was removed is not used for longer
RECENT_ANSWERS = 256
RECENT_SIZE = 64 * 1024  # bytes of an answer that is kept in memory

_recent: OrderedDict[tuple[UUID, bytes], tuple[float, list[Delta]]] = OrderedDict()
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Delta]).decode


def request_key(request: ChatRequest, target: Target, scope: str = "") -> bytes:
    """SHA-256 of all that an answer depends on, whatever the order of keys."""
    where = {model.name: _where(model.connection) for model in target.models()}
    try:
        asked = [scope, target.name, where, request.model, request.messages, request.params]
        return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).digest()
    except TypeError:
        raise ProviderRejected("The request holds a value that JSON cannot express.") from None


def _where(connection: ProviderConnection) -> list[Any]:
    """What a provider's name stands for now; it may be led elsewhere."""
    return [connection.kind, connection.base_url, connection.settings]


async def cached(request: ChatRequest, target: Target, context: CallContext, ask: Ask) -> AsyncGenerator[Delta, None]:
    """The stored answer, as a stream; else what `ask` gives, stored once it is finished."""
    assert context.cache is not None
    key = request_key(request, target, context.cache.scope)
    found = await _find(context.tenant_id, key)
    source = ask(request, target, context) if found is None else _replayed(found, request, target, context)
    told: list[Delta] = []
    async with aclosing(source) as deltas:
        async for delta in deltas:
            if found is None:
                told.append(delta)
            yield delta
    if any(delta.finish_reason in FINISHED for delta in told):
        _keep(context.tenant_id, key, merged(told), context.cache.ttl_seconds)


async def _replayed(
    answer: list[Delta], request: ChatRequest, target: Target, context: CallContext
) -> AsyncGenerator[Delta, None]:
    began = time.monotonic()
    metered = await open_metered(context.meter, target.plan(request, context).legs[0].target, request)
    first_token_ms = round((time.monotonic() - began) * 1000)
    try:
        for delta in answer:
            yield delta
    finally:
        outcome = CallOutcome(
            next((delta.usage for delta in reversed(answer) if delta.usage), None),
            finish_reason=next((delta.finish_reason for delta in reversed(answer) if delta.finish_reason), ""),
            first_token_ms=first_token_ms,
            total_ms=round((time.monotonic() - began) * 1000),
            reason=CACHED,
            cached=True,
        )
        close(metered, outcome)


def merged(deltas: list[Delta]) -> list[Delta]:
    """The same answer in at most PIECES deltas."""
    size = -(-len(deltas) // PIECES)
    return [_one(deltas[start : start + size]) for start in range(0, len(deltas), size)]


def _one(deltas: list[Delta]) -> Delta:
    """Fragments of a tool call keep its index, and come first with its id and name, as in any stream."""
    whole = Accumulator()
    calls: OrderedDict[int, ToolCallDelta] = OrderedDict()
    for delta in deltas:
        whole.add(delta)
        for part in delta.tool_calls or ():
            call = calls.setdefault(part.index, ToolCallDelta(part.index))
            call.id, call.name = call.id or part.id, call.name or part.name
            call.arguments += part.arguments
            call.extra_content = part.extra_content or call.extra_content
    finish_reason = next((delta.finish_reason for delta in deltas if delta.finish_reason), None)
    tool_calls = list(calls.values()) or None
    return msgspec.structs.replace(whole.completion().delta(), tool_calls=tool_calls, finish_reason=finish_reason)


async def _find(tenant_id: UUID, key: bytes) -> list[Delta] | None:
    recent = _recent.get((tenant_id, key))
    if recent is not None and recent[0] > time.monotonic():
        return recent[1]
    try:
        with tenant_context(tenant_id):
            row = await in_db_thread(_read, tenant_id, key)
    except DatabaseError:
        logger.exception("A cached answer was not read")
        return None
    if row is None:
        return None
    answer = _decode(row.answer)
    _remember(tenant_id, key, answer, row.size, (row.expires_at - timezone.now()).total_seconds())
    return answer


def _read(tenant_id: UUID, key: bytes) -> AnswerCache | None:
    now = timezone.now()
    rows = AnswerCache.objects.filter(tenant_id=tenant_id, key=key)
    row = rows.filter(expires_at__gt=now).first()
    if row is not None and now - row.used_at > USED_EXACT:
        rows.update(used_at=now)
    return row


def _keep(tenant_id: UUID, key: bytes, answer: list[Delta], ttl_seconds: int) -> None:
    """Stored in the background: nobody waits for it."""
    body = _encode(answer)
    if len(body) <= settings.LLM_CACHE_MB * 1_000_000:
        _remember(tenant_id, key, answer, len(body), ttl_seconds)
        in_background(_stored(tenant_id, key, body, ttl_seconds))


async def _stored(tenant_id: UUID, key: bytes, body: bytes, ttl_seconds: int) -> None:
    with tenant_context(tenant_id):
        await in_db_thread(_write, tenant_id, key, body, ttl_seconds)


def _write(tenant_id: UUID, key: bytes, body: bytes, ttl_seconds: int) -> None:
    now = timezone.now()
    row = AnswerCache(
        id=uuid7(),
        tenant_id=tenant_id,
        key=key,
        answer=body,
        size=len(body),
        expires_at=now + timedelta(seconds=ttl_seconds),
        used_at=now,
    )
    changed = ["answer", "size", "expires_at", "used_at"]
    AnswerCache.objects.bulk_create(
        [row], update_conflicts=True, unique_fields=["tenant", "key"], update_fields=changed
    )


def _remember(tenant_id: UUID, key: bytes, answer: list[Delta], size: int, ttl_seconds: float) -> None:
    if size <= RECENT_SIZE:
        _recent[tenant_id, key] = (time.monotonic() + min(ttl_seconds, RECENT_SECONDS), answer)
        _recent.move_to_end((tenant_id, key))
    while len(_recent) > RECENT_ANSWERS:
        _recent.popitem(last=False)


def forget_recent() -> None:
    _recent.clear()
