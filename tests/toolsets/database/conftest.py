"""A second PostgreSQL, reached over TCP as a tenant's would be, and toolsets that log in to it."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
import psycopg
import pytest

from agentsite.embedded import postgres
from agentsite.embedded.home import open_home
from agentsite.embedded.postgres import Cluster
from core.ids import uuid7
from toolsets.base import ToolCallContext
from toolsets.kinds.database.arguments import DatabaseConfig
from toolsets.kinds.database.toolset import DatabaseToolset

PASSWORDS = {"reader": "sesame-of-reader", "clerk": "sesame's of \\ clerk", "other": "sesame-of-other"}
SHOP = """
CREATE ROLE reader LOGIN PASSWORD 'sesame-of-reader';
CREATE ROLE clerk LOGIN PASSWORD 'sesame''s of \\ clerk';
CREATE ROLE other LOGIN PASSWORD 'sesame-of-other';
CREATE TABLE customer (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE, since date);
COMMENT ON TABLE customer IS 'Who buys.';
COMMENT ON COLUMN customer.name IS 'As on the invoice.';
INSERT INTO customer (name, since) VALUES ('Ada', '2024-02-29'), ('Grace', 'infinity'), ('Linus', NULL);
ANALYZE customer;
CREATE TABLE "Order Line" (customer int NOT NULL REFERENCES customer, price numeric(10, 2) DEFAULT 0);
CREATE SCHEMA back; CREATE TABLE back.wage (amount int); INSERT INTO back.wage VALUES (4200);
CREATE SEQUENCE tickets;
CREATE FUNCTION add_customer() RETURNS int LANGUAGE sql AS
    $$ INSERT INTO customer (name) VALUES ('Mallory') RETURNING id $$;
CREATE FUNCTION unlocked() RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN SET LOCAL transaction_read_only = off; RETURN add_customer(); END $$;
CREATE FUNCTION committed() RETURNS text LANGUAGE plpgsql AS $$ BEGIN COMMIT; RETURN add_customer(); END $$;
GRANT ALL ON customer, "Order Line", tickets TO reader; GRANT pg_read_all_data TO reader;
GRANT USAGE ON SCHEMA back TO clerk; GRANT SELECT ON back.wage TO clerk;
"""


@dataclass
class Shop:
    """The database `shop` of the second server; `run` is its superuser."""

    cluster: Cluster

    @property
    def admin_url(self) -> str:
        return self.cluster.admin_url.removesuffix("/postgres") + "/shop"

    def run(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            cursor = connection.execute(sql.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def sessions(self, user: str = "reader") -> list[tuple[str, str]]:
        return self.run("SELECT state, query FROM pg_stat_activity WHERE usename = %s", user)

    def until_left(self) -> None:
        """Returns once no session of the reader is left: the server hears a moment later that one was closed."""
        deadline = time.monotonic() + 20
        while left := self.sessions():
            assert time.monotonic() < deadline, left
            time.sleep(0.02)


@dataclass
class Database:
    """One toolset of the kind."""

    config: DatabaseConfig
    secrets: dict[str, str]
    tenant_id: UUID = field(default_factory=uuid7)
    slug: str = "shop"

    async def ask(self, tool: str, **arguments: Any) -> str:
        found = next(each for each in DatabaseToolset().tools(self.config) if each.name == tool)
        context = ToolCallContext(self.tenant_id, toolset=self.slug, secrets=self.secrets)
        text: str = await found.call(found.arguments(**arguments), context)
        return text

    async def query(self, sql: str) -> dict[str, Any]:
        answer: dict[str, Any] = orjson.loads(await self.ask("query", sql=sql))
        return answer

    async def rows(self, sql: str) -> list[list[Any]]:
        rows: list[list[Any]] = (await self.query(sql))["rows"]
        return rows


async def until(true: Callable[[], Any], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not true():  # noqa: ASYNC110
        assert time.monotonic() < deadline, "It did not come true."
        await asyncio.sleep(0.02)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGENTSITE_HOME", str(tmp_path_factory.mktemp("second")))
        cluster = postgres.ensure(open_home(), name="second", durable=False)
    try:
        with psycopg.connect(cluster.admin_url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE shop")
        made = Shop(cluster)
        made.run(SHOP)
        yield made
    finally:
        cluster.stop()


@pytest.fixture(autouse=True)
def _private_addresses(settings: Any) -> None:
    settings.ALLOW_PRIVATE_TOOLS = True


@pytest.fixture
def toolset(shop: Shop) -> Callable[..., Database]:
    """Makes a toolset; its config may be changed."""

    def make(user: str = "reader", password: str | None = None, **config: Any) -> Database:
        fields = {"host": "127.0.0.1", "port": shop.cluster.port, "database": "shop", "sslmode": "disable"}
        secret = PASSWORDS.get(user, "") if password is None else password
        return Database(DatabaseConfig(**{**fields, "user": user, **config}), {"password": secret})

    return make


@pytest.fixture
def reader(toolset: Callable[..., Database]) -> Database:
    return toolset()
