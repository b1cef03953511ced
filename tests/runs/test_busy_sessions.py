"""Two messages at once in one session: they wait, are refused, take over, or are heard."""

import asyncio
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from asgiref.sync import sync_to_async

from runs.models import Run, RunLease
from sessions_app.models import Message
from tenants.models import Tenant
from tests.conftest import Actor
from tests.runs.test_chat_completions import chat, frames, script, user
from tests.runs.test_runs import activate, events_of
from tests.runs.test_socket import run_input

pytestmark = pytest.mark.django_db
SLOW = script({"repeat": "word", "times": 20, "delay_ms": 50})


@pytest.fixture(autouse=True)
def _no_lease_is_left() -> Iterator[None]:
    yield
    assert not RunLease.objects.exists()


async def ask(actor: Actor, messages: Any, way: str | None = None, **fields: Any) -> Any:
    metadata = {"session_id": "s", **({"when_busy": way} if way else {})}
    return await chat(actor, messages, metadata=metadata, **fields)


async def said(actor: Actor) -> list[tuple[str, str]]:
    listed = (await actor.aget("sessions/s/messages", limit=100)).json()["data"]
    return [(message["role"], (message["content"] or "").strip()) for message in listed]


async def test_a_message_waits_for_its_turn(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    first = await ask(owner, SLOW, stream=True)
    second = asyncio.create_task(ask(owner, user("two")))
    await asyncio.sleep(0.1)
    runs = [run async for run in Run.objects.order_by("created_at")]
    assert [run.status for run in runs] == ["running", "queued"]
    assert (await frames(first))[-1] == "data: [DONE]"
    assert (await second).json()["choices"][0]["message"]["content"] == "You said: two"
    assert [role for role, _ in await said(owner)] == ["user", "assistant", "user", "assistant"]
    assert (await said(owner))[2:] == [("user", "two"), ("assistant", "You said: two")]


async def test_the_run_after_one_that_fails_has_its_turn(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    first = await ask(owner, script({"say": "half", "delay_ms": 100}, {"fail": "cut"}), stream=True)
    second = asyncio.create_task(ask(owner, user("two")))
    await frames(first)
    assert (await second).status_code == 200


async def test_a_message_is_refused(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    first = await ask(owner, SLOW, stream=True)
    refused = await ask(owner, user("two"), "reject")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "session_busy")
    assert await Run.objects.acount() == 1
    await frames(first)
    assert (await ask(owner, user("three"), "reject")).status_code == 200


async def test_a_message_takes_over(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    first = await ask(owner, script({"say": "half an"}, {"fail": "hang"}), stream=True)
    waiting = asyncio.create_task(ask(owner, user("never")))
    await asyncio.sleep(0.1)
    async with asyncio.timeout(20):
        second = await ask(owner, user("two"), "interrupt")
    assert second.json()["choices"][0]["message"]["content"] == "You said: two"
    assert "run_cancelled" in (await frames(first))[-1]
    assert (await waiting).json()["error"]["code"] == "run_cancelled"
    assert [run.status async for run in Run.objects.order_by("created_at")] == ["cancelled", "cancelled", "succeeded"]
    assert [text for _, text in await said(owner)][1:] == ["half an", "two", "You said: two"]
    statuses = [message.status async for message in Message.objects.order_by("seq")]
    assert statuses == ["complete", "cancelled", "complete", "complete"]


async def test_a_message_is_heard(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    """The model answers what it was asked, then what was said meanwhile: one run, two answers."""
    first = await ask(owner, SLOW, stream=True)
    second = asyncio.create_task(ask(owner, user("two"), "steer", stream=True))
    assert (await frames(first))[-1] == "data: [DONE]"
    steered = await second
    *_, ending, done = await frames(steered)
    assert done == "data: [DONE]"
    found = [text for _, text in await said(owner)]
    assert found[2:] == ["two", "You said: two"]
    assert len(found) == 4
    one, two = [run async for run in Run.objects.order_by("created_at")]
    assert (one.status, two.status) == ("succeeded", "succeeded")
    events = (await owner.aget(f"runs/{one.id}/events", limit=1000)).json()["data"]
    heard = [row["event"]["value"] for row in events if row["event"].get("name") == "heard"]
    ((message,),) = [value["messages"] for value in heard if value["run_id"] == str(two.id)]
    assert (message["role"], message["content"], message["author"]["label"]) == ("user", "two", "owner of acme")
    events = (await owner.aget(f"runs/{two.id}/events")).json()["data"]
    (told,) = events[0]["event"]["input"]["messages"]
    assert told == {"id": message["id"], "role": "user", "name": "owner of acme", "content": "two"}
    stored = await Message.objects.aget(content="two")
    assert (stored.client_id, stored.author, stored.author_id) == (message["id"], "owner of acme", owner.principal.id)
    assert [row["event"]["type"] for row in events] == ["RUN_STARTED", "RUN_FINISHED"]
    assert events[1]["event"]["metadata"] == {"answered_by": str(one.id)}
    assert events[1]["event"]["usage"][0]["totalTokens"] == 0
    assert orjson.loads(ending.removeprefix("data: "))["metadata"]["answered_by"] == str(one.id)
    assert one.completion_tokens > 20 > two.completion_tokens == 0


async def test_a_run_that_is_cancelled_takes_along_what_it_heard(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    steps = script({"tool": "current_time", "args": {"timezone": "UTC"}}, {"say": "wait"}, {"fail": "hang"})
    first = await ask(owner, script({"say": "a"}, {"say": "b", "delay_ms": 1000}), stream=True)
    second = asyncio.create_task(ask(owner, steps, "steer"))
    path = f"runs/{first['X-Run-Id']}"
    async with asyncio.timeout(20):
        while b'"delta":"wait"' not in (await owner.aget(f"{path}/events", limit=1000)).content:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    stopped = await owner.apost(f"{path}/cancel", None)
    assert stopped.json()["status"] == "cancelled"
    assert (await second).json()["error"]["code"] == "run_cancelled"
    await frames(first)
    assert [run.status async for run in Run.objects.all()] == ["cancelled", "cancelled"]


async def test_steering_needs_a_template_that_can(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    await activate(owner, {"slug": "plain", "name": "P", "template": "simple", "model": "scripted/default"})
    refused = await ask(owner, user("x"), "steer", model="plain")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "steering_unsupported")
    for wrong in ("x", 5):
        assert (await ask(owner, user("x"), wrong)).status_code == 400  # type: ignore[arg-type]


async def test_the_agents_own_way_counts_where_the_request_has_none(
    owner: Actor, scripted: str, in_acme: Tenant
) -> None:
    changed = await owner.ahttp.generic(
        "PATCH", "/v1/agents/helper", orjson.dumps({"when_busy": "reject"}), "application/json", headers=owner.headers
    )
    assert changed.status_code == 200
    first = await ask(owner, SLOW, stream=True)
    assert (await ask(owner, user("two"))).status_code == 409
    queued = asyncio.create_task(ask(owner, user("two"), "queue"))
    await frames(first)
    assert (await queued).status_code == 200


async def test_agui_asks_by_its_forwarded_props(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    first = await chat(owner, SLOW, metadata={"session_id": "room"}, stream=True)
    asked = {**run_input("two"), "forwardedProps": {"when_busy": "reject", "mine": 1}}
    assert (await owner.apost("agents/helper/ag-ui", asked)).status_code == 409
    wrong = await owner.apost("agents/helper/ag-ui", {**asked, "forwardedProps": {"when_busy": "x"}})
    assert wrong.json()["error"]["param"] == "forwardedProps.when_busy"
    queued = await owner.apost("agents/helper/ag-ui", {**asked, "forwardedProps": {}})
    events = events_of(await frames(queued))
    assert [events[0][1]["type"], events[-1][1]["type"]] == ["RUN_STARTED", "RUN_FINISHED"]
    await frames(first)


async def test_the_line_has_an_end(owner: Actor, scripted: str, in_acme: Tenant, settings: Any) -> None:
    settings.SESSION_QUEUE = 1
    first = await ask(owner, SLOW, stream=True)
    second = asyncio.create_task(ask(owner, user("two")))
    await asyncio.sleep(0.1)
    full = await ask(owner, user("three"))
    assert (full.status_code, full.json()["error"]["code"]) == (429, "session_queue_full")
    assert "SESSION_QUEUE" in full.json()["error"]["message"]
    await frames(first)
    await second


async def test_a_run_that_waits_can_be_cancelled(
    owner: Actor, viewer: Actor, stranger: Actor, scripted: str, in_acme: Tenant
) -> None:
    first = await ask(owner, SLOW, stream=True)
    second = asyncio.create_task(ask(owner, user("two")))
    await asyncio.sleep(0.1)
    waiting = await Run.objects.aget(status="queued")
    assert (await viewer.apost(f"runs/{waiting.id}/cancel", None)).status_code == 403
    assert (await stranger.apost(f"runs/{waiting.id}/cancel", None)).status_code == 404
    assert (await owner.apost(f"runs/{waiting.id}/cancel", None)).json()["status"] == "cancelled"
    assert (await second).json()["error"]["code"] == "run_cancelled"
    await frames(first)
    assert [role for role, _ in await said(owner)] == ["user", "assistant"]


async def test_a_stream_that_waits_begins_at_once(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    steps = script({"say": "half an"}, {"fail": "hang"})
    first = await ask(owner, steps, stream=True)
    async with asyncio.timeout(20):
        second = await ask(owner, user("two"), stream=True)
    run = await Run.objects.aget(id=second["X-Run-Id"])
    assert run.status == "queued"
    under_way = (await owner.aget(f"runs/{first['X-Run-Id']}")).json()
    assert (under_way["status"], under_way["last_seq"]) == ("running", 3)
    for response in (second, first):
        stopped = (await owner.apost(f"runs/{response['X-Run-Id']}/cancel", None)).json()
        assert stopped["status"] == "cancelled"
        await frames(response)
    assert 10 < stopped["prompt_tokens"] < 30  # a guess: no provider counted them
    assert stopped["last_seq"] > 3


async def test_an_error_names_its_run(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    for stream in (False, True):
        failed = await ask(owner, script({"fail": 500}), stream=stream)
        assert failed.status_code == 502
        assert (await Run.objects.aget(id=failed["X-Run-Id"])).status == "failed"
    broken = await frames(await ask(owner, script({"say": "half"}, {"fail": "cut"}), stream=True))
    error = orjson.loads(broken[-1].partition("data: ")[2])["error"]
    assert error["request_id"]


async def test_limits_of_tenant_and_agent(owner: Actor, scripted: str, in_acme: Tenant, settings: Any) -> None:
    settings.TENANT_CONCURRENT_RUNS = 1
    first = await chat(owner, script({"say": "half"}, {"fail": "hang"}), stream=True)
    refused = await chat(owner, user("x"))
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_runs")
    assert "TENANT_CONCURRENT_RUNS" in refused.json()["error"]["message"]
    await sync_to_async(Tenant.objects.filter(id=in_acme.id).update)(max_concurrent_runs=5)
    assert (await chat(owner, user("x"))).status_code == 200
    body = orjson.dumps({"max_concurrent_runs": 1})
    await owner.ahttp.generic("PATCH", "/v1/agents/helper", body, "application/json", headers=owner.headers)
    refused = await chat(owner, user("x"))
    assert (refused.status_code, "max_concurrent_runs" in refused.json()["error"]["message"]) == (429, True)
    assert (await chat(owner, user("x"), model="scripted/default")).status_code == 200
    assert (await owner.apost(f"runs/{first['X-Run-Id']}/cancel", None)).json()["status"] == "cancelled"
    await frames(first)
