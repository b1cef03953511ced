"""Many posts of one request at the same moment, at two servers: one run.

The issue's size: IDEMPOTENCY_ROUNDS=100 pytest tests/outside/test_idempotency.py
"""

import asyncio
from uuid import uuid4

import aiohttp
import psycopg

from tests.outside.fleet import scale
from tests.outside.readers import frames
from tests.outside.site import Server, Site

ROUNDS = scale("IDEMPOTENCY_ROUNDS", 15)
POSTS = 50


def test_simultaneous_posts_with_one_key_begin_one_run(site: Site, uvicorn: Server, daphne: Server) -> None:
    keys = [f"once-{uuid4().hex}" for _ in range(ROUNDS)]
    answers = asyncio.run(all_rounds([uvicorn, daphne], keys))
    assert [len(found) for found in answers] == [1] * ROUNDS, answers
    assert runs_of(site, keys) == [1] * ROUNDS


async def all_rounds(servers: list[Server], keys: list[str]) -> list[set[tuple[int, str, str]]]:
    headers = {"Authorization": f"Bearer {servers[0].site.key('acme')}"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as http:
        return [await one_round(http, servers, key) for key in keys]


async def one_round(http: aiohttp.ClientSession, servers: list[Server], key: str) -> set[tuple[int, str, str]]:
    """The different answers: status, run and text."""
    posts = [post(http, servers[number % len(servers)], key) for number in range(POSTS)]
    return set(await asyncio.gather(*posts))


async def post(http: aiohttp.ClientSession, server: Server, key: str) -> tuple[int, str, str]:
    body = {"model": "scripted", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    headers = {"Idempotency-Key": key}
    async with http.post(f"{server.api}/chat/completions", json=body, headers=headers) as response:
        said = [chunk["choices"][0]["delta"].get("content") or "" async for _, _, chunk in frames(response) if chunk]
        return response.status, response.headers["X-Run-Id"], "".join(said)


def runs_of(site: Site, keys: list[str]) -> list[int]:
    """How many runs were begun with each key."""
    query = "SELECT count(*) FROM run WHERE request ->> 'idempotency_key' = %s"
    with psycopg.connect(site.env["DATABASE_URL"], options="-c role=app_ops") as connection:
        return [connection.execute(query, [key]).fetchone()[0] for key in keys]
