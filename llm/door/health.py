"""How the endpoints do that this process calls: what routes choose by."""

from dataclasses import dataclass

from llm.door.bounded import PerTenant
from llm.door.breaker import State
from llm.door.circuits import breakers
from llm.targets import Endpoint

WEIGHT = 0.2  # of the newest first-token time in the moving one


@dataclass(slots=True)
class EndpointRecord:
    """`first_token_ms` is an exponentially weighted mean."""

    first_token_ms: float | None = None
    in_flight: int = 0


_records: PerTenant[EndpointRecord] = PerTenant(idle=lambda record: not record.in_flight)
_UNKNOWN = EndpointRecord()


def first_token_ms(endpoint: Endpoint) -> float | None:
    """None until a streamed answer was seen."""
    return (_records.get(endpoint) or _UNKNOWN).first_token_ms


def in_flight(endpoint: Endpoint) -> int:
    return (_records.get(endpoint) or _UNKNOWN).in_flight


def is_open(endpoint: Endpoint) -> bool:
    """Calls do not go through now, as far as this process knows."""
    return breakers.state(endpoint) is State.OPEN


def began(endpoint: Endpoint) -> EndpointRecord:
    """A call is under way, until `ended`."""
    record = _records.use(endpoint, EndpointRecord)
    record.in_flight += 1
    return record


def first_token(record: EndpointRecord, ms: float) -> None:
    held = record.first_token_ms
    record.first_token_ms = ms if held is None else held + WEIGHT * (ms - held)


def ended(record: EndpointRecord) -> None:
    record.in_flight -= 1


def forget_all() -> None:
    """As if the process had just begun."""
    _records.clear()
