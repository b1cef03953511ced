"""Thousands of jobs of many tenants over a small pool, with cancels, rollbacks, killed backends: no foreign row.

The same hostility with "forget after a rollback" switched off must read foreign rows, else this test could not fail.
"""

import asyncio
import random
from collections import Counter
from typing import Any
from uuid import UUID

import psycopg
import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import DatabaseError, connection, connections, transaction

from core.db.base import DatabaseWrapper
from core.ids import uuid7
from core.tenant import tenant_context
from tenants.models import Tenant
from toolsets.models import Toolset

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True, databases=["default", "owner"])]
JOBS, TENANTS, ROWS = 1000, 40, 5


@pytest.fixture
def tenant_ids(transactional_db: None) -> list[UUID]:
    ids = [uuid7() for _ in range(TENANTS)]
    for number, id_ in enumerate(ids):
        with tenant_context(id_):
            Tenant.objects.create(id=id_, slug=f"t{number}", name="t")
            rows = [Toolset(tenant_id=id_, slug=f"s{row}", name="s", kind="time") for row in range(ROWS)]
            Toolset.objects.bulk_create(rows)
    connections.close_all()  # the killer must not hit the one that will clean up
    return ids


def test_no_row_of_another_tenant_is_ever_read(tenant_ids: list[UUID]) -> None:
    seen = asyncio.run(hostile(tenant_ids, JOBS))
    print(dict(seen))
    assert seen["leaks"] == 0
    assert min(seen[name] for name in ("read", "rollback", "savepoint", "nested", "raw", "iterated", "no tenant")) > 20
    assert seen["cancelled"] > 50
    assert seen["killed"] > 0


def test_the_same_leaks_when_a_rollback_is_not_followed_by_forgetting(
    tenant_ids: list[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    forget = DatabaseWrapper._forget_tenant
    monkeypatch.setattr(DatabaseWrapper, "_forget_tenant", lambda self: None)
    monkeypatch.setattr(DatabaseWrapper, "connect", _forgetting(DatabaseWrapper.connect, forget))
    seen = asyncio.run(hostile(tenant_ids, JOBS // 2))
    print(dict(seen))
    assert seen["leaks"] > 0


def _forgetting(connect: Any, forget: Any) -> Any:
    def wrapped(self: DatabaseWrapper) -> None:
        forget(self)
        connect(self)

    return wrapped


class Hostility:
    def __init__(self, tenants: list[UUID]) -> None:
        self.tenants = tenants
        self.seen: Counter[str] = Counter()
        self.random = random.Random(7)

    def check(self, what: str, tenant: UUID) -> None:
        self.seen[what] += 1
        rows = list(Toolset.objects.values_list("tenant_id", flat=True)[:20])
        self.seen["leaks"] += sum(row != tenant for row in rows)

    def work(self, tenant: UUID) -> None:
        action = self.random.choice([self.read, self.rollback, self.savepoint, self.nested, self.raw])
        try:
            action(tenant)
        finally:
            if self.random.random() < 0.5:
                connection.close()

    def read(self, tenant: UUID) -> None:
        self.check("read", tenant)

    def rollback(self, tenant: UUID) -> None:
        """The rollback takes the connection back to the tenant that it had before the transaction."""
        other = self.random.choice(self.tenants)
        with tenant_context(other):
            self.check("nested", other)
        try:
            with transaction.atomic():
                self.check("in transaction", tenant)
                raise ValueError
        except ValueError:
            self.check("rollback", tenant)

    def savepoint(self, tenant: UUID) -> None:
        with transaction.atomic():
            try:
                with transaction.atomic(), connection.cursor() as cursor:
                    cursor.execute("SELECT 1 / 0")
            except DatabaseError:
                self.check("savepoint", tenant)
            other = self.random.choice(self.tenants)
            try:
                with transaction.atomic(), tenant_context(other):
                    self.check("in savepoint", other)
                    raise ValueError
            except ValueError:
                self.check("savepoint", tenant)

    def nested(self, tenant: UUID) -> None:
        other = self.random.choice(self.tenants)
        with tenant_context(other):
            self.check("nested", other)
        self.check("nested", tenant)

    def raw(self, tenant: UUID) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT tenant_id FROM toolset LIMIT 20")
            self.seen["raw"] += 1
            self.seen["leaks"] += sum(row[0] != tenant for row in cursor.fetchall())

    async def job(self, tenant: UUID) -> None:
        with tenant_context(tenant):
            async with ThreadSensitiveContext():
                try:
                    for _ in range(4):
                        await self.step(tenant)
                finally:
                    await asyncio.shield(sync_to_async(lambda: connection.close())())

    async def step(self, tenant: UUID) -> None:
        if self.random.random() < 0.4:
            rows = [row async for row in Toolset.objects.values_list("tenant_id", flat=True)[:20]]
            self.seen["iterated"] += 1
            self.seen["leaks"] += sum(row != tenant for row in rows)
        else:
            await sync_to_async(self.work)(tenant)

    async def no_tenant(self) -> None:
        async with ThreadSensitiveContext():
            try:
                self.seen["leaks"] += await Toolset.objects.acount()
                self.seen["no tenant"] += 1
            finally:
                await asyncio.shield(sync_to_async(lambda: connection.close())())


async def hostile(tenants: list[UUID], jobs: int) -> Counter[str]:
    host = Hostility(tenants)
    places = asyncio.Semaphore(12)
    done = asyncio.Event()
    killer = asyncio.create_task(_kill_backends(host, done))

    async def one() -> None:
        async with places:
            work = host.no_tenant() if host.random.random() < 0.1 else host.job(host.random.choice(tenants))
            task = asyncio.create_task(work)
            if host.random.random() < 0.25:
                await asyncio.sleep(host.random.random() * 0.02)
                task.cancel()
                host.seen["cancelled"] += 1
            try:
                await task
            except asyncio.CancelledError:
                pass
            except DatabaseError:
                host.seen["connection lost"] += 1

    await asyncio.gather(*(one() for _ in range(jobs)))
    done.set()
    await killer
    return host.seen


async def _kill_backends(host: Hostility, done: asyncio.Event) -> None:
    config = connections["default"].settings_dict
    login = {"host": config["HOST"], "port": config["PORT"], "user": config["USER"], "password": config["PASSWORD"]}
    victim = (
        "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database() "
        "AND usename = current_user ORDER BY random() LIMIT 1"
    )
    async with await psycopg.AsyncConnection.connect(dbname=config["NAME"], autocommit=True, **login) as killer:
        while not done.is_set():
            await asyncio.sleep(0.5)
            cursor = await killer.execute(f"SELECT count(pg_terminate_backend(pid)) FROM ({victim}) AS one")
            row = await cursor.fetchone()
            host.seen["killed"] += row[0] if row else 0
