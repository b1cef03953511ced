"""Runs of agents whose answer is made by code of the tenant's own, in the real sandbox."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from agents.selectors import agent_get
from core.aio import in_db_thread
from core.ids import uuid7
from runs import runner
from runs.models import RunEvent
from runs.replay import run_replay
from runs.services.turns import TurnRequest
from sandbox.client import client
from tenants.models import Tenant
from tests.agents.running import Played, ready
from tests.conftest import Actor
from tests.llm.metering import metered
from tests.outside.processes import slots
from tests.runs.custom_code import SOURCES, body, make
from tests.runs.test_approvals import asked, ended, resume, says
from tests.runs.test_chat_completions import chat, chunks, script, stored, user
from tests.toolsets.vault import DONE, vault
from toolsets import limits
from toolsets.models import ToolCall
from toolsets.services import toolset_create

__all__ = ["vault"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("vault", "scripted")]
LOOK = {"tool": "look", "args": {"name": "the map"}}


@pytest.fixture
def safe(owner: Actor, scripted: str, in_acme: Tenant) -> Iterator[str]:
    """A toolset beside `time`, of which an agent is granted the one or the other."""
    limits.forget()
    toolset_create(actor=owner.principal, slug="safe", name="Safe", kind="vault", secrets={"token": "hunter2"})
    yield "safe"
    limits.forget()


async def answered(owner: Actor, *steps: Any, **fields: Any) -> str:
    response = await chat(owner, script(*steps) if steps else user("Hello"), "coded", **fields)
    body = orjson.loads(response.content)
    assert response.status_code == 200, body
    text: str = body["choices"][0]["message"]["content"]
    return text


async def failed(owner: Actor, *steps: Any) -> tuple[int, str, str]:
    response = await chat(owner, script(*steps) if steps else user("Hello"), "coded")
    error = orjson.loads(response.content)["error"]
    return response.status_code, error["code"], error["message"]


@pytest.mark.parametrize("language", SOURCES)
async def test_code_asks_the_model_and_its_granted_tools_only(owner: Actor, safe: str, language: str) -> None:
    await make(owner, SOURCES[language], language, toolsets=["safe"])
    text = await answered(owner, LOOK, {"say": "ok"}, metadata={"plan": "gold"})
    refused = "The agent was granted no tool 'current_time'. Granted: ask, look, one_by_one, put, stuck."
    tools = "look,put,ask,one_by_one,stuck"
    assert text == f"the map is there | the key is there | {refused} | {tools} | Be brief. | gold"
    found = await stored()
    assert found["run"].status == "succeeded"
    told = [(event.type, event.data) for event in found["events"]]
    assert ("CUSTOM", "progress", {"step": 1}) in [(t, d.get("name"), d.get("value")) for t, d in told]
    started = [data["toolCallId"] for type, data in told if type == "TOOL_CALL_START"]
    results = [data["toolCallId"] for type, data in told if type == "TOOL_CALL_RESULT"]
    assert started == results
    assert len(results) == 2
    rows = await in_db_thread(lambda: list(ToolCall.objects.order_by("id").values_list("call_id", "tool", "status")))
    assert rows == [(call, "look", "succeeded") for call in results]
    roles = [message.role for message in found["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "tool", "assistant"]


SAYS = """
from agentsite import call

def main(given):
    for word in ("one ", "two ", "three"):
        call("say", text=word)
"""
SAYS_AND_ASKS = """
from agentsite import call

def main(given):
    call("say", text="Let me ask. ")
    call("model", messages=given["messages"], answer=True)
    call("say", text="Done.")
    return "Bye."
"""


async def test_what_the_code_says_is_its_answer(owner: Actor, in_acme: Tenant) -> None:
    await make(owner, SAYS)
    told = await chunks(await chat(owner, user("Count"), "coded", stream=True))
    deltas = [chunk["choices"][0]["delta"].get("content") or "" for chunk in told if chunk["choices"]]
    assert "".join(deltas) == "one two three"
    assert [message.content for message in (await stored())["messages"]][1:] == ["one two three"]


async def test_the_models_tokens_are_streamed_between_them(owner: Actor, in_acme: Tenant) -> None:
    await make(owner, SAYS_AND_ASKS)
    await chat(owner, user("Hello"), "coded", stream=False)
    said = [message.content for message in (await stored())["messages"]]
    assert said == ["Hello", "Let me ask. ", "You said: Hello", "Done.", "Bye."]


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ("None", "must return a text"),
        ("7", "must return a text"),
        ("{'content': None}", "must be a text"),
        ("{'content': 'x', 'role': 'system'}", "role 'assistant'"),
        ("{'content': 'x', 'tool_calls': []}", "'tool_calls'"),
        ("'x' * 1_000_001", "1,000,001 characters"),
        ("float('nan')", "JSON"),
        ("object()", "JSON"),
    ],
)
async def test_what_is_no_answer_is_an_error(owner: Actor, returned: str, words: str) -> None:
    await make(owner, f"def main(given): return {returned}")
    status, code, message = await failed(owner)
    assert (status, code) == (422, "bad_result")
    assert words in message


FAULTS = {
    "error": (
        "def main(given):\n    raise ValueError('no luck')",
        "The agent's code failed: ValueError: no luck (line 2)",
    ),
    "timeout": ("def main(given):\n    while True: pass", "1 seconds"),
    "memory": ("def main(given): return 'x' * 10**10", "memory"),
    "no_result": ("def main(given): exit()", "ended itself"),
}


@pytest.mark.parametrize("code", FAULTS)
async def test_a_failure_of_the_code_is_told_without_its_stack(owner: Actor, code: str) -> None:
    source, words = FAULTS[code]
    await make(owner, source, timeout=1 if code == "timeout" else 30)
    status, found, message = await failed(owner)
    assert (status, found) == (422, code)
    assert words in message
    assert "Traceback" not in message


REFUSED = """
from agentsite import HostError, call

def refused(method, **params):
    try:
        return str(call(method, **params))
    except HostError as error:
        return str(error)

def main(given):
    return "\\n".join([
        refused("shell", command="id"),
        refused("tool", name="look", id="call_of_somebody"),
        refused("tool", name=["look"]),
        refused("tool"),
        refused("model", messages="hello"),
        refused("model", tools=["current_time"]),
        refused("model", model="other/model"),
        refused("say", text=7),
        refused("event", name=""),
        refused("tool", name="look", arguments={"wrong": 1}),
    ])
"""


async def test_what_the_host_does_not_do_is_refused(owner: Actor, safe: str) -> None:
    await make(owner, REFUSED, toolsets=["safe"])
    lines = (await answered(owner)).split("\n")
    granted = "Granted: ask, look, one_by_one, put, stuck."
    assert lines[:9] == [
        "There is no 'shell' to call; there are model, tools, tool, say, event.",
        "The model asked for no call 'call_of_somebody' of 'look', or it was answered already.",
        "'tool' takes the name of a granted tool, and its arguments.",
        "'tool' takes the name of a granted tool, and its arguments.",
        "'messages' is a list of messages, each with a role and content.",
        f"The agent was granted no tool 'current_time'. {granted}",
        lines[6],
        "'say' takes a text.",
        "'event' takes a name of 1 to 100 characters, and a value.",
    ]
    assert lines[6].startswith("'model' takes no model; it takes messages, tools, ")
    assert lines[9].startswith("The arguments are wrong.")


async def test_a_failure_of_the_model_is_the_runs_unless_the_code_handles_it(owner: Actor) -> None:
    await make(owner, "from agentsite import call\ndef main(given): call('model', messages=given['messages'])")
    status, code, _ = await failed(owner, {"fail": 500})
    assert (status, code) == (502, "provider_error")


LEAVES_A_CALL = """
from agentsite import call

def main(given):
    call("model", messages=given["messages"], tools=True)
    return "I do not look."
"""


async def test_a_call_that_the_code_does_not_make_is_answered(owner: Actor, safe: str) -> None:
    """Or no model would take the conversation any more."""
    await make(owner, LEAVES_A_CALL, toolsets=["safe"])
    assert await answered(owner, LOOK) == "I do not look."
    messages = (await stored())["messages"]
    assert [message.role for message in messages] == ["user", "assistant", "tool", "assistant"]
    assert messages[2].content == "The agent's code did not make this call."
    assert not await in_db_thread(ToolCall.objects.exists)


ASKS = """
from agentsite import call

def main(given):
    return call("tool", name="ask", arguments={"name": "the letter"})
"""


async def test_a_persons_approval_is_waited_for(owner: Actor, safe: str) -> None:
    await make(owner, ASKS, toolsets=["safe"])
    request = TurnRequest(model="coded", messages=user("Send it"), source="api", session="s")
    run = await runner.begin(actor=owner.principal, request=request)
    (approval,) = await asked(owner)
    assert DONE == []
    assert (await resume(owner, run, says(approval))).status_code < 300
    await ended(run)
    assert (run.status, DONE) == ("succeeded", ["the letter"])
    assert [message.content for message in (await stored())["messages"]][-1] == "put the letter"


MIXED = """
from agentsite import call

def main(given):
    call("say", text="First I look. ")
    own = call("tool", name="look", arguments={"name": "the key"})
    asked = call("model", messages=given["messages"], tools=True)["message"]["tool_calls"][0]
    looked = call("tool", id=asked["id"], name="look")
    return f"{own}, {looked}"
"""


@pytest.mark.django_db(transaction=True, databases=["default", "owner"])
async def test_a_run_of_code_can_be_replayed(owner: Actor, safe: str, in_acme: Tenant) -> None:
    await make(owner, MIXED, toolsets=["safe"])
    assert (await answered(owner, LOOK)).endswith("the key is there, the map is there")
    run = (await stored())["run"]
    replay = await in_db_thread(run_replay, tenant_id=in_acme.id, run_id=run.id)
    assert (replay.difference(), replay.unknown) == ([], [])


async def test_another_attempt_goes_on_with_what_is_known(owner: Actor, safe: str, in_acme: Tenant) -> None:
    """What the code said and called by itself is no answer of its model."""
    await make(owner, MIXED, toolsets=["safe"])
    prepared = await in_db_thread(lambda: ready(owner, agent_get(actor=owner.principal, ref="coded")))
    first, again = Played(), Played()
    run_id = uuid7()
    for played in (first, again):
        known = kept(first) if again is played else []
        events = prepared.executable.run(
            report=played,
            messages=script(LOOK, {"say": "ok"}),
            params={},
            client_tools=[],
            target=prepared.target,
            toolsets=prepared.toolsets,
            run_id=run_id,
            answers=known,
        )
        with metered():
            async for event in events:
                played.events.append(event)
    assert first.answer == again.answer
    assert [result.tool_call_id for result in first.results] == [result.tool_call_id for result in again.results]


def kept(first: Played) -> list[dict[str, Any]]:
    """Of the first attempt, in the order in which they were told."""
    own, asked = (result.tool_call_id for result in first.results)
    arguments = [orjson.dumps({"name": name}).decode() for name in ("the key", "the map")]

    def calls(id: str, text: str) -> dict[str, Any]:
        call = {"id": id, "type": "function", "function": {"name": "look", "arguments": text}}
        return {"role": "assistant", "content": None, "tool_calls": [call]}

    return [{"role": "assistant", "content": "First I look. "}, calls(own, arguments[0]), calls(asked, arguments[1])]


HOSTILE = """
import os, socket

def attempt(deed):
    try:
        return repr(deed())
    except BaseException as error:
        return "failed"

def main(given):
    return " ".join([
        attempt(lambda: open({secret!r}).read()),
        attempt(lambda: os.listdir({folder!r})),
        attempt(lambda: open("/proc/%d/environ" % {pid}).read()),
        attempt(lambda: socket.create_connection(("127.0.0.1", {port}), 2)),
        attempt(lambda: os.kill({pid}, 9)),
        str(sorted(name for name in os.environ if "SECRET" in name or "DATABASE" in name)),
        str(sorted(given)),
    ])
"""


def fill(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "secret.txt").write_text("of another tenant")
    for path in (folder, folder.parent, folder.parent.parent):
        path.chmod(0o755)


async def test_hostile_code_sees_nothing_of_anybody_else(
    owner: Actor, stranger: Actor, settings: Any, tmp_path: Path
) -> None:
    settings.WORKSPACE_DIR = tmp_path
    folder = tmp_path / str(stranger.tenant.id) / "shared"
    await asyncio.to_thread(fill, folder)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        facts = {"pid": os.getpid(), "port": listener.getsockname()[1]}
        await make(owner, HOSTILE.format(secret=str(folder / "secret.txt"), folder=str(tmp_path), **facts))
        expected = "failed failed failed failed failed [] ['instructions', 'messages', 'metadata', 'params']"
        assert await answered(owner) == expected


SLEEPS = """
import time
from agentsite import call

def main(given):
    call("say", text="Good night.")
    time.sleep(250)
"""


async def test_a_cancelled_run_ends_its_job_at_once(owner: Actor, in_acme: Tenant, settings: Any) -> None:
    settings.SANDBOX_IDLE = 0  # no slot waits beside it
    await make(owner, SLEEPS, timeout=300)
    request = TurnRequest(model="coded", messages=user("Sleep"), source="api", session="s")
    run = await runner.begin(actor=owner.principal, request=request)
    told = RunEvent.objects.filter(type="TEXT_MESSAGE_CONTENT", data__delta="Good night.")
    async with asyncio.timeout(30):
        while not await in_db_thread(told.exists):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    pool = client()._pool  # of this test's loop; those of other tests may still end
    assert pool is not None
    assert slots(pool.pid)
    assert (await owner.apost(f"runs/{run.id}/cancel", {})).status_code < 300
    await ended(run)
    assert run.status == "cancelled"
    assert [message.content for message in (await stored())["messages"]] == ["Sleep", "Good night."]
    assert client().admission.running == 0
    async with asyncio.timeout(20):
        while slots(pool.pid):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


USES = {
    "python": (
        "import six\ndef main(given): return six.text_type('six ') + six.__version__",
        "six==1.17.0",
        "six 1.17.0",
    ),
    "javascript": (
        "import pad from 'left-pad';\nexport const main = (given) => pad('7', 3, '0');",
        "left-pad@1.3.0",
        "007",
    ),
    "typescript": (
        "import pad from 'left-pad';\nexport function main(given: unknown): string { return pad('8', 3, '0') }",
        "left-pad@1.3.0",
        "008",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("language", USES)
async def test_code_imports_what_was_resolved_when_it_was_published(
    owner: Actor, settings: Any, tmp_path: Path, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, pin, answer = USES[language]
    settings.SANDBOX_PACKAGE_DIR = tmp_path / "packages"
    settings.SANDBOX_PACKAGES = ["six", "left-pad"]
    await make(owner, source, language, dependencies=[pin])
    monkeypatch.setattr("sandbox.packages.resolve", None)  # no run resolves anything
    assert await answered(owner) == answer
    settings.SANDBOX_PACKAGE_DIR = tmp_path / "elsewhere"
    assert (await failed(owner))[:2] == (503, "packages_missing")


@pytest.mark.slow
async def test_packages_and_code_are_refused_in_one_answer(owner: Actor, settings: Any, tmp_path: Path) -> None:
    settings.SANDBOX_PACKAGE_DIR = tmp_path
    settings.SANDBOX_PACKAGES = ["six"]
    response = await owner.apost("agents", body("export function main(", "javascript", dependencies=["six@99.99.99"]))
    paths = [fault["path"] for fault in response.json()["error"]["details"]]
    assert (response.status_code, paths) == (400, ["config.dependencies", "config.content"])


async def test_without_a_sandbox_no_code_is_run(owner: Actor, settings: Any) -> None:
    await make(owner, SAYS)
    settings.SANDBOX_LEVEL = "off"
    assert (await failed(owner))[:2] == (503, "sandbox_unavailable")
