"""Who stops a run, and what a dropped connection does to it; on both servers."""

import json
import time
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from tests.llm.upstream import Upstream
from tests.outside.site import Server

CLOSED_WITHIN = 0.1  # seconds, from the cancel to the provider seeing its connection closed
CLOSED_FROM_AFAR = 0.5  # when another server process is asked
GONE_WITHIN = 1.0


@pytest.fixture
def http(server: Server, watched: Upstream) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture
def other(server: Server, uvicorn: Server, daphne: Server) -> Iterator[httpx.Client]:
    """A client of the server process that `http` does not talk to."""
    with (daphne if server is uvicorn else uvicorn).client() as client:
        yield client


@pytest.fixture
def model() -> str:
    """A model of its own for each test: ten milliseconds a word, ten seconds in all."""
    return f"slow:{uuid4().hex}"


@pytest.fixture
def agent(http: httpx.Client, model: str) -> str:
    slug = f"slow-{uuid4().hex[:12]}"
    body = {"slug": slug, "name": slug, "template": "simple", "model": f"watched/{model}"}
    assert http.post("agents", json=body).status_code == 201
    assert http.patch(f"agents/{slug}/status", json={"status": "active"}).status_code == 200
    return slug


def wait_for_close(provider: Upstream, model: str, seconds: float) -> float:
    """When the provider saw its client go, by the monotonic clock."""
    deadline = time.monotonic() + seconds
    while model not in provider.closed_at:
        assert time.monotonic() < deadline, "the provider is still being read"
        time.sleep(0.005)
    return provider.closed_at[model]


def chat(model: str, **fields: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "go"}], "stream": True, **fields}


def first_words(response: httpx.Response, count: int = 3) -> Iterator[str]:
    """The response's lines, once `count` words have come."""
    lines = response.iter_lines()
    while count:
        count -= '"content":"Gr' in next(lines)
    return lines


def test_cancel_closes_the_providers_connection(http: httpx.Client, watched: Upstream, agent: str, model: str) -> None:
    """At its best: whatever else this machine does can only add to the time."""
    times = [seconds_to_close(http, http, watched, agent, model) for _ in range(20)]
    show("same process", times)
    assert min(times) < CLOSED_WITHIN


def test_cancel_by_another_process_closes_it_too(
    http: httpx.Client, other: httpx.Client, watched: Upstream, agent: str, model: str
) -> None:
    times = [seconds_to_close(http, other, watched, agent, model) for _ in range(20)]
    show("another process", times)
    assert min(times) < CLOSED_FROM_AFAR


def show(who: str, times: list[float]) -> None:
    shown = " ".join(f"{seconds * 1000:.0f}" for seconds in sorted(times))
    print(f"\nms from a cancel by the {who} to the closed connection: {shown}")


def seconds_to_close(http: httpx.Client, other: httpx.Client, provider: Upstream, agent: str, model: str) -> float:
    """The run is begun at `http` and cancelled at `other`."""
    provider.closed_at.pop(model, None)
    with http.stream("POST", "chat/completions", json=chat(agent)) as response:
        lines = first_words(response)
        asked = time.monotonic()
        run = other.post(f"runs/{response.headers['X-Run-Id']}/cancel").json()
        closed = wait_for_close(provider, model, 5)
        rest = [line for line in lines if line]
    assert run["status"] == "cancelled"
    assert rest[-2] == "event: error"
    assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "run_cancelled"
    return closed - asked


def test_a_pass_through_stream_ends_with_its_connection(http: httpx.Client, watched: Upstream, model: str) -> None:
    with http.stream("POST", "chat/completions", json=chat(f"watched/{model}")) as response:
        first_words(response)
        run_id = response.headers["X-Run-Id"]
        assert "X-Session-Id" not in response.headers
        left = time.monotonic()
    assert wait_for_close(watched, model, 5) - left < GONE_WITHIN
    assert ended(http, run_id) == "cancelled"


def test_a_run_with_a_session_outlives_its_connection(http: httpx.Client) -> None:
    script = '#script [{"repeat": "word", "times": 40, "delay_ms": 10}]'
    body = {"model": "scripted", "messages": [{"role": "user", "content": script}], "stream": True}
    with http.stream("POST", "chat/completions", json=body) as response:
        next(response.iter_lines())
        run_id, session = response.headers["X-Run-Id"], response.headers["X-Session-Id"]
    assert ended(http, run_id) == "succeeded"
    said = http.get(f"sessions/{session}/messages").json()["data"]
    assert [message["role"] for message in said] == ["user", "assistant"]
    assert (said[1]["status"], len(said[1]["content"].split())) == ("complete", 40)
    events = http.get(f"runs/{run_id}/events", params={"limit": 1000}).json()["data"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    deltas = [event["event"]["delta"] for event in events if event["event"]["type"] == "TEXT_MESSAGE_CONTENT"]
    assert "".join(deltas) == said[1]["content"]
    assert events[-1]["event"]["type"] == "RUN_FINISHED"


def ended(http: httpx.Client, run_id: str) -> str:
    for _ in range(100):
        status = str(http.get(f"runs/{run_id}").json()["status"])
        if status != "running":
            return status
        time.sleep(0.05)
    return "running"
