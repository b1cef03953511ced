"""Circuit breakers: an endpoint that keeps failing is left alone for a while, and then tried by one call at a time."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from django.conf import settings

from core.errors import ApplicationError
from llm.door.bounded import PerTenant
from llm.door.retry import retryable
from llm.exceptions import ProviderAuthentication, ProviderRateLimited
from llm.targets import Endpoint

PROBE_SECONDS = 1.0  # told as the wait for the verdict of a probe under way
PACED_PROBE_SECONDS = 0.1


class State(StrEnum):
    CLOSED = "closed"  # calls go through
    OPEN = "open"  # no call goes through
    HALF_OPEN = "half_open"  # one call at a time goes through


@dataclass(frozen=True, slots=True)
class Transition:
    """What became of an endpoint. Times are seconds since the epoch; `code` is that of the last error."""

    state: State
    failures: int
    opened_at: float
    until: float
    code: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """`paced`: the provider itself said when to come back, which is worth a short wait."""

    retry_after: float
    code: str
    paced: bool


@dataclass(slots=True)
class _Circuit:
    """`until` is None while closed; times are monotonic, but `opened_at`."""

    failures: int = 0
    until: float | None = None
    opened_at: float = 0.0
    code: str = ""
    paced: bool = False
    probing: bool = False

    def state(self, now: float) -> State:
        if self.until is None:
            return State.CLOSED
        return State.OPEN if now < self.until else State.HALF_OPEN


class Breakers:
    """The breakers of this process. `tell` hears of every transition, and must not wait."""

    def __init__(self, tell: Callable[[Endpoint, Transition], None]) -> None:
        self._circuits: PerTenant[_Circuit] = PerTenant()  # that have failed of late; those that work take no memory
        self._tell = tell

    def state(self, endpoint: Endpoint) -> State:
        circuit = self._circuits.get(endpoint)
        return circuit.state(time.monotonic()) if circuit else State.CLOSED

    def refusal(self, endpoint: Endpoint) -> Refusal | None:
        """Why a call would not go through now; None when it would."""
        circuit = self._circuits.get(endpoint)
        if circuit is None or circuit.until is None:
            return None
        left = circuit.until - time.monotonic()
        if left > 0:
            return Refusal(left, circuit.code, circuit.paced)
        if not circuit.probing:
            return None
        return Refusal(PACED_PROBE_SECONDS if circuit.paced else PROBE_SECONDS, circuit.code, circuit.paced)

    def enter(self, endpoint: Endpoint) -> bool:
        """After `refusal` was None: a call goes through. True when it is the probe, whose end must be told."""
        circuit = self._circuits.get(endpoint)
        if circuit is None or circuit.until is None:
            return False
        circuit.probing = True
        self._transition(endpoint, circuit, State.HALF_OPEN)
        return True

    def heard(self, endpoint: Endpoint) -> None:
        """The probe has its first token: calls go through again. One more failure opens."""
        circuit = self._circuits.get(endpoint)
        if circuit is not None and circuit.until is not None:
            circuit.until, circuit.probing = None, False
            self._transition(endpoint, circuit, State.CLOSED)

    def succeeded(self, endpoint: Endpoint, *, probe: bool) -> None:
        circuit = self._circuits.get(endpoint)
        if circuit is None or (circuit.until is not None and not probe):
            return  # a call from before the endpoint opened says nothing about now
        if circuit.until is not None:
            self._transition(endpoint, circuit, State.CLOSED)
        self._circuits.pop(endpoint)

    def failed(self, endpoint: Endpoint, error: ApplicationError, *, probe: bool) -> None:
        """Of a call that came to nothing by the endpoint's fault."""
        pause = _pause(error)
        if pause is None and not retryable(error):
            self.succeeded(endpoint, probe=probe)  # it answers; what it says is the caller's matter
            return
        circuit = self._circuits.use(endpoint, _Circuit)
        if circuit.until is not None and not probe:
            return
        circuit.failures += 1
        circuit.code, circuit.probing = error.code, False
        if pause is not None or circuit.failures >= settings.LLM_BREAKER_FAILURES:
            circuit.paced = isinstance(error, ProviderRateLimited) and pause is not None
            self._open(endpoint, circuit, settings.LLM_BREAKER_SECONDS if pause is None else pause)
        elif probe:
            circuit.until = None
            self._transition(endpoint, circuit, State.CLOSED)

    def left(self, endpoint: Endpoint) -> None:
        """The probe's caller went away: the next call is the probe."""
        circuit = self._circuits.get(endpoint)
        if circuit is not None:
            circuit.probing = False

    def close(self, endpoint: Endpoint) -> None:
        """By hand, or because another process found that it works."""
        self._circuits.pop(endpoint)

    def learn(self, endpoint: Endpoint, *, until: float, opened_at: float, failures: int, code: str) -> None:
        """Another process opened it. `until` and `opened_at` are seconds since the epoch."""
        circuit = self._circuits.use(endpoint, _Circuit)
        if circuit.until is None:
            circuit.until = time.monotonic() + until - time.time()
            circuit.failures, circuit.opened_at, circuit.code = failures, opened_at, code

    def opened_at(self, endpoint: Endpoint) -> float | None:
        """Seconds since the epoch; None while calls go through."""
        circuit = self._circuits.get(endpoint)
        return None if circuit is None or circuit.until is None else circuit.opened_at

    def of(self, tenant_id: UUID | None) -> list[Endpoint]:
        return self._circuits.of(tenant_id)

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._circuits)

    def _open(self, endpoint: Endpoint, circuit: _Circuit, seconds: float) -> None:
        circuit.until, circuit.opened_at = time.monotonic() + seconds, time.time()
        self._transition(endpoint, circuit, State.OPEN)

    def _transition(self, endpoint: Endpoint, circuit: _Circuit, state: State) -> None:
        left = 0.0 if circuit.until is None else circuit.until - time.monotonic()
        told = Transition(state, circuit.failures, circuit.opened_at, time.time() + left, circuit.code)
        self._tell(endpoint, told)


def _pause(error: ApplicationError) -> float | None:
    """Seconds for which one such error opens the endpoint; None when it takes several."""
    if isinstance(error, ProviderRateLimited):
        return min(error.retry_after, settings.LLM_BREAKER_MAX_SECONDS) if error.retry_after else None
    return settings.LLM_BREAKER_SECONDS if isinstance(error, ProviderAuthentication) else None
