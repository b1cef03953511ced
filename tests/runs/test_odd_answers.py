"""Answers that no column takes as they are, and templates that break their contract: every run ends, and is stored."""

import asyncio
import datetime
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings

from core.validation import storable, storable_text
from llm.door.cleaning import MAX_CALL_ID
from runs import ending
from runs.events import RESERVED
from runs.hub import Hub
from runs.models import Run, RunEvent
from runs.process import process
from runs.stream import RunKey, RunStream
from runs.writer import Writer
from tenants.models import Tenant
from tests.conftest import Actor, SharedStore
from tests.runs.test_chat_completions import chat, user
from tests.runs.test_runs import activate

pytestmark = pytest.mark.django_db

ODD = """
import asyncio
import datetime

from pydantic import BaseModel, ConfigDict

from templates_app.base import AgentTemplate
from templates_app.events import Answer, Custom, StepStarted

VALUES = {
    "date": datetime.datetime(2020, 1, 1),
    "nan": float("nan"),
    "big": [1e300, 2**70],
    "keys": {1: {"a\\0": "b\\0"}},
    "surrogate": "\\ud800",
}


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Odd(AgentTemplate):
    slug = "odd"
    version = "1.0.0"
    title = "Odd"
    description = "Breaks its contract on demand."
    Config = Config

    async def run(self, context):
        asked = context.messages[-1]["content"]
        if asked in VALUES:
            yield Custom("odd\\0", VALUES[asked])
        if asked.startswith("custom "):
            yield Custom(asked.removeprefix("custom "), {"run_id": str(context.run_id), "messages": "forged"})
        if asked == "step":
            yield StepStarted("a\\0b")
        if asked == "parts":
            yield Answer({"role": "assistant", "content": [{"type": "text", "text": "ok"}]}, "stop")
            return
        if asked == "timeout":
            raise asyncio.TimeoutError("of its own")
        yield Answer({"role": "assistant", "content": "ok"}, "x" * 100 if asked == "finish" else "stop")
"""


async def odd(owner: Actor, add_template: Any) -> None:
    add_template("odd", ODD)
    await activate(owner, {"slug": "odd", "name": "Odd", "template": "odd", "model": "scripted/default"})


@pytest.mark.parametrize("asked", ["date", "nan", "big", "keys", "surrogate", "step", "parts", "finish"])
async def test_what_a_template_says_is_stored(
    owner: Actor, scripted: str, in_acme: Tenant, add_template: Any, asked: str
) -> None:
    await odd(owner, add_template)
    response = await chat(owner, user(asked), model="odd")
    assert response.status_code == 200, response.content
    choice = response.json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("ok", "stop")
    events = await owner.aget(f"runs/{response['X-Run-Id']}/events")
    assert events.status_code == 200
    assert (await owner.aget(f"sessions/{response['X-Session-Id']}/messages")).status_code == 200


async def test_a_timeout_of_a_templates_own_is_no_timeout_of_the_run(
    owner: Actor, scripted: str, in_acme: Tenant, add_template: Any
) -> None:
    await odd(owner, add_template)
    response = await chat(owner, user("timeout"), model="odd")
    assert (response.status_code, response.json()["error"]["code"]) == (500, "run_failed")


@pytest.mark.parametrize("name", sorted(RESERVED))
async def test_a_template_cannot_forge_the_platforms_events(
    owner: Actor, scripted: str, in_acme: Tenant, add_template: Any, name: str
) -> None:
    await odd(owner, add_template)
    response = await chat(owner, user(f"custom {name}"), model="odd")
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (500, "reserved_name")
    assert f"'{name}'" in error["message"]
    run = await Run.objects.aget()
    assert (run.status, run.error_code) == ("failed", "reserved_name")
    assert not await RunEvent.objects.filter(type="CUSTOM").aexists()


def test_the_reserved_names_are_documented() -> None:
    page = (settings.BASE_DIR / "docs" / "template-and-toolset-authors.md").read_text()
    assert all(f"`{name}`" in page for name in RESERVED)


async def test_a_nul_of_a_model_is_replaced(owner: Actor, scripted: str, in_acme: Tenant) -> None:
    response = await chat(owner, user('#script [{"say": "a\\u0000b"}]'))
    assert response.json()["choices"][0]["message"]["content"] == "a\N{REPLACEMENT CHARACTER}b"
    called = await chat(owner, user('#script [{"tool": "n\\u0000", "args": {"x": "\\u0000"}}, {"say": "k"}]'))
    assert called.json()["choices"][0]["message"]["content"] == "k"


async def test_an_end_that_cannot_be_made_still_ends_the_run(
    owner: Actor, scripted: str, in_acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise TypeError("unforeseen")

    monkeypatch.setattr(ending, "outcome_of", fail)
    async with asyncio.timeout(20):
        response = await chat(owner, user("hi"))
    assert (response.status_code, response.json()["error"]["code"]) == (503, "storage_failed")
    run = await Run.objects.aget()
    assert (run.status, run.error_code) == ("failed", "storage_failed")
    assert run.last_seq == await RunEvent.objects.acount()  # what the writer had stored before, and the end
    assert not (await process()).live


def stream() -> RunStream:
    key = RunKey(uuid4(), uuid4(), datetime.date(2026, 1, 1))
    writer = Writer(SharedStore(), Hub(), lambda run_id: None)
    return RunStream(key, fence=1, stored=0, writer=writer, on_lost=lambda: None)


def test_storable() -> None:
    assert storable_text("für \0 \ud800 🌊") == "für \ufffd \ufffd 🌊"
    assert storable({"a": (True, None, 1, 2**64, float("inf"), {2})}) == {"a": [True, None, 1, str(2**64), "inf", [2]]}
    assert MAX_CALL_ID == 200
