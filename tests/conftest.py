"""Fixtures of the whole suite: two tenants, three actors, and clients that speak as they do."""

import asyncio
import inspect
import os
import shutil
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import orjson
import psycopg
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings as django_settings
from django.db import connections, transaction
from django.test import AsyncClient, Client, TransactionTestCase
from django.test.utils import setup_databases, teardown_databases

from agents.services import agent_create
from core import aio
from core.tenant import tenant_context
from llm import capabilities
from llm.door import cache, circuits, health
from llm.routing import stored
from llm.selectors import providers as selectors
from llm.services.providers import provider_create
from runs.store import Store
from sandbox import client as sandbox
from tenants import authentication
from tenants.models import Tenant
from tenants.principal import Principal, system_principal
from tenants.services import api_key_create, tenant_create
from toolsets.services import toolset_create
from usage import budgets, periods, prices


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """`async def` tests run by async_to_sync, so that their database work shares the test's transaction."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj) or pyfuncitem.get_closest_marker("asyncio"):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    async_to_sync(_played)(pyfuncitem.obj(**arguments))
    return True


async def _played(test: Coroutine[Any, Any, None]) -> None:
    """What it left running ends with it: later its database work would not share the transaction."""
    try:
        await test
    finally:
        await sandbox.shut_down()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of a program that is missing are left out, as `start.py test` says; with TEST_EVERYTHING they fail, but for
    those of Dovecot, which are skipped: CI says why it could not be installed.
    """
    if os.environ.get("TEST_EVERYTHING"):
        return
    without = {name for name in ("chromium", "dovecot", "node") if shutil.which(name) is None}
    left_out = [item for item in items if without & set(getattr(item, "fixturenames", ()))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None, django_db_blocker: Any, django_db_modify_db_settings: None
) -> Iterator[None]:
    """The test database is made through `owner`, whichever aliases the tests at hand use."""
    with django_db_blocker.unblock():
        made = setup_databases(verbosity=0, interactive=False)
    django_settings.STREAM_DATABASE["NAME"] = connections["owner"].settings_dict["NAME"]
    yield
    with django_db_blocker.unblock():
        for connection in connections.all(initialized_only=True):
            connection.close()
            connection.close_pool()
        _end_sessions()
        teardown_databases(made, verbosity=0)


_KEPT = {"django_content_type", "auth_permission"}  # the same for all tests


def _empty_tables(case: TransactionTestCase) -> None:
    """After a transactional test. Django's `flush` makes the files of all tables anew, and the permissions: 0.3 s.

    As there, what another connection has begun to write is waited for.
    """
    with transaction.atomic(using="owner"), connections["owner"].cursor() as cursor:
        cursor.execute(_emptying())


@lru_cache
def _emptying() -> str:
    names = connections["owner"].introspection.django_table_names(only_existing=True, include_views=False)
    tables = [f'"{name}"' for name in sorted({*names} - _KEPT)]
    deletes = "; ".join(f"DELETE FROM {table}" for table in tables)  # by a role that sees the rows of all tenants
    return f"LOCK TABLE {', '.join(tables)}; SET CONSTRAINTS ALL DEFERRED; SET LOCAL ROLE app_ops; {deletes}"


TransactionTestCase._fixture_teardown = _empty_tables  # type: ignore[attr-defined]


def _end_sessions() -> None:
    """A pool that closes forgets the connections that it is still resetting; they would keep the database in use."""
    config = connections["owner"].settings_dict
    login = {"host": config["HOST"], "port": config["PORT"], "user": config["USER"], "password": config["PASSWORD"]}
    with psycopg.connect(dbname=config["NAME"], autocommit=True, **login) as session:
        session.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename = current_user"
        )


async def _none_stored(thread: str) -> list[str]:
    return []


class Rows(list[Any]):
    async def fetchall(self) -> list[Any]:
        return self


class SharedStore(Store):
    """The event log's statements, as its role, on the connection that has the test's transaction."""

    async def _execute(self, statements: list[tuple[str, Any]]) -> list[Any]:
        return await sync_to_async(self._shared, thread_sensitive=True)(statements)

    def _shared(self, statements: list[tuple[str, Any]]) -> list[Any]:
        with transaction.atomic(), connections["default"].cursor() as cursor:
            cursor.execute("SET LOCAL ROLE app_stream")
            answers = [self._answer(cursor, *statement) for statement in statements]
            cursor.execute("SET LOCAL ROLE app_owner")
        return answers

    def _answer(self, cursor: Any, sql: str, given: Any) -> Rows:
        if sql in ("BEGIN", "COMMIT"):
            return Rows()
        cursor.execute(sql, given)
        return Rows(cursor.fetchall() if cursor.description else [])


@pytest.fixture(autouse=True)
def _one_database_thread(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Database work of async code joins the test's transaction, unless the test is a transactional one."""
    marker = request.node.get_closest_marker("django_db")
    if marker is not None and marker.kwargs.get("transaction"):
        return

    monkeypatch.setattr(aio, "_in_thread", lambda unit: sync_to_async(unit, thread_sensitive=True)())
    monkeypatch.setattr("runs.process.Store", SharedStore)
    monkeypatch.setattr("agents.executable.thread_of", lambda *_: None)  # checkpoints have connections of their own
    monkeypatch.setattr("runs.runner.stored_checkpoints", _none_stored)
    monkeypatch.setattr("runs.listener.Listener.start", lambda self: None)
    monkeypatch.setattr("runs.presence.Presence._ensure_work", lambda self: None)
    monkeypatch.setattr("runs.presence.Presence._live", lambda self: None)
    monkeypatch.setattr("channels.db.close_old_connections", lambda: None)


@pytest.fixture(autouse=True)
def _cold_caches() -> Iterator[None]:
    yield
    authentication._cache.clear()
    authentication._touched.clear()
    authentication.forget_guests()
    for known in (budgets._active, prices._own, periods._known, selectors._connections, stored._routes):
        known.clear()
    for forget in (circuits.forget_all, health.forget_all, cache.forget_recent, capabilities._settings.clear):
        forget()


@pytest.fixture
def acme(db: None) -> Tenant:
    return tenant_create(slug="acme", name="Acme")


@pytest.fixture
def globex(db: None) -> Tenant:
    return tenant_create(slug="globex", name="Globex")


@dataclass
class Actor:
    """Somebody with an API key, and clients that send it."""

    tenant: Tenant
    role: str
    token: str
    principal: Principal
    http: Client = field(init=False)
    ahttp: AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        self.http = Client(headers=self.headers, raise_request_exception=False)
        self.ahttp = AsyncClient(raise_request_exception=False)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def get(self, path: str, **query: Any) -> Any:
        return self.http.get(f"/v1/{path}", query)

    def send(self, method: str, path: str, body: Any = None) -> Any:
        data = b"" if body is None else orjson.dumps(body)
        return self.http.generic(method, f"/v1/{path}", data, content_type="application/json")

    post = property(lambda self: partial(self.send, "POST"))
    put = property(lambda self: partial(self.send, "PUT"))
    patch = property(lambda self: partial(self.send, "PATCH"))
    delete = property(lambda self: partial(self.send, "DELETE"))

    async def apost(self, path: str, body: Any) -> Any:
        data = orjson.dumps(body)
        return await self.ahttp.generic("POST", f"/v1/{path}", data, "application/json", headers=self.headers)

    async def aget(self, path: str, **query: Any) -> Any:
        return await self.ahttp.get(f"/v1/{path}", query, headers=self.headers)


def make_actor(tenant: Tenant, role: str, **key: Any) -> Actor:
    system = system_principal(tenant.id, tenant.slug)
    with tenant_context(tenant.id):
        row, token = api_key_create(actor=system, name=f"{role} of {tenant.slug}", role=role, **key)
    scopes = frozenset(row.scopes)
    principal = Principal(tenant.id, tenant.slug, "api_key", row.id, row.name, role, scopes)
    return Actor(tenant, role, token, principal)


@pytest.fixture
def owner(acme: Tenant) -> Actor:
    return make_actor(acme, "owner")


@pytest.fixture
def viewer(acme: Tenant) -> Actor:
    """The teammate who may look and not touch."""
    return make_actor(acme, "viewer")


@pytest.fixture
def stranger(globex: Tenant) -> Actor:
    """The owner of another tenant."""
    return make_actor(globex, "owner")


@pytest.fixture
def in_acme(acme: Tenant) -> Iterator[Tenant]:
    with tenant_context(acme.id):
        yield acme


async def settle() -> None:
    """Let the tasks of this loop that are ready go on."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def scripted(acme: Tenant) -> str:
    """An active agent of acme on the deterministic model, granted the `time` toolset; its slug."""
    system = system_principal(acme.id, acme.slug)
    with tenant_context(acme.id):
        provider_create(actor=system, slug="scripted", kind="scripted")
        toolset_create(actor=system, slug="time", name="Time", kind="time")
        agent_create(
            actor=system,
            slug="helper",
            name="Helper",
            template="conversation",
            model="scripted/default",
            instructions="Help.",
            toolsets=["time"],
            status="active",
        )
    return "helper"
