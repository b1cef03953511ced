"""What the model calls of a run cost: held before each, and kept for the record after it.

A run's first call is paid for in the transaction that begins the run, its last one in that which ends it; the calls
between take one short transaction each, which stores the one before and holds for the next.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, transaction

from core.aio import in_db_thread
from core.tenant import tenant_context
from llm.calls import CallOutcome
from llm.exceptions import BadAnswer, ProviderError, ProviderTimeout, StreamTruncated
from llm.pricing import quote_of
from llm.settling import in_background
from llm.targets import ModelTarget
from llm.tokens import Said, asked_at_most, asked_likely, counted
from llm.wire import ChatRequest, Delta
from usage.budgets import Amount, Payer
from usage.prices import Quote, Tokens
from usage.records import MOST_TOKENS, CallRecord, call_id
from usage.services.spending import reserve, settle

logger = logging.getLogger(__name__)
# After these a provider may have worked, and asks for it.
_WORKED = (ProviderTimeout, StreamTruncated, BadAnswer)


@dataclass(frozen=True, slots=True)
class Held:
    """What is held for a call: an answer of `tokens` to a request of `asked` tokens, both counted at most.

    `quotes` are by the names of the models that it may go to; the dearest of known price counts. `limit` is the
    request's own, in tokens.
    """

    asked: int
    tokens: int
    quotes: Mapping[str, Quote]
    limit: int | None = None

    @property
    def amount(self) -> Amount:
        tokens = Tokens(input=self.asked, output=self.tokens)
        charges = [quote.charge(quote.cost(tokens)) for quote in self.quotes.values()]
        return Amount(max((charge for charge in charges if charge is not None), default=None), tokens.total)

    @property
    def covers_answer(self) -> bool:
        """No answer can be longer than what is held for it."""
        return self.limit is not None and self.limit <= self.tokens

    def covers(self, target: ModelTarget, asked: int) -> bool:
        quote = self.quotes.get(target.name)
        if quote is None or asked > self.asked:
            return False
        return quote.price is not None or self.amount.usd is None

    def of(self, target: ModelTarget) -> "Held":
        """The same, once it is known where the call goes."""
        return replace(self, quotes={target.name: self.quotes[target.name]})


def hold(
    payer: Payer,
    call: UUID,
    targets: Sequence[ModelTarget],
    messages: list[dict[str, Any]],
    params: dict[str, Any],
    before: Held | None = None,
) -> Held | None:
    """Hold for one call, in the caller's transaction; None where no hard budget applies.

    `targets` are the models that it may go to, and `before` is what is held for it already. Of an answer that the
    request does not limit, BUDGET_ANSWER_TOKENS are held at first; more are when it goes on. Raises BudgetExceeded or
    PriceUnknown.
    """
    now = datetime.now(UTC)
    quotes = {target.name: quote_of(payer.tenant_id, target, now) for target in targets}
    limit = params.get("max_completion_tokens") or params.get("max_tokens")
    tokens = min(int(limit or settings.BUDGET_ANSWER_TOKENS), settings.BUDGET_ANSWER_TOKENS)
    held = Held(asked_at_most(messages, params), tokens, quotes, limit and int(limit))
    amount = held.amount.beyond(before.amount) if before else held.amount
    capped = reserve(payer=payer, call_id=call, amount=amount, model=", ".join(quotes), at=now)
    return held if capped else None


@dataclass(slots=True)
class Closed:
    """A call that has ended; its record is made where the database may be asked for prices."""

    id: UUID
    number: int
    target: ModelTarget
    began: datetime
    tokens: Tokens
    certain: bool
    outcome: CallOutcome
    held_as: tuple[UUID, ...]  # the calls in whose names was held for it
    quote: Quote | None = None

    def record(self, payer: Payer, fence: int) -> CallRecord:
        outcome, connection = self.outcome, self.target.connection
        error = outcome.error.code if outcome.error else "" if outcome.finish_reason else "cancelled"
        return CallRecord(
            id=self.id,
            payer=payer,
            began=self.began,
            provider=connection.slug,
            model=self.target.model,
            quote=self.quote or quote_of(payer.tenant_id, self.target, self.began),
            tokens=self.tokens,
            tokens_certain=self.certain,
            fence=fence,
            number=self.number,
            held_as=self.held_as,
            cached=outcome.cached,
            total_ms=outcome.total_ms,
            first_token_ms=outcome.first_token_ms,
            told={
                "key_id": connection.key_id,
                "route": outcome.route,
                "variant": outcome.variant,
                "reason": outcome.reason[:200],
                "leg": outcome.leg,
                "attempt": outcome.attempt,
                "finish_reason": outcome.finish_reason[:32],
                "error_code": error[:64],
            },
        )


@dataclass(slots=True)
class RunMeter:
    """The meter of one attempt of a run. `first` is what was held for its first call when the run began; a call that
    used nothing, such as one that its provider refused, leaves what is held to the next.

    A call may outlive the run, when others listen to it as well: after `ended` it is stored by itself.
    """

    payer: Payer
    fence: int
    first: Held | None = None
    capped: bool = False
    closed: list[Closed] = field(default_factory=list)  # and not stored
    tokens: Tokens = field(default_factory=Tokens)  # of all calls that have ended
    recount: Callable[[], None] | None = None  # of the run, once it has ended: a call that others shared went on
    ended: bool = False
    _number: int = 0
    _held_as: tuple[UUID, ...] = ()  # the calls before, in whose names `first` is held
    _free: bool = True  # what the budgets said when the run began holds still: no call has used anything
    _storing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def leave(self, call: "RunCall", closed: Closed) -> None:
        """The call used nothing: what was held for it is held for the next."""
        self._free = not self.capped
        if self.first is None and call.left is not None:
            self.first, self._held_as = call.left, closed.held_as
            closed.held_as = ()

    async def open(self, target: ModelTarget, request: ChatRequest) -> "RunCall":
        self._number += 1
        call = RunCall(self, self._number, target, request)
        first, self.first = self.first, None
        call.held_as, self._held_as = (*self._held_as, call.id), ()
        free, self._free = self._free, False
        if free and not self.capped:
            return call
        if first is not None and first.covers(target, asked_at_most(request.messages, request.params)):
            call.held, call.left = first.of(target), first
            return call
        async with self._storing:
            call.held = await in_db_thread(self._next, call, request, first)
        return call

    def _next(self, call: "RunCall", request: ChatRequest, before: Held | None) -> Held | None:
        """Pay for the calls that have ended, then hold for this one."""
        closed = self.closed[:]
        with transaction.atomic():
            settle(tenant_id=self.payer.tenant_id, calls=self.records(closed), held=self.capped)
            held = hold(self.payer, call.id, [call.target], request.messages, request.params, before)
        self.closed = [one for one in self.closed if one not in closed]
        self.capped = self.capped or held is not None
        return held

    def totals(self) -> tuple[int, int]:
        """Tokens taken in and answered by the calls that have ended, within what the columns take."""
        return min(self.tokens.input, MOST_TOKENS), min(self.tokens.output, MOST_TOKENS)

    def records(self, closed: Sequence[Closed]) -> list[CallRecord]:
        return [one.record(self.payer, self.fence) for one in closed]

    async def keep(self) -> None:
        """Store what ended calls used, where no end of the run does it: another process has it, or it was deleted."""
        if self.closed:
            async with self._storing:
                await in_db_thread(self._store)

    async def late(self) -> None:
        """A call has ended after the run."""
        with tenant_context(self.payer.tenant_id):
            await self.keep()
            if self.recount is not None:
                await in_db_thread(self.recount)

    def _store(self) -> None:
        closed = self.closed[:]
        try:
            with transaction.atomic():
                settle(tenant_id=self.payer.tenant_id, calls=self.records(closed), held=self.capped)
        except DatabaseError:
            logger.exception("What a run used could not be stored", extra={"run_id": str(self.payer.run_id)})
            return
        self.closed = [one for one in self.closed if one not in closed]


class RunCall:
    """`llm.calls.MeteredCall` of a run."""

    def __init__(self, meter: RunMeter, number: int, target: ModelTarget, request: ChatRequest) -> None:
        assert meter.payer.run_id is not None
        self.id = call_id(meter.payer.run_id, meter.fence, number)
        self.target = target
        self.held: Held | None = None
        self.held_as: tuple[UUID, ...] = (self.id,)
        self.left: Held | None = None  # to the next call, if this one uses nothing
        self._meter = meter
        self._number = number
        self._request = request
        self._began = datetime.now(UTC)
        self._said = Said()
        self._room: int | None = None  # tokens of the answer that are held

    def said(self, delta: Delta) -> bool:
        self._said.add(delta)
        if self.held is None:
            return False
        if self._room is None:
            self._room = self.held.tokens
        return self._said.at_most > self._room

    async def extend(self) -> None:
        """Twice as much each time, so that a long answer asks rarely."""
        assert self.held is not None
        more = max(self._said.at_most, self.held.tokens)
        await in_db_thread(self._hold_more, more)
        self._room = (self._room or 0) + more

    @transaction.atomic
    def _hold_more(self, tokens: int) -> None:
        assert self.held is not None
        more = replace(self.held, tokens=tokens).amount.beyond(replace(self.held, tokens=0).amount)
        reserve(payer=self._meter.payer, call_id=self.id, amount=more, model=self.target.name)

    async def close(self, outcome: CallOutcome) -> None:
        tokens, certain = self._tokens(outcome)
        closed = Closed(self.id, self._number, self.target, self._began, tokens, certain, outcome, self.held_as)
        closed.quote = self.held.quotes[self.target.name] if self.held else None
        self._meter.closed.append(closed)
        so_far = self._meter.tokens
        self._meter.tokens = Tokens(so_far.input + tokens.input, so_far.output + tokens.output)
        if certain and not tokens.total:
            self._meter.leave(self, closed)
        if self._meter.ended:
            in_background(self._meter.late())

    def _tokens(self, outcome: CallOutcome) -> tuple[Tokens, bool]:
        """As the provider counted, else as we guess; nothing for what a provider refused to do."""
        if outcome.usage is not None:
            return counted(outcome.usage), True
        error = outcome.error
        if isinstance(error, ProviderError) and not isinstance(error, _WORKED) and not self._said.anything:
            return Tokens(), True
        return Tokens(asked_likely(self._request), self._said.likely), False
