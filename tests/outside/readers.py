"""Clients of a run as they should be: each obeys the cursor and the events, and survives the end of any server.

Three ways to read: server-sent events, the socket, and JSON pages. All come back with the same text.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import aiohttp
import orjson

from tests.outside.site import Server

ENDS = ("RUN_FINISHED", "RUN_ERROR")
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=2, sock_read=4)
TROUBLE = (aiohttp.ClientError, TimeoutError, ConnectionError)
RETRY_SECONDS = 0.2


class Impossible(AssertionError):
    """Something that a server must never do."""


class Reader:
    """`seen` is every event by its seq, `troubles` how often the connection broke or was refused for a moment."""

    def __init__(self, run_id: str, session: str) -> None:
        self.run_id = run_id
        self.session = session
        self.seen: dict[int, dict[str, Any]] = {}
        self.last = 0
        self.ended = False
        self.troubles = 0
        self._said: list[tuple[int, str]] = []

    @property
    def text(self) -> str:
        return "".join(delta for _, delta in self._said)

    def take(self, seq: int, event: dict[str, Any]) -> None:
        """Raises Impossible for a gap, and for an event that is not what it was before."""
        if seq <= self.last:
            if self.seen[seq] != event:
                raise Impossible(f"event {seq} of {self.run_id} changed: {self.seen[seq]} became {event}")
            return
        if seq != self.last + 1:
            raise Impossible(f"event {seq} of {self.run_id} came after {self.last}")
        self.seen[seq] = event
        self.last = seq
        self.ended = event["type"] in ENDS
        if event["type"] == "TEXT_MESSAGE_CONTENT":
            self._said.append((seq, event["delta"]))
        elif event.get("name") == "attempt_restarted":
            self._said = [said for said in self._said if said[0] <= event["value"]["keep"]]

    async def read(self, http: aiohttp.ClientSession, servers: Sequence[Server]) -> "Reader":
        """Until the run has ended, from whichever server answers."""
        while not self.ended:
            server = random.choice(servers)
            try:
                async with aclosing(self.events(http, server)) as events:
                    async for seq, event in events:
                        self.take(seq, event)
            except TROUBLE:
                self.troubles += 1
                await asyncio.sleep(RETRY_SECONDS)
        return self

    def events(self, http: aiohttp.ClientSession, server: Server) -> AsyncIterator[tuple[int, dict[str, Any]]]:
        """What comes over one connection."""
        raise NotImplementedError


def checked(response: aiohttp.ClientResponse) -> None:
    """A server that is ending, or has no database, may say so; anything else is wrong."""
    if response.status in (429, 500, 502, 503):
        raise aiohttp.ClientPayloadError(f"status {response.status}")
    if response.status != 200:
        raise Impossible(f"{response.url} answered {response.status}")


class StreamReader(Reader):
    async def events(self, http: aiohttp.ClientSession, server: Server) -> AsyncIterator[tuple[int, dict[str, Any]]]:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self.last)}
        async with http.get(f"{server.api}/runs/{self.run_id}/events", headers=headers) as response:
            checked(response)
            async for seq, _, event in frames(response):
                if seq is not None:
                    yield seq, event
        if not self.ended:
            raise aiohttp.ClientPayloadError("the stream ended before the run")


async def frames(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[int | None, str, Any]]:
    """Id, type and data of each server-sent event; `[DONE]` is None."""
    seq, kind = None, "message"
    async for line in response.content:
        name, _, value = line.decode().rstrip("\r\n").partition(": ")
        if name == "id":
            seq = int(value)
        elif name == "event":
            kind = value
        elif name == "data":
            yield seq, kind, None if value == "[DONE]" else orjson.loads(value)
            seq, kind = None, "message"


class PageReader(Reader):
    async def events(self, http: aiohttp.ClientSession, server: Server) -> AsyncIterator[tuple[int, dict[str, Any]]]:
        params = {"after": str(self.last), "limit": "1000"}
        async with http.get(f"{server.api}/runs/{self.run_id}/events", params=params) as response:
            checked(response)
            page = await response.json()
        for entry in page["data"]:
            yield entry["seq"], entry["event"]
        await asyncio.sleep(0.3)


class SocketReader(Reader):
    async def events(self, http: aiohttp.ClientSession, server: Server) -> AsyncIterator[tuple[int, dict[str, Any]]]:
        url = f"{server.socket_url}/{self.session}"
        async with http.ws_connect(url, protocols=["agui.v1"], timeout=aiohttp.ClientWSTimeout(2, 1)) as socket:
            await socket.send_json({"type": "since", "run_id": self.run_id, "seq": self.last})
            while not self.ended:
                frame = await asyncio.wait_for(socket.receive(), 4)
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    raise aiohttp.ClientPayloadError("the socket was closed")
                event = orjson.loads(frame.data)
                if (found := place_in(event, self.run_id)) is not None:
                    yield found, event


def place_in(event: dict[str, Any], run_id: str) -> int | None:
    """The seq of an event of the run, which loses what a socket adds to it; None for anything else."""
    metadata = event.get("metadata") or {}
    if metadata.get("run_id") != run_id:
        return None
    seq: int = metadata.pop("seq")
    del metadata["run_id"]
    if not metadata:
        del event["metadata"]
    return seq


READERS: tuple[type[Reader], ...] = (StreamReader, SocketReader, PageReader)
