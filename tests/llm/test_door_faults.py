"""Every fault of a provider × stream and not × alone and with another target: the right answer or the right error."""

import asyncio
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from core.errors import ApplicationError
from llm.calls import CallOutcome
from tests.llm.doors import HELLO, Planned, Told, ask, at, nothing_left
from tests.llm.metering import RecordingMeter
from tests.llm.upstream import SECRET_TEXT, Upstream

FIRST_TOKEN, IDLE, TOTAL = 0.6, 0.5, 1.5  # seconds
UNHURRIED = 30  # seconds, where no deadline is the fault: a busy machine may stand still for a while


@dataclass(frozen=True)
class Fault:
    """`said` comes before the fault in a stream; `answer`: it is none after all. `tries` are made before it is told."""

    model: str
    code: str = ""
    tries: int = 2
    said: str = ""
    answer: str = ""
    address: str = ""  # another one than the upstream's

    @property
    def in_time(self) -> bool:
        return self.code != "provider_timeout"

    def deadlines(self) -> tuple[float, float, float]:
        return (UNHURRIED, UNHURRIED, UNHURRIED) if self.in_time else (FIRST_TOKEN, IDLE, TOTAL)


FAULTS = [
    Fault("status:429", "provider_rate_limited"),
    Fault("limited:60", "provider_rate_limited", tries=1),
    Fault("limited:0.05", "provider_rate_limited"),
    Fault("status:500", "provider_error"),
    Fault("status:503", "provider_error"),
    Fault("refused", "provider_unreachable", address="closed"),
    Fault("mute", "provider_timeout", tries=1, address="mute"),
    Fault("silent", "provider_timeout", tries=1),
    Fault("late:5", "provider_timeout", tries=1),
    Fault("stall", "provider_timeout", tries=1, said="Grüße"),
    Fault("cut", "provider_stream_truncated", said="Grüße aus"),
    Fault("cut-at-once", "provider_stream_truncated"),
    Fault("no-finish", answer=HELLO),
    Fault("reset", "provider_stream_truncated", said="Grüße"),
    Fault("garbage", "provider_bad_answer", said="Grüße"),
    Fault("broken-utf8", answer="a\N{REPLACEMENT CHARACTER}"),
    Fault("error-event", "provider_error", said="Grüße"),
    Fault("error-first", "provider_rate_limited"),
    Fault("one-byte", answer=HELLO),
    Fault("big", answer="x" * 10_000_000),
    Fault("status:401", "provider_authentication", tries=1),
    Fault("quota", "provider_quota_exhausted", tries=1),
    Fault("status:404", "model_not_found", tries=1),
    Fault("status:400", "provider_rejected", tries=1),
    Fault("context", "context_length_exceeded", tries=1),
]
ONLY_STREAMS = {"cut-at-once", "no-finish"}  # whole answers have no such fault
FOR_NOBODY = {"provider_rejected"}  # another provider would say the same


def keep_deadlines(settings, first_token: float, idle: float, total: float) -> None:
    settings.LLM_FIRST_TOKEN_TIMEOUT, settings.LLM_IDLE_TIMEOUT, settings.LLM_TOTAL_TIMEOUT = first_token, idle, total
    settings.LLM_ATTEMPTS = 2


@pytest.fixture
def addresses(upstream: Upstream) -> Iterator[dict[str, str]]:
    """The upstream's; one where nobody listens; one that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as mute, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield {
            "": upstream.url,
            "mute": f"http://127.0.0.1:{mute.getsockname()[1]}/v1",
            "closed": f"http://127.0.0.1:{closed.getsockname()[1]}/v1",
        }


@pytest.mark.parametrize("with_other", [False, True], ids=["alone", "with_other"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.model)
async def test_a_fault(
    upstream: Upstream,
    addresses: dict[str, str],
    meter: RecordingMeter,
    settings,
    fault: Fault,
    stream: bool,
    with_other: bool,
) -> None:
    keep_deadlines(settings, *fault.deadlines())
    if fault.model in ONLY_STREAMS and not stream:
        fault = Fault(fault.model, answer=HELLO)
    first = at(addresses[fault.address], fault.model, "first")
    target = Planned([first, at(upstream.url, "hello", "second")]) if with_other else first
    told, began = Told(), time.monotonic()
    try:
        answer, code, message = await ask(target, stream=stream, told=told), "", ""
    except ApplicationError as error:
        answer, code, message = told.text, error.code, error.message
    took = time.monotonic() - began
    assert SECRET_TEXT not in message
    expect_answer(fault, answer, code, began=stream and bool(fault.said), with_other=with_other)
    assert took < UNHURRIED / 2
    assert fault.in_time or took > deadline(fault, stream=stream, with_other=with_other)
    await nothing_left()
    meter.check()
    expect_calls(fault, meter, stream=stream, with_other=with_other)
    if not fault.address:
        assert upstream.seen[fault.model] == len([call for call in meter.calls if call.name.startswith("first/")])


def expect_answer(fault: Fault, answer: str, code: str, *, began: bool, with_other: bool) -> None:
    if fault.answer:
        assert (answer, code) == (fault.answer, "")
    elif with_other and not began and fault.code not in FOR_NOBODY:
        assert (answer, code) == (HELLO, "")
    else:
        assert (answer, code) == (fault.said if began else "", fault.code)


def expect_calls(fault: Fault, meter: RecordingMeter, *, stream: bool, with_other: bool) -> None:
    """What was opened at the meter, and how each ended."""
    began = stream and bool(fault.said)
    moves_on = with_other and not fault.answer and not began and fault.code not in FOR_NOBODY
    tries = 1 if began or fault.answer else fault.tries
    if moves_on and fault.model.startswith("limited"):
        tries = 1  # it said when to come back: there is another one now
    first = [call for call in meter.calls if call.name.startswith("first/")]
    second = [call for call in meter.calls if call.name == "second/hello"]
    assert (len(first), len(second)) == (tries, int(moves_on))
    assert [call.outcome.attempt for call in meter.calls] == list(range(1, len(meter.calls) + 1))
    for call in first:
        assert (call.outcome.error.code if call.outcome.error else "") == fault.code
        assert bool(call.outcome.finish_reason) == bool(fault.answer)
    if moves_on:
        expect_other(second[0].outcome, fault)


def expect_other(outcome: CallOutcome, fault: Fault) -> None:
    assert (outcome.error, outcome.finish_reason, outcome.route, outcome.leg) == (None, "stop", "test", 0)
    assert outcome.usage is not None
    what = "answered 429" if fault.code == "provider_rate_limited" else f"failed with {fault.code}"
    assert outcome.reason == f"fallback: first/{fault.model} {what}"


def deadline(fault: Fault, *, stream: bool, with_other: bool) -> float:
    """Seconds until it strikes: the total ones are shared by what is tried."""
    if stream:
        return FIRST_TOKEN if not fault.said else IDLE
    return TOTAL / 2 if with_other else TOTAL


async def test_the_faults_take_a_connection_no_longer_than_the_call(upstream: Upstream, settings) -> None:
    """Fifty calls at once of every fault that keeps a connection."""
    keep_deadlines(settings, FIRST_TOKEN, IDLE, TOTAL)
    calls = [at(upstream.url, model) for model in ("stall", "late:5", "silent", "cut", "garbage") for _ in range(10)]
    results = await asyncio.gather(*(ask(call, stream=True, told=Told()) for call in calls), return_exceptions=True)
    assert all(isinstance(result, ApplicationError) for result in results), results
    await nothing_left()
