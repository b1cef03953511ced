"""The way of one call through the targets of its plan: which is tried next, after which wait, and why."""

import asyncio
from collections import Counter
from dataclasses import dataclass

import msgspec
from django.conf import settings

from core.errors import ApplicationError, RateLimited, Unavailable
from llm.calls import CallContext
from llm.door.breaker import Refusal
from llm.door.circuits import breakers, guarded, learn
from llm.door.clock import Clock
from llm.door.continuing import Partial
from llm.door.flow import Permit, current_flow
from llm.door.retry import in_short, of_the_key, others_may, retry_wait, retryable
from llm.targets import Leg, ModelTarget, Plan
from llm.wire import ChatRequest

MAX_REASON = 200  # characters


@dataclass(frozen=True, slots=True)
class Step:
    """One attempt that may begin. `guarded`: a breaker hears how it ends; `probe`: it decides about the endpoint."""

    target: ModelTarget
    request: ChatRequest
    permit: Permit
    guarded: bool
    probe: bool
    route: str
    variant: str
    reason: str
    leg: int
    attempt: int


class Way:
    def __init__(self, request: ChatRequest, plan: Plan, context: CallContext, clock: Clock, told: Partial) -> None:
        self._request = request
        self._plan = plan
        self._context = context
        self._clock = clock
        self._told = told
        self._left = list(plan.legs)
        self._current: Leg | None = None
        self._tries: Counter[str] = Counter()  # of each model, over all its keys
        self._attempt = 0
        self._place = 0
        self._wait = 0.0
        self._cause = ""  # why not the same target again
        self._error: ApplicationError | None = None  # of the last attempt
        clock.begin(len(self._left))
        soon = asyncio.get_running_loop().time() + settings.LLM_FIRST_TOKEN_TIMEOUT
        self._patience = min(soon, clock.first_token)  # until when the call waits for room

    async def next(self) -> Step:
        """Waits for the backoff, and for room where nothing has failed yet.

        Raises ApplicationError when there is nothing to try.
        """
        for leg in self._left:
            if guarded(leg.target):
                await learn(leg.target.endpoint.tenant_id)
        if self._wait:
            await asyncio.sleep(self._wait)
        while True:
            leg, permit = await self._admitted(await self._usable())
            watched = guarded(leg.target)
            if not watched or breakers.refusal(leg.target.endpoint) is None:
                return self._step(leg, permit, watched)
            permit.give_back(None)  # it opened while the call waited for room

    def failed(self, error: ApplicationError) -> None:
        """After an attempt that came to nothing. Raises the error when nothing more is to be tried."""
        assert self._current is not None
        leg, self._wait, self._error = self._current, 0.0, error
        self._cause = f"{leg.target.name} {in_short(error)}"
        same = [other for other in self._left if other.target.name == leg.target.name]
        if of_the_key(error) and len(same) > 1 and not self._told.began:
            self._give_up([leg], error)
            return
        self._tries[leg.target.name] += 1
        wait = retry_wait(error, self._tries[leg.target.name], self._clock.first_token)
        opened = _refusal(leg) is not None
        lost = [leg] if of_the_key(error) or wait is not None else same
        if self._told.began:
            used_up = self._tries[leg.target.name] >= settings.LLM_ATTEMPTS
            self._go_on(same if used_up else [leg], error)
        elif wait is not None and not (opened and len(self._left) > 1):
            self._wait = wait
        elif not others_may(error):
            raise error
        else:
            self._give_up(lost, error)

    def _go_on(self, lost: list[Leg], error: ApplicationError) -> None:
        """With the rest of an answer that has begun, where the route wants it."""
        if not (self._plan.continues and retryable(error) and self._told.can_go_on(self._request)):
            raise error
        self._give_up(lost, error)
        self._place += 1

    def _give_up(self, lost: list[Leg], error: ApplicationError) -> None:
        self._left = [leg for leg in self._left if not any(leg is other for other in lost)]
        if not self._left or asyncio.get_running_loop().time() >= self._clock.total:
            raise error
        self._clock.begin(len(self._left))

    async def _usable(self) -> list[Leg]:
        """The targets that may be asked, of those that are left; waits where a provider said for how long."""
        while True:
            refusals = [(leg, _refusal(leg)) for leg in self._left]
            usable = [leg for leg, refusal in refusals if refusal is None]
            if usable:
                if usable[0] is not self._left[0]:
                    self._cause = self._cause or f"the circuit of {self._left[0].target.name} is open"
                return usable
            await self._hold([(leg.target.name, refusal) for leg, refusal in refusals if refusal])

    async def _hold(self, refusals: list[tuple[str, Refusal]]) -> None:
        name, soonest = min(refusals, key=lambda refusal: refusal[1].retry_after)
        late = asyncio.get_running_loop().time() + soonest.retry_after >= self._clock.first_token
        if not soonest.paced or late or soonest.retry_after > settings.LLM_MAX_RETRY_WAIT:
            raise self._error or circuit_open(name, soonest)
        await asyncio.sleep(soonest.retry_after)

    async def _admitted(self, usable: list[Leg]) -> tuple[Leg, Permit]:
        """The first in order that has room now; where none has and none has failed, whichever has room first."""
        flow, priority, deadline = current_flow(), self._context.priority, self._patience
        known = len(usable) > 1 or self._error
        roomy = [leg for leg in usable if flow.has_room(leg.target, self._request)] if known else usable
        if self._error and not roomy:
            raise self._error
        try:
            if roomy:
                leg, permit = roomy[0], await flow.admit(roomy[0].target, self._request, priority, deadline)
            else:
                targets = [leg.target for leg in usable]
                target, permit = await flow.admit_first(targets, self._request, priority, deadline)
                leg = next(leg for leg in usable if leg.target is target)
        except RateLimited as full:
            raise self._error or full from None
        if leg is not usable[0]:
            self._cause = self._cause or f"{usable[0].target.name} has no room"
        if permit.waited:  # its own time begins now
            self._clock.begin(len(self._left))
        return leg, permit

    def _step(self, leg: Leg, permit: Permit, watched: bool) -> Step:
        reason = self._reason(leg)
        self._current, self._cause = leg, ""
        self._attempt += 1
        target = leg.target
        request = self._request
        if request.model != target.model and (self._plan.route or len(self._plan.legs) > 1):
            request = msgspec.structs.replace(request, model=target.model)
        if self._place:
            request = self._told.continued(request, target.connection.kind)
        probe = watched and breakers.enter(target.endpoint)
        route = self._plan.route
        return Step(target, request, permit, watched, probe, route, leg.variant, reason, self._place, self._attempt)

    def _reason(self, leg: Leg) -> str:
        if not self._cause:
            return leg.reason[:MAX_REASON]
        what = "retry" if leg is self._current else "continued" if self._told.began else "fallback"
        return f"{what}: {self._cause}"[:MAX_REASON]


def circuit_open(name: str, refusal: Refusal) -> Unavailable:
    why = "as its provider asks" if refusal.paced else "LLM_BREAKER_SECONDS"
    message = (
        f"The model '{name}' fails and is left alone for {max(refusal.retry_after, 1):.0f} s ({why}); "
        f"its last error was {refusal.code}."
    )
    return Unavailable(message, code="provider_circuit_open", retry_after=refusal.retry_after)


def _refusal(leg: Leg) -> Refusal | None:
    return breakers.refusal(leg.target.endpoint) if guarded(leg.target) else None
