"""A budget with room for one call, two servers, and 200 requests at once; and a server that is killed in the middle."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import aiohttp
import orjson
import psycopg
import pytest

from tests.outside.fleet import Fleet, fleet
from tests.outside.site import Server, Site

REQUESTS = 200
SLOW_ANSWER = "#script " + orjson.dumps([{"say": "done", "delay_ms": 6000}]).decode()
ONE_CALL = len(SLOW_ANSWER) // 2 + 8 + 4  # US dollars that are held for it, at one for each token
CAP = ONE_CALL + 5


@pytest.fixture(scope="module")
def pair(site: Site) -> Iterator[Fleet]:
    with fleet(Site(site.home, {**site.env, "RUN_LEASE_SECONDS": "2"})) as made:
        with made.servers[0].client() as http:
            price = {"provider": "scripted", "model": "*", "input": "1000000", "output": "1000000"}
            created = http.post("prices", json=price)
            assert created.status_code == 201, created.text
        yield made


@pytest.fixture
def cap(pair: Fleet) -> Iterator[str]:
    """A budget of one end user, whom no other test is."""
    with pair.servers[0].client() as http:
        body = {"slug": "cap", "scope": "end_user", "subject": "ada", "amount": str(CAP), "period": "total"}
        created = http.post("budgets", json=body)
        assert created.status_code == 201, created.text
        time.sleep(5)  # until every process knows of it
        yield "cap"
        assert http.delete("budgets/cap").status_code == 204


def asked(server: Server, http: aiohttp.ClientSession) -> Any:
    messages = [{"role": "user", "content": SLOW_ANSWER}]
    body = {"model": "scripted/default", "messages": messages, "max_tokens": 4, "metadata": {"user_id": "ada"}}
    return http.post(f"{server.api}/chat/completions", json=body)


async def ask(server: Server, http: aiohttp.ClientSession) -> tuple[int, str]:
    async with asked(server, http) as response:
        error = (await response.json()).get("error") or {}
        return response.status, error.get("code", "")


async def ask_all(servers: list[Server]) -> Counter[tuple[int, str]]:
    headers = {"Authorization": f"Bearer {servers[0].site.key('acme')}"}
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as http:
        return Counter(await asyncio.gather(*(ask(servers[place % 2], http) for place in range(REQUESTS))))


def period(site: Site) -> tuple[Decimal, Decimal, Decimal]:
    """Of the cap: spent, reserved, and what the records say."""
    sql = """
        SELECT spent, reserved, (SELECT coalesce(sum(charge), 0) FROM usage_record WHERE end_user = 'ada')
        FROM budget_period WHERE subject = 'ada'
    """
    with psycopg.connect(site.env["DATABASE_URL"], options="-c role=app_ops") as connection:
        found = connection.execute(sql).fetchone()
        assert found is not None
        return found


@pytest.mark.timeout(120)
def test_two_servers_never_spend_more_than_the_cap(pair: Fleet, cap: str) -> None:
    outcomes = asyncio.run(ask_all(pair.servers))
    assert outcomes == {(200, ""): 1, (429, "budget_exceeded"): REQUESTS - 1}
    spent, reserved, recorded = period(pair.servers[0].site)
    assert (reserved, spent) == (0, recorded)
    assert 0 < spent <= CAP
    pair.servers[0].site.verify_usage()


@pytest.mark.timeout(120)
def test_a_killed_server_gives_back_what_it_held(pair: Fleet, cap: str) -> None:
    site = pair.servers[0].site
    before = period(site)[0] if rows(site) else Decimal(0)
    asyncio.run(killed_in_the_middle(pair))
    deadline = time.monotonic() + 30
    while (found := period(site))[1]:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    spent, _, recorded = found
    assert spent == recorded
    assert before < spent <= CAP  # what the lost call may have cost is estimated
    site.verify_usage()


def rows(site: Site) -> int:
    with psycopg.connect(site.env["DATABASE_URL"], options="-c role=app_ops") as connection:
        found = connection.execute("SELECT count(*) FROM budget_period WHERE subject = 'ada'").fetchone()
        return int(found[0]) if found else 0


async def killed_in_the_middle(pair: Fleet) -> None:
    headers = {"Authorization": f"Bearer {pair.servers[0].site.key('acme')}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        under_way = asyncio.ensure_future(ask(pair.servers[0], http))
        async with asyncio.timeout(20):
            while not rows(pair.servers[0].site) or not period(pair.servers[0].site)[1]:
                assert not under_way.done(), under_way.result()
                await asyncio.sleep(0.05)
        await asyncio.to_thread(pair.members[0].kill)
        with pytest.raises(aiohttp.ClientError):
            await under_way
