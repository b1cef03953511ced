"""Several people, programs and processes in one session: all see the same runs, and who said what."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from statistics import quantiles
from typing import Any
from uuid import uuid4

import httpx
import pytest
from websockets.asyncio.client import ClientConnection

from tests.admin.browser.test_parallel import signed_in
from tests.outside.javascript import run_program
from tests.outside.site import Server, serving
from tests.outside.test_agui import hear, hear_run, run_frame, socket

PEOPLE, A_SECOND, SECONDS = 50, 5, 20
PASSWORD = "a long enough passphrase 4 tests"  # noqa: S105 of people who live as long as the test's database


@pytest.fixture
def session() -> str:
    return f"s-{uuid4().hex[:12]}"


@pytest.fixture
def second(server: Server) -> Iterator[Server]:
    """Another process of the other kind, over the same database."""
    with serving(server.site, "daphne" if server.kind == "uvicorn" else "uvicorn") as other:
        yield other


def member(server: Server, role: str = "member") -> str:
    """The username of a new person in acme."""
    name = f"{role}-{uuid4().hex[:8]}"
    with server.client() as http:
        made = http.post("members", json={"username": name, "role": role, "password": PASSWORD})
    assert made.status_code == 201, made.text
    return name


def sign_in(server: Server, username: str) -> httpx.Client:
    client = httpx.Client(base_url=server.base_url, timeout=60, trust_env=False, follow_redirects=True)
    client.get("/admin/login/")
    form = {"username": username, "password": PASSWORD, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
    client.post("/admin/login/", data=form, headers={"Referer": f"{server.base_url}/admin/login/"})
    return client


def ticket_of(server: Server, client: httpx.Client) -> str:
    headers = {"X-Tenant": "acme", "X-CSRFToken": client.cookies["csrftoken"], "Referer": server.base_url}
    response = client.post("/v1/ws-tickets", headers=headers)
    assert response.status_code == 201, response.text
    return str(response.json()["ticket"])


async def present(ws: ClientConnection, holds: Any) -> list[dict[str, Any]]:
    """The list of those in the session, once it is as wanted."""
    async with asyncio.timeout(90):  # daphne tells nobody that it stops: its people go by the clock
        while True:
            people: list[dict[str, Any]] = (await hear(ws, presence=True))["value"]["participants"]
            if holds(people):
                return people


def labels(people: list[dict[str, Any]]) -> list[str]:
    return [person["label"] for person in people]


def test_the_client_rebuilds_the_same_messages_from_events_alone(server: Server, node: str, session: str) -> None:
    url, key = f"{server.api}/agents/scripted/ag-ui", server.site.key("acme")
    found = run_program(node, "agui-shared.mjs", URL=url, API_KEY=key, THREAD=session)
    sent, seen = [
        [(message["id"], message["role"], message.get("content"), message.get("toolCalls")) for message in messages]
        for messages in (found["sender"], found["observer"])
    ]
    assert sent == seen
    assert [message["role"] for message in found["observer"]][:2] == ["user", "assistant"]
    assert len({message["id"] for message in found["observer"]}) == len(seen)
    with server.client() as http:
        stored = http.get(f"sessions/{session}/messages").json()["data"]
    assert [message["client_id"] for message in stored] == [id for id, *_ in seen]


async def test_people_a_program_and_an_operator_see_one_run(server: Server, session: str) -> None:
    names = [member(server, "operator"), member(server, "operator")]
    people = [sign_in(server, name) for name in names]
    async with AsyncExitStack() as stack:
        opened = [socket(server, session, ticket=ticket_of(server, client)) for client in people]
        ann, bob = [await stack.enter_async_context(ws) for ws in opened]
        await present(ann, lambda found: sorted(labels(found)) == sorted(names))
        await ann.send(run_frame("from Ann", session))
        heard = [await hear_run(ws) for ws in (ann, bob)]
        assert heard[0] == heard[1]
        started = heard[0][0]
        assert (started["metadata"]["seq"], started["metadata"]["actor"]["label"]) == (1, names[0])
        assert [(said["content"], said["name"]) for said in started["input"]["messages"]] == [("from Ann", names[0])]
        await asyncio.to_thread(_asks_by_openai, server, session, "from a program")
        heard = [await hear_run(ws) for ws in (ann, bob)]
        assert heard[0] == heard[1]
        assert heard[0][0]["metadata"]["actor"]["kind"] == "api_key"
        assert heard[0][0]["input"]["messages"][0]["content"] == "from a program"
    with closing(signed_in(server)) as operator:
        for run, said in ((started, "from Ann"), (heard[0][0], "from a program")):
            page = operator.get(f"/t/acme/admin/runs/run/{run['runId']}/change/")
            assert page.status_code == 200
            assert "RUN_STARTED" in page.text
            assert said in page.text
            assert run["metadata"]["actor"]["label"] in page.text
    for client in people:
        client.close()


def _asks_by_openai(server: Server, session: str, text: str) -> None:
    messages = [{"role": "user", "content": text}]
    body = {"model": "scripted", "messages": messages, "metadata": {"session_id": session}}
    with server.client() as http:
        assert http.post("chat/completions", json=body).status_code == 200


async def test_presence_across_processes(server: Server, second: Server, session: str) -> None:
    with server.client() as http:
        other = http.post("api-keys", json={"name": f"key of {session}", "role": "member"}).json()
    async with socket(server, session) as ws:
        await present(ws, lambda found: len(found) == 1)
        async with socket(second, session, key=other["token"]) as far:
            both = await present(ws, lambda found: len(found) == 2)
            assert await present(far, lambda found: len(found) == 2) == both
            await far.send('{"type": "typing"}')
            typing = await present(ws, lambda found: any(person["typing"] for person in found))
            assert [person["label"] for person in typing if person["typing"]] == [f"key of {session}"]
            await present(ws, lambda found: not any(person["typing"] for person in found))
        await present(ws, lambda found: len(found) == 1)


async def test_a_server_that_stops_takes_its_people_with_it(server: Server, session: str) -> None:
    with server.client() as http:
        other = http.post("api-keys", json={"name": f"key of {session}", "role": "member"}).json()
    async with socket(server, session) as ws:
        with serving(server.site, server.kind) as second:
            far = await socket(second, session, key=other["token"])
            await present(ws, lambda found: len(found) == 2)
        await present(ws, lambda found: len(found) == 1)
        await far.close()


class Participant:
    """What a socket's client has: each message as it came, and when."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.said: list[str] = []
        self.at: dict[str, float] = {}
        self._answers: dict[str, str] = {}

    async def listen(self, wanted: int) -> None:
        while len(self.said) < wanted:
            event = await hear(self.ws)
            assert event["type"] != "error", event
            if event["type"] == "RUN_STARTED":
                for message in event["input"]["messages"]:
                    self._have(f"user: {message['content']}")
            elif event["type"] == "TEXT_MESSAGE_CONTENT":
                id = event["messageId"]
                self._answers[id] = self._answers.get(id, "") + event["delta"]
            elif event["type"] == "TEXT_MESSAGE_END":
                self._have(f"assistant: {self._answers[event['messageId']]}")

    def _have(self, said: str) -> None:
        self.said.append(said)
        self.at.setdefault(said, time.monotonic())


@asynccontextmanager
async def participants(servers: list[Server], session: str) -> AsyncIterator[list[Participant]]:
    async with AsyncExitStack() as stack:
        made = []
        for number in range(PEOPLE):
            ws = await stack.enter_async_context(socket(servers[number % len(servers)], session))
            made.append(Participant(ws))
        yield made


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [1, 2])
async def test_fifty_people_have_every_message_in_the_same_order(uvicorn: Server, session: str, count: int) -> None:
    """5 messages a second; of one server, and of two that share the session."""
    async with AsyncExitStack() as stack:
        servers = [uvicorn, *[stack.enter_context(serving(uvicorn.site, "uvicorn")) for _ in range(count - 1)]]
        people = await stack.enter_async_context(participants(servers, session))
        messages = A_SECOND * SECONDS
        listening = asyncio.gather(*(person.listen(2 * messages) for person in people))
        sent = {}
        for number in range(messages):
            text = f"message {number}"
            sent[f"user: {text}"] = time.monotonic()
            await people[number % PEOPLE].ws.send(run_frame(text, session))
            await asyncio.sleep(1 / A_SECOND)
        async with asyncio.timeout(300):
            await listening
    _report(people, sent, count)
    order = people[0].said
    assert sorted(said for said in order if said.startswith("user")) == sorted(sent)
    assert [said for said in order if said.startswith("assistant")] == [
        said.replace("user: ", "assistant: You said: ") for said in order if said.startswith("user")
    ]
    assert all(person.said == order for person in people)


def _report(people: list[Participant], sent: dict[str, float], servers: int) -> None:
    took = sorted(person.at[said] - at for person in people for said, at in sent.items())
    whole = sorted(
        person.at[said.replace("user: ", "assistant: You said: ")] - at
        for person in people
        for said, at in sent.items()
    )
    for name, seconds in (("a message", took), ("its answer's end", whole)):
        marks = quantiles(seconds, n=20)
        print(f"\n{servers} server(s): {name} p50 {marks[9] * 1000:.0f} ms, p95 {marks[18] * 1000:.0f} ms", flush=True)
