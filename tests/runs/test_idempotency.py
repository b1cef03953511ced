"""Idempotency-Key: the same request again finds the run of the first."""

import asyncio
from typing import Any

import orjson
import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from runs.models import IdempotencyKey, Run
from runs.tasks import forget_keys
from sessions_app.models import ChatSession
from tenants.models import Tenant
from tests.conftest import Actor
from tests.runs.test_chat_completions import frames, script, user
from tests.runs.test_runs import events_of
from tests.runs.test_socket import hear_run, run_input, say, socket, text_of

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner", "ops"])


async def post(actor: Actor, key: str, messages: Any, path: str = "chat/completions", **fields: Any) -> Any:
    body = {"model": "helper", "messages": messages, **fields}
    headers = {**actor.headers, "Idempotency-Key": key}
    return await actor.ahttp.generic("POST", f"/v1/{path}", orjson.dumps(body), "application/json", headers=headers)


async def test_the_stored_answer_is_given_again(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    first, again = await post(owner, "k", user("hi")), await post(owner, "k", user("hi"))
    assert (first.status_code, first.json()) == (200, again.json())
    assert first["X-Run-Id"] == again["X-Run-Id"]
    streamed = await frames(await post(owner, "k", user("hi"), stream=True))
    texts = [orjson.loads(frame.removeprefix("data: "))["choices"][0]["delta"] for frame in streamed[:-1]]
    assert "".join(delta.get("content", "") for delta in texts) == "You said: hi"
    assert await Run.objects.acount() == 1


async def test_a_retry_joins_the_running_stream(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    steps = script({"repeat": "word", "times": 20, "delay_ms": 10})
    first = await post(owner, "k", steps, stream=True, model="scripted/default")
    parts = aiter(first)
    await anext(parts)
    await parts.aclose()  # a bare model's run ends with its connection, but not one that somebody may ask for again
    again = await frames(await post(owner, "k", steps, stream=True, model="scripted/default"))
    assert again[-1] == "data: [DONE]"
    assert await Run.objects.acount() == 1
    assert (await Run.objects.aget()).status == "succeeded"


async def test_another_body_is_refused(owner: Actor, stranger: Actor, scripted: str, in_acme: Tenant) -> None:
    await post(owner, "k", user("hi"))
    for changed in ({"temperature": 1}, {"model": "scripted/default"}, {"metadata": {"session_id": "s"}}):
        other = await post(owner, "k", user("hi"), **changed)
        assert (other.status_code, other.json()["error"]["type"]) == (422, "idempotency_error")
    assert (await post(stranger, "k", user("hi"))).status_code == 404  # the key is acme's; globex has no such agent
    assert await Run.objects.acount() == 1


async def test_a_failure_is_given_again_and_a_refusal_is_not(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    failing = script({"fail": 500})
    first, again = await post(owner, "k", failing), await post(owner, "k", failing)
    assert (first.status_code, again.status_code) == (502, 502)
    assert first["X-Request-Id"] != again["X-Request-Id"]
    assert (await post(owner, "l", user("hi"), model="nosuch")).status_code == 404
    assert (await post(owner, "l", user("hi"))).status_code == 200


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "a\n", "é"])
async def test_a_key_is_printable_ascii_wherever_it_comes_from(
    owner: Actor, scripted: str, in_acme: Tenant, key: str
) -> None:
    answer = await post(owner, key, user("hi"))
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "Idempotency-Key")
    assert "printable ASCII" in error["message"]
    async with socket(owner) as ws:
        await say(ws, {"type": "run", "agent": scripted, "input": run_input("hi"), "idempotency_key": key})
        assert (await hear_run(ws))[-1]["error"]["message"] == error["message"]
    assert not await Run.objects.aexists()
    assert (await post(owner, "a b~" + "x" * 251, user("hi"))).status_code == 200


async def test_many_at_once_begin_one_run(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    for number in range(5):
        answers = await asyncio.gather(*(post(owner, f"k{number}", user("hi")) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer["X-Run-Id"] for answer in answers}) == 1
        assert await Run.objects.acount() == number + 1


async def test_agui_and_the_socket_take_keys_too(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    headers = {**owner.headers, "Idempotency-Key": "k"}
    found = []
    for _ in range(2):
        body = orjson.dumps(run_input("hi"))
        path = "/v1/agents/helper/ag-ui"
        response = await owner.ahttp.generic("POST", path, body, "application/json", headers=headers)
        found.append(events_of(await frames(response)))
    assert found[0] == found[1]
    slow = run_input('#script [{"say": "ho", "delay_ms": 500}]')  # a run that has ended is shown again
    async with socket(owner) as ws:
        for _ in range(2):
            await say(ws, {"type": "run", "agent": scripted, "input": slow, "idempotency_key": "w"})
        assert text_of(await hear_run(ws)) == "ho"
        assert await ws.receive_nothing(timeout=0.2)
    assert await Run.objects.acount() == 2


async def test_a_key_that_is_deleted_while_it_is_looked_up_is_free(
    owner: Actor, scripted: str, in_acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await post(owner, "k", user("hi"))
    keys, looked_up = IdempotencyKey.objects, IdempotencyKey.objects.select_related

    def late(*names: str) -> Any:
        ChatSession.objects.using("owner").all().delete()
        return looked_up(*names)

    monkeypatch.setattr(keys, "select_related", late)
    again = await post(owner, "k", user("hi"))
    assert again.status_code == 200, again.content
    assert again["X-Run-Id"] != first["X-Run-Id"]
    assert str((await IdempotencyKey.objects.aget()).run_id) == again["X-Run-Id"]


async def test_a_key_is_free_again_after_a_while(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    first = await post(owner, "k", user("hi"))
    forget = sync_to_async(forget_keys)
    await forget()
    assert (await post(owner, "k", user("hi")))["X-Run-Id"] == first["X-Run-Id"]
    old = timezone.now() - timezone.timedelta(hours=25)
    await IdempotencyKey.objects.aupdate(created_at=old)
    await forget()
    assert (await post(owner, "k", user("other"))).status_code == 200
