"""Who is in a session, as its sockets are told; two processes are two `Presence` of one database."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import orjson
import psycopg
import pytest
from asgiref.sync import sync_to_async

from runs import presence as module
from runs.models import OpenSocket, SocketServer
from runs.presence import Presence
from runs.presence_store import PresenceStore
from runs.tasks import forget_sockets
from tenants.models import Tenant
from tenants.principal import Principal
from tests.conftest import Actor
from tests.runs.test_socket import hear, hear_run, run_input, say, socket
from tests.runs.test_writer import outside

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner", "ops"])
TOPIC = UUID(int=7)
FOREVER = 15.0  # seconds of a test's patience


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEBOUNCE", 0.01)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)


class Counted(PresenceStore):
    def __init__(self) -> None:
        super().__init__()
        self.reads = self.writes = 0

    async def present(self, topics: Any) -> Any:
        self.reads += 1
        return await super().present(topics)

    async def change(self, *given: Any) -> None:
        self.writes += 1
        await super().change(*given)


class Here:
    """A process, which tells the `others` as the database would notify them."""

    def __init__(self) -> None:
        self.id, self.store = uuid4(), Counted()
        self.others: list[Here] = []
        self.presence = Presence(self.id, self.store, self._tell)

    def _tell(self, topic: UUID) -> None:
        for other in self.others:
            other.presence.look(topic)


@asynccontextmanager
async def processes(count: int = 1) -> AsyncIterator[list[Here]]:
    made = [Here() for _ in range(count)]
    for here in made:
        here.others = [other for other in made if other is not here]
    try:
        yield made
    finally:
        for here in made:
            await here.presence.close()


class Socket:
    def __init__(self) -> None:
        self.frames: list[Any] = []

    def show(self, frame: str) -> None:
        self.frames.append(orjson.loads(frame)["value"]["participants"])

    @property
    def people(self) -> list[str]:
        return sorted(person["label"] for person in self.frames[-1]) if self.frames else []

    @property
    def typing(self) -> list[str]:
        return [person["label"] for person in self.frames[-1] if person["typing"]] if self.frames else []

    @property
    def typed(self) -> bool:
        """Ever, so that nobody must look in time."""
        return any(person["typing"] for frame in self.frames for person in frame)


def person(tenant: Tenant, name: str) -> Principal:
    return Principal(tenant.id, tenant.slug, "user", uuid4(), name, "member")


async def until(holds: Any) -> None:
    async with asyncio.timeout(FOREVER):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_all_sockets_of_all_processes_see_who_comes_and_goes(acme: Tenant) -> None:
    ann, bob = person(acme, "Ann"), person(acme, "Bob")
    async with processes(2) as (one, two):
        with ExitStack() as stack:
            first, again, other = Socket(), Socket(), Socket()
            stack.enter_context(one.presence.seated(TOPIC, ann, "owner", first.show))
            await until(lambda: first.people == ["Ann"])
            with two.presence.seated(TOPIC, bob, "member", other.show):
                await until(lambda: first.people == other.people == ["Ann", "Bob"])
                with one.presence.seated(TOPIC, ann, "owner", again.show):
                    await until(lambda: again.people == ["Ann", "Bob"])
                assert [entry["role"] for entry in other.frames[-1]] == ["owner", "member"]
            await until(lambda: first.people == ["Ann"])


async def test_many_sockets_share_one_read(acme: Tenant) -> None:
    async with processes() as (here,):
        sockets = [Socket() for _ in range(50)]
        with ExitStack() as stack:
            for number, socket in enumerate(sockets):
                actor = person(acme, f"{number:02}")
                stack.enter_context(here.presence.seated(TOPIC, actor, "member", socket.show))
            await until(lambda: all(len(socket.people) == 50 for socket in sockets))
            assert (here.store.reads, here.store.writes) == (1, 1)


async def test_a_session_is_its_tenants(acme: Tenant, globex: Tenant) -> None:
    async with processes() as (here,):
        ours, theirs = Socket(), Socket()
        with (
            here.presence.seated(TOPIC, person(acme, "Ann"), "member", ours.show),
            here.presence.seated(UUID(int=8), person(globex, "Spy"), "member", theirs.show),
        ):
            await until(lambda: ours.people == ["Ann"] and theirs.people == ["Spy"])


@pytest.mark.parametrize("ahead", [0, 1])
async def test_the_end_of_typing_is_seen_by_a_timer_that_comes_early(
    acme: Tenant, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """One look at the clock is before the end, the next behind it, whichever comes first."""
    looks = itertools.count(ahead)
    jumping = property(lambda _: asyncio.get_running_loop().time() + (0.002 if next(looks) % 2 else -0.002))
    monkeypatch.setattr(module, "TYPING_SECONDS", 0.2)
    async with processes() as (one,):
        first, ann = Socket(), person(acme, "Ann")
        with one.presence.seated(TOPIC, ann, "member", first.show):
            await until(lambda: first.people == ["Ann"])
            monkeypatch.setattr(Presence, "_now", jumping)
            one.presence.typing(TOPIC, ann)
            await until(lambda: first.typed)
            await until(lambda: first.typing == [])


async def test_typing_ends_by_itself_and_with_a_message(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    ann, bob = person(acme, "Ann"), person(acme, "Bob")
    async with processes(2) as (one, two):
        first, other = Socket(), Socket()
        with (
            one.presence.seated(TOPIC, ann, "member", first.show),
            two.presence.seated(TOPIC, bob, "member", other.show),
        ):
            await until(lambda: first.people == other.people == ["Ann", "Bob"])
            one.presence.typing(TOPIC, ann)
            await until(lambda: first.typing == other.typing == ["Ann"])
            writes = one.store.writes
            one.presence.typing(TOPIC, ann)  # so soon it is no news
            two.presence.spoke(TOPIC, bob)  # who did not type
            await asyncio.sleep(0.1)
            assert (one.store.writes, two.store.writes) == (writes, 1)
            one.presence.spoke(TOPIC, ann)
            await until(lambda: first.typing == other.typing == [])
            monkeypatch.setattr(module, "TYPING_SECONDS", 0.5)
            del other.frames[:-1]
            one.presence.typing(TOPIC, ann)
            await until(lambda: other.typed)
            await until(lambda: first.typing == other.typing == [])
            frames, writes = len(other.frames), one.store.writes
            one.presence.typing(TOPIC, ann)
            one.presence.spoke(TOPIC, ann)  # before anybody was told that she typed, as after a paste and Enter
            await until(lambda: one.store.writes > writes)
            two.presence.look(TOPIC)
            await asyncio.sleep(0.3)
            del other.frames[:frames]
            assert not other.typed


async def test_a_stopping_process_takes_its_people_with_it(acme: Tenant) -> None:
    async with processes(2) as (one, two):
        first, other = Socket(), Socket()
        with (
            one.presence.seated(TOPIC, person(acme, "Ann"), "member", first.show),
            two.presence.seated(TOPIC, person(acme, "Bob"), "member", other.show),
        ):
            await until(lambda: other.people == ["Ann", "Bob"])
            await one.presence.leave(5)
            await until(lambda: other.people == ["Bob"])


async def test_a_dead_process_ages_out_and_is_forgotten(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.BEAT_SECONDS + module.ALIVE_SECONDS <= 45
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(module, "ALIVE_SECONDS", 3.0)
    async with processes(2) as (one, two):
        first, other = Socket(), Socket()
        with (
            one.presence.seated(TOPIC, person(acme, "Ann"), "member", first.show),
            two.presence.seated(TOPIC, person(acme, "Bob"), "member", other.show),
        ):
            await until(lambda: other.people == ["Ann", "Bob"])
            await one.presence._stop()  # as killed
            await until(lambda: other.people == ["Bob"])
            await sync_to_async(aged)(one.id)
            await sync_to_async(forget_sockets)()
            servers = await sync_to_async(lambda: [str(row) for row in SocketServer.objects.using("ops")])()
            people = await sync_to_async(lambda: [str(row) for row in OpenSocket.objects.using("ops")])()
            assert (servers, people) == ([str(two.id)], ["Bob"])


def aged(server: UUID) -> None:
    SocketServer.objects.using("ops").filter(id=server).update(alive_until="2020-01-01T00:00Z")


async def test_a_stall_leaves_the_last_list_and_what_came_meanwhile_is_told_after_it(acme: Tenant) -> None:
    async with processes() as (here,):
        first, second = Socket(), Socket()
        with here.presence.seated(TOPIC, person(acme, "Ann"), "member", first.show):
            await until(lambda: first.people == ["Ann"])
            async with outside() as other, other.transaction():
                await other.execute("LOCK TABLE open_socket")
                with here.presence.seated(TOPIC, person(acme, "Bob"), "member", second.show):
                    await asyncio.sleep(0.5)
                    assert (first.people, second.frames) == (["Ann"], [])
            with here.presence.seated(TOPIC, person(acme, "Cid"), "member", second.show):
                await until(lambda: first.people == second.people == ["Ann", "Cid"])


async def test_a_process_that_was_forgotten_tells_all_anew(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.2)
    async with processes(2) as (one, two):
        first, other = Socket(), Socket()
        with (
            one.presence.seated(TOPIC, person(acme, "Ann"), "member", first.show),
            two.presence.seated(TOPIC, person(acme, "Bob"), "member", other.show),
        ):
            await until(lambda: other.people == ["Ann", "Bob"])
            async with outside("app_ops") as database:
                await database.execute("DELETE FROM open_socket WHERE server = %s", [one.id])
                await database.execute("DELETE FROM socket_server WHERE id = %s", [one.id])
            two.presence.look(TOPIC)
            await until(lambda: sorted(other.people) == ["Ann", "Bob"])


async def test_only_the_log_writes_who_is_present(acme: Tenant) -> None:
    async with outside("app_user") as other:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await other.execute("DELETE FROM socket_server")


async def test_sockets_are_told(owner: Actor, viewer: Actor, scripted: str, in_acme: Tenant) -> None:
    async with socket(owner) as first, socket(viewer) as second:
        while len(people := (await hear(first, presence=True))["value"]["participants"]) < 2:
            pass
        assert [(entry["kind"], entry["label"], entry["role"]) for entry in people] == [
            ("api_key", "owner of acme", "owner"),
            ("api_key", "viewer of acme", "viewer"),
        ]
        await say(first, {"type": "typing"})
        while not (entry := (await hear(second, presence=True))["value"]["participants"][0])["typing"]:
            pass
        assert entry["label"] == "owner of acme"
        await say(first, {"type": "run", "agent": scripted, "input": run_input("done")})
        await hear_run(first)
        await say(second, {"type": "typing"})
        assert (await hear(second))["type"] == "RUN_STARTED"
