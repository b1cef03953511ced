"""What the model calls of a run cost: held before each, and kept for the record after it.

A run's first call is paid for in the transaction that begins the run, its last one in that which ends it; the calls
between take one short transaction each, which stores the one before and holds for the next.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, transaction

from core.aio import in_db_thread
from core.tenant import tenant_context
from llm.calls import CallOutcome
from llm.capabilities import capabilities_of
from llm.door.settling import in_background
from llm.exceptions import BadAnswer, ProviderError, ProviderTimeout, StreamTruncated
from llm.pricing import quote_of
from llm.targets import ModelTarget
from llm.tokens import MOST, Said, asked_at_most, asked_likely, counted
from llm.wire import ChatRequest, Delta
from usage.budgets import Amount, Payer, shares
from usage.exceptions import BudgetExceeded
from usage.prices import Quote, Tokens
from usage.records import CallRecord, call_id
from usage.services.spending import Room, add_periods, reserve, settle

logger = logging.getLogger(__name__)
LEAST_ANSWER = 16  # tokens; for fewer no call is worth being made
KEEP_WAITS = (0, 0.2, 1, 5)  # seconds before each try to store what was used
SILENT_ANSWER = 16_384  # tokens that a model may think and say where the caller names no limit
THOUGHT = 100  # tokens a second, of a model that thinks in silence
# After these a provider may have worked, and asks for it.
_WORKED = (ProviderTimeout, StreamTruncated, BadAnswer)


@dataclass(frozen=True, slots=True)
class Held:
    """What is held for a call: an answer of `tokens` to a request of `asked` tokens, both counted at most.

    `quotes` are by the names of the models that it may go to; the dearest of known price counts. `at` is the time whose
    periods pay. `most` is the longest answer that the budgets could pay for when it was held. `silent`: the model may
    think, and be paid for it, without saying anything. `limit` is the request's own, in tokens.
    """

    asked: int
    tokens: int
    quotes: Mapping[str, Quote]
    at: datetime
    silent: bool = False
    most: int | None = None
    limit: int | None = None

    @property
    def covers_answer(self) -> bool:
        """No answer can be longer than what is held for it."""
        return self.limit is not None and self.limit <= self.tokens

    @property
    def amount(self) -> Amount:
        return self.amount_of(self.asked, self.tokens)

    def amount_of(self, asked: int, answered: int) -> Amount:
        tokens = Tokens(input=asked, output=answered)
        charges = [quote.charge(quote.cost(tokens)) for quote in self.quotes.values()]
        return Amount(max((charge for charge in charges if charge is not None), default=None), tokens.total)

    def answer_for(self, unit: str, left: Decimal) -> int:
        """Tokens of an answer that so much pays for."""
        of_million = self.amount_of(0, 1_000_000).of(unit)
        return int(left * 1_000_000 / of_million) if of_million else MOST

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

    `targets` are the models that it may go to, and `before` is what is held for it already. Where there is less left
    than is wished, but enough for a short answer, that is held. Raises BudgetExceeded or PriceUnknown.
    """
    if not shares(payer, hard=True):
        return None
    now = before.at if before else datetime.now(UTC)
    quotes = {target.name: quote_of(payer.tenant_id, target, now) for target in targets}
    silent = any(capabilities_of(target.connection, target.model).reasoning for target in targets)
    limit = params.get("max_completion_tokens") or params.get("max_tokens")
    answer = _first_answer(limit, silent=silent)
    held = Held(asked_at_most(messages, params), answer, quotes, now, silent, limit=limit)
    tokens, rooms = _reserve(payer, call, held, held.asked, answer, before)
    held = replace(held, tokens=tokens)
    return replace(held, most=held.tokens + _left(held, rooms)) if rooms else held


def _reserve(
    payer: Payer, call: UUID, held: Held, asked: int, tokens: int, before: Held | None = None
) -> tuple[int, Sequence[Room] | None]:
    """For a request of `asked` and an answer of `tokens`, beyond `before`; for a shorter answer where less is left.

    The tokens of that answer, and what is left beside. Raises BudgetExceeded or PriceUnknown.
    """
    tries = 3
    while True:
        tries -= 1
        amount = held.amount_of(asked, tokens)
        wanted = amount.beyond(before.amount) if before else amount
        try:
            model = ", ".join(held.quotes)
            return tokens, reserve(payer=payer, call_id=call, amount=wanted, model=model, at=held.at)
        except BudgetExceeded as error:
            fewer = held.answer_for(error.unit, error.left - held.amount_of(asked, 0).of(error.unit))
            if not tries or not LEAST_ANSWER <= fewer < tokens:
                raise
            tokens = fewer


def _left(held: Held, rooms: Sequence[Room]) -> int:
    return min((held.answer_for(room.unit, room.left) for room in rooms), default=MOST)


def _first_answer(limit: int | None, *, silent: bool) -> int:
    """Tokens of an answer that are held at first; more are when it goes on.

    Of a model that may think in silence all that it may use, since nothing shows how much that is.
    """
    if silent:
        return int(limit or SILENT_ANSWER)
    return min(int(limit or settings.BUDGET_ANSWER_TOKENS), settings.BUDGET_ANSWER_TOKENS)


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
    """The meter of one attempt of a run. `first` is what was held for its first call when the run began.

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
    _storing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def at_once(self, target: ModelTarget, request: ChatRequest) -> "RunCall | None":
        """What was held when the run began may be enough; or no budget applied."""
        held = None
        if self.first is not None and self.first.covers(target, asked_at_most(request.messages, request.params)):
            held = self.first.of(target)
        elif self._number or self.capped or self.closed:
            return None
        self.first = None
        return self._call(target, request, held)

    async def open(self, target: ModelTarget, request: ChatRequest) -> "RunCall":
        first, self.first = self.first, None
        call = self._call(target, request, None)
        async with self._storing:
            call.held = await in_db_thread(self._next, call, request, first)
        return call

    def _call(self, target: ModelTarget, request: ChatRequest, held: Held | None) -> "RunCall":
        self._number += 1
        return RunCall(self, self._number, target, request, held)

    def _next(self, call: "RunCall", request: ChatRequest, before: Held | None) -> Held | None:
        """Pay for the calls that have ended, then hold for this one."""
        closed = self.closed[:]
        with transaction.atomic():
            add_periods(self.payer, before.at if before else datetime.now(UTC))
            settle(tenant_id=self.payer.tenant_id, calls=self.records(closed), held=self.capped)
            held = hold(self.payer, call.id, [call.target], request.messages, request.params, before)
            self.capped = self.capped or held is not None  # even when the commit's answer is lost
        self.settled(closed)
        return held

    def settled(self, closed: Sequence[Closed]) -> None:
        """They are stored."""
        self.closed = [one for one in self.closed if one not in closed]

    def records(self, closed: Sequence[Closed]) -> list[CallRecord]:
        return [one.record(self.payer, self.fence) for one in closed]

    async def keep(self) -> None:
        """Store what ended calls used, where no end of the run does it: another process has it, or it was deleted."""
        for wait in KEEP_WAITS:
            if self.closed:
                await asyncio.sleep(wait)
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
        self.settled(closed)


class RunCall:
    """`llm.calls.MeteredCall` of a run."""

    def __init__(
        self, meter: RunMeter, number: int, target: ModelTarget, request: ChatRequest, held: Held | None
    ) -> None:
        assert meter.payer.run_id is not None
        self.id = call_id(meter.payer.run_id, meter.fence, number)
        self.target = target
        self.held = held
        self._meter = meter
        self._number = number
        self._request = request
        self._began = datetime.now(UTC)
        self._said = Said()
        self._room: int | None = None  # tokens of the answer that are held

    @property
    def most_tokens(self) -> int | None:
        """The longest answer that the budgets can pay for; None where none applies."""
        return self.held.most if self.held else None

    def said(self, delta: Delta) -> bool:
        self._said.add(delta)
        if self.held is None:
            return False
        if self._room is None:
            self._room = self.held.tokens
        return self._said.at_most > self._room

    async def extend(self) -> None:
        """Twice as much each time, so that a long answer asks rarely; or what is left."""
        assert self.held is not None
        self._room = (self._room or 0) + await in_db_thread(self._hold_more, max(self._said.at_most, self.held.tokens))

    def _hold_more(self, tokens: int) -> int:
        assert self.held is not None
        with transaction.atomic():
            return _reserve(self._meter.payer, self.id, self.held, 0, tokens)[0]

    def close(self, outcome: CallOutcome) -> None:
        tokens, certain = self._tokens(outcome)
        began = self.held.at if self.held else self._began
        closed = Closed(self.id, self._number, self.target, began, tokens, certain, outcome)
        closed.quote = self.held.quotes[self.target.name] if self.held else None
        self._meter.closed.append(closed)
        self._meter.tokens = self._meter.tokens.plus(tokens)
        if self._meter.ended:
            in_background(self._meter.late())

    def _tokens(self, outcome: CallOutcome) -> tuple[Tokens, bool]:
        """As the provider counted, else as we guess; nothing for what a provider refused to do, or never got."""
        if outcome.usage is not None and (outcome.finish_reason or outcome.usage.completion_tokens):
            return counted(outcome.usage), True
        error = outcome.error
        refused = isinstance(error, ProviderError) and not isinstance(error, _WORKED) and not self._said.anything
        if refused or not outcome.sent:
            return Tokens(), True
        asked = counted(outcome.usage).input if outcome.usage else asked_likely(self._request.messages)
        return Tokens(asked, max(self._said.likely, self._thought(outcome))), False

    def _thought(self, outcome: CallOutcome) -> int:
        """What a model may have thought in silence until it was stopped."""
        if self.held is None or not self.held.silent or outcome.first_token_ms is not None:
            return 0
        return min(outcome.total_ms * THOUGHT // 1000, self.held.tokens)
