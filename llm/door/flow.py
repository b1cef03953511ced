"""Flow control: how much is asked of a key and of a host at once and in a minute, and who goes first when it is full.

The limits are of one server process.
"""

import asyncio
import math
import time
from bisect import insort
from collections import Counter, OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit
from uuid import UUID
from weakref import WeakKeyDictionary

from django.conf import settings

from core.errors import RateLimited
from llm.calls import Priority
from llm.providers import provider_kind
from llm.providers.base import Limits
from llm.targets import Endpoint, ModelTarget
from llm.tokens import asked_likely
from llm.wire import ChatRequest, Usage

MAX_LANES = 4096
MINUTE = 60.0
SHARE = 0.75  # of the calls at once to a host that one tenant may have: there is room for others at once
UNLIMITED = Limits()
QUEUE_CODES = ("provider_queue_full", "provider_queue_timeout")
LimitName = Literal["requests_per_minute", "tokens_per_minute", "concurrent_calls", "LLM_CALLS_PER_HOST"]


class Bucket:
    """A token bucket: full at first, filled again evenly within a minute. It may be overdrawn."""

    __slots__ = ("_at", "_level", "_size")

    def __init__(self, size: int, now: float) -> None:
        self._size = self._level = float(size)
        self._at = now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` is there, or all that it can hold; 0 when it is."""
        self._fill(now)
        return max(0.0, (min(amount, self._size) - self._level) * MINUTE / self._size)

    def take(self, amount: float, now: float) -> None:
        self._fill(now)
        self._level = min(self._size, self._level - amount)

    def share(self, now: float) -> float:
        """Of what it can hold, what is there."""
        self._fill(now)
        return max(0.0, self._level / self._size)

    def _fill(self, now: float) -> None:
        self._level = min(self._size, self._level + (now - self._at) * self._size / MINUTE)
        self._at = now


@dataclass(slots=True, order=True)
class _Waiter:
    """Sorted by when it came; a background call as if it had come ten seconds later, so that none is left for good."""

    turn: float
    number: int
    tenant: UUID | None = field(compare=False)
    tokens: int = field(compare=False)
    entered: asyncio.Future[None] = field(compare=False)


class Lane:
    """The room of one key, or of one host, and who waits for it.

    A host's is shared by all tenants: of those that wait, the one goes first that has fewest calls under way, and none
    has more than its SHARE.
    """

    def __init__(self, name: str, limits: Limits, setting: LimitName = "concurrent_calls") -> None:
        self._name = name
        self._setting = setting  # that bounds the calls at once
        self._calls: Counter[UUID | None] = Counter()  # under way, of each tenant
        self._waiting: dict[UUID | None, list[_Waiter]] = {}
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._requests: Bucket | None = None
        self._tokens: Bucket | None = None
        self.limits = UNLIMITED
        self.set(limits)

    @property
    def idle(self) -> bool:
        return not self._calls and not self._waiting

    def set(self, limits: Limits) -> None:
        """Calls under way count on when the limits change."""
        if limits != self.limits:
            now = time.monotonic()
            self.limits = limits
            self._requests = Bucket(limits.rpm, now) if limits.rpm else None
            self._tokens = Bucket(limits.tpm, now) if limits.tpm else None
            self._serve()

    def has_room(self, tokens: int, tenant: UUID | None = None) -> bool:
        return self._next() is None and not self._lack(tokens, tenant)[0]

    def room_left(self) -> float:
        """The share from 0 to 1 of its scarcest limit."""
        now, most = time.monotonic(), self.limits.concurrent
        shares = [bucket.share(now) for bucket in (self._requests, self._tokens) if bucket is not None]
        shares += [max(0.0, 1 - self._calls.total() / most)] if most else []
        return min(shares, default=1.0)

    async def enter(self, tokens: int, priority: Priority, deadline: float, tenant: UUID | None = None) -> bool:
        """True when it had to wait. Raises RateLimited when too many of the tenant wait, or `deadline` comes first."""
        if self.has_room(tokens, tenant):
            self._take(tokens, tenant)
            return False
        await self._queued(tokens, priority, deadline, tenant)
        return True

    def leave(self, tokens: int, used: int, tenant: UUID | None = None) -> None:
        """The call is over. `tokens` were guessed, `used` were needed."""
        self._calls[tenant] -= 1
        if not self._calls[tenant]:
            del self._calls[tenant]
        if self._tokens is not None:
            self._tokens.take(used - tokens, time.monotonic())
        if self._waiting:
            self._serve()

    async def _queued(self, tokens: int, priority: Priority, deadline: float, tenant: UUID | None) -> None:
        if len(self._waiting.get(tenant, ())) >= settings.LLM_QUEUE:
            raise self._full(tokens, tenant)
        self._number += 1
        entered = asyncio.get_running_loop().create_future()
        waiter = _Waiter(time.monotonic() + priority, self._number, tenant, tokens, entered)
        insort(self._waiting.setdefault(tenant, []), waiter)
        self._serve()
        try:
            async with asyncio.timeout_at(deadline):
                await waiter.entered
        except BaseException as error:
            self._forget(waiter)
            if isinstance(error, TimeoutError):
                raise self._late(tokens, tenant) from None
            raise

    def _forget(self, waiter: _Waiter) -> None:
        """It waits no more; what it was given meanwhile goes to the next."""
        if waiter.entered.done() and not waiter.entered.cancelled():
            self.leave(waiter.tokens, 0, waiter.tenant)
        elif waiter in self._waiting.get(waiter.tenant, ()):  # else it was passed over already
            self._unqueue(waiter)
            self._serve()

    def _unqueue(self, waiter: _Waiter) -> None:
        queue = self._waiting[waiter.tenant]
        queue.remove(waiter)
        if not queue:
            del self._waiting[waiter.tenant]

    def _next(self) -> _Waiter | None:
        """Of the tenants that may have more, who waits first of the one that has least."""
        first = [queue[0] for tenant, queue in self._waiting.items() if not self._has_share(tenant)]
        return min(first, key=lambda waiter: (self._calls[waiter.tenant], waiter), default=None)

    def _has_share(self, tenant: UUID | None) -> bool:
        most = self.limits.concurrent if self._setting == "LLM_CALLS_PER_HOST" else None
        return most is not None and self._calls[tenant] >= math.ceil(most * SHARE)

    def _serve(self) -> None:
        """Let in whoever is next, as long as there is room; then wait for what the minute brings."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while (waiter := self._next()) is not None:
            wait, _ = self._lack(waiter.tokens, waiter.tenant)
            if wait:
                if wait < math.inf:
                    self._timer = asyncio.get_running_loop().call_later(wait, self._serve)
                return
            self._unqueue(waiter)
            if not waiter.entered.done():
                self._take(waiter.tokens, waiter.tenant)
                waiter.entered.set_result(None)

    def _take(self, tokens: int, tenant: UUID | None) -> None:
        now = time.monotonic()
        self._calls[tenant] += 1
        if self._requests is not None:
            self._requests.take(1, now)
        if self._tokens is not None:
            self._tokens.take(tokens, now)

    def _lack(self, tokens: int, tenant: UUID | None) -> tuple[float, LimitName]:
        """Seconds until there may be room and the limit that says so; 0 when there is, infinity until a call ends."""
        most = self.limits.concurrent
        if most is not None and (self._calls.total() >= most or self._has_share(tenant)):
            return math.inf, self._setting
        now = time.monotonic()
        requests = self._requests.wait(1, now) if self._requests else 0.0
        needed = self._tokens.wait(tokens, now) if self._tokens else 0.0
        return (needed, "tokens_per_minute") if needed > requests else (requests, "requests_per_minute")

    def _full(self, tokens: int, tenant: UUID | None) -> RateLimited:
        message = f"{self._told(tokens, tenant)} As many of your calls wait already as LLM_QUEUE allows."
        return RateLimited(message, code=QUEUE_CODES[0], retry_after=self._retry_after(tokens, tenant))

    def _late(self, tokens: int, tenant: UUID | None) -> RateLimited:
        message = f"{self._told(tokens, tenant)} The call waited as long as LLM_FIRST_TOKEN_TIMEOUT allows."
        return RateLimited(message, code=QUEUE_CODES[1], retry_after=self._retry_after(tokens, tenant))

    def _told(self, tokens: int, tenant: UUID | None) -> str:
        _, name = self._lack(tokens, tenant)
        if name == "LLM_CALLS_PER_HOST":  # how many others have under way is not theirs to know
            return f"The server has no room for one more call to {self._name} at once ({name})."
        given = {
            "requests_per_minute": f"{self.limits.rpm} requests a minute",
            "tokens_per_minute": f"{self.limits.tpm} tokens a minute",
            "concurrent_calls": f"{self.limits.concurrent} calls at once",
        }
        return f"The provider '{self._name}' is limited to {given[name]} (its setting limits.{LIMIT_FIELDS[name]})."

    def _retry_after(self, tokens: int, tenant: UUID | None) -> float:
        wait, _ = self._lack(tokens, tenant)
        return min(max(wait, 1.0), MINUTE) if wait < math.inf else 1.0


LIMIT_FIELDS = {"requests_per_minute": "rpm", "tokens_per_minute": "tpm", "concurrent_calls": "concurrent"}


@dataclass(slots=True)
class Permit:
    """What a call holds while it is under way; given back once. `waited`: there was no room at first."""

    lanes: list[Lane]
    tokens: int = 0
    tenant: UUID | None = None
    waited: bool = False

    def give_back(self, usage: Usage | None) -> None:
        lanes, self.lanes = self.lanes, []
        used = usage.prompt_tokens + usage.completion_tokens if usage else self.tokens
        for lane in lanes:
            lane.leave(self.tokens, used, self.tenant)


def _give_back(wait: asyncio.Task[Permit]) -> None:
    if not wait.cancelled() and wait.exception() is None:
        wait.result().give_back(None)


class Flow:
    """The lanes of one event loop."""

    def __init__(self) -> None:
        self._lanes: OrderedDict[Hashable, Lane] = OrderedDict()

    def has_room(self, target: ModelTarget, request: ChatRequest) -> bool:
        tokens = _tokens(target, request)
        return all(lane.has_room(tokens, target.connection.tenant_id) for lane in self._lanes_of(target))

    async def admit(self, target: ModelTarget, request: ChatRequest, priority: Priority, deadline: float) -> Permit:
        """Raises RateLimited, which says which limit it was and what raises it."""
        permit = Permit([], _tokens(target, request), target.connection.tenant_id)
        try:
            for lane in self._lanes_of(target):
                permit.waited |= await lane.enter(permit.tokens, priority, deadline, permit.tenant)
                permit.lanes.append(lane)
        except BaseException:
            for lane in permit.lanes:
                lane.leave(permit.tokens, 0, permit.tenant)
            raise
        return permit

    def lane_of(self, endpoint: Endpoint) -> Lane | None:
        """Of its key, where limits are known and it was asked."""
        return self._lanes.get((endpoint.tenant_id, endpoint.provider, endpoint.key))

    async def admit_first(
        self, targets: Sequence[ModelTarget], request: ChatRequest, priority: Priority, deadline: float
    ) -> tuple[ModelTarget, Permit]:
        """As `admit`, of several targets the one that has room first."""
        waits = [asyncio.create_task(self.admit(target, request, priority, deadline)) for target in targets]
        left = set(waits)
        try:
            while left:
                _, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                for target, wait in zip(targets, waits, strict=True):
                    if wait.done() and wait.exception() is None:
                        waits.remove(wait)
                        return target, wait.result()
            return targets[0], waits[0].result()  # which raises
        finally:
            for wait in waits:
                wait.cancel()
                wait.add_done_callback(_give_back)

    def _lanes_of(self, target: ModelTarget) -> list[Lane]:
        connection, lanes = target.connection, []
        if connection.limits != UNLIMITED:
            key = (connection.tenant_id, connection.slug, connection.key_id)
            lanes.append(self._lane(key, connection.slug, connection.limits))
        if host := _host(connection.base_url, connection.kind):
            limits = Limits(concurrent=settings.LLM_CALLS_PER_HOST)
            lanes.append(self._lane(host, host, limits, "LLM_CALLS_PER_HOST"))
        return lanes

    def _lane(self, key: Hashable, name: str, limits: Limits, setting: LimitName = "concurrent_calls") -> Lane:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(name, limits, setting)
            self._forget_idle()
        lane.set(limits)
        self._lanes.move_to_end(key)
        return lane

    def _forget_idle(self) -> None:
        if len(self._lanes) > MAX_LANES:
            idle = next((key for key, lane in self._lanes.items() if lane.idle), None)
            if idle is not None:
                del self._lanes[idle]


_flows: WeakKeyDictionary[asyncio.AbstractEventLoop, Flow] = WeakKeyDictionary()


def current_flow() -> Flow:
    loop = asyncio.get_running_loop()
    flow = _flows.get(loop)
    if flow is None:
        flow = _flows[loop] = Flow()
    return flow


def room_left(endpoint: Endpoint) -> float:
    """The share from 0 to 1 that the limits of an endpoint's key have left; outside of the model loop, all."""
    try:
        flow = _flows.get(asyncio.get_running_loop())
    except RuntimeError:
        return 1.0
    lane = flow and flow.lane_of(endpoint)
    return lane.room_left() if lane else 1.0


def _tokens(target: ModelTarget, request: ChatRequest) -> int:
    """Counted only where tokens are limited."""
    return asked_likely(request.messages) if target.connection.limits.tpm else 0


def _host(base_url: str, kind_slug: str) -> str:
    """ "" for what answers in this process or on this machine's behalf."""
    if not base_url:
        kind = provider_kind(kind_slug)
        base_url = kind.default_base_url if kind else ""
    return urlsplit(base_url).netloc.rpartition("@")[2]
