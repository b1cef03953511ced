"""A whole site with demo data: a database, a state folder, and servers on free ports."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
from psycopg import sql

from tests.outside.processes import free_port, running

CHECKOUT = Path(__file__).resolve().parents[2]
TABLES = """
    SELECT relname FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND has_table_privilege(oid, 'SELECT')
        AND relname NOT IN ('open_socket', 'socket_server')  -- which come and go by themselves
"""
APPLICATION = "agentsite.asgi:application"
HANDED_DOWN = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "COVERAGE_PROCESS_CONFIG")


@dataclass(frozen=True)
class Site:
    """`env` is all that its processes are told; nothing of the test run's environment reaches them."""

    home: Path
    env: dict[str, str]

    def demo(self) -> dict[str, Any]:
        demo: dict[str, Any] = json.loads((self.home / "demo.json").read_text())
        return demo

    def key(self, tenant: str, name: str = "api_key") -> str:
        entry = next(entry for entry in self.demo()["tenants"] if entry["slug"] == tenant)
        return str(entry[name])

    def prepare(self) -> None:
        """Roles, migrations and demo data, as `start.py` does it."""
        command = [
            sys.executable,
            "-m",
            "agentsite.embedded.prepare",
            "--no-local-model",
            "--base-url",
            "http://unused",
        ]
        subprocess.run(command, env=self.env, cwd=CHECKOUT, check=True, capture_output=True)

    def verify_usage(self) -> None:
        """Every call is paid, once, and nothing is held for what is not under way."""
        command = [sys.executable, "manage.py", "verify_usage"]
        done = subprocess.run(command, env=self.env, cwd=CHECKOUT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def rows(self) -> dict[str, int]:
        """How many rows every table has, all tenants together."""
        with psycopg.connect(self.env["DATABASE_URL"], options="-c role=app_ops", autocommit=True) as connection:
            tables = [str(row[0]) for row in connection.execute(TABLES)]
            count = sql.SQL("SELECT {}, count(*) FROM {}")
            counts = [count.format(sql.Literal(table), sql.Identifier(table)) for table in tables]
            return dict(connection.execute(sql.SQL(" UNION ALL ").join(counts)).fetchall())


@dataclass(frozen=True)
class Server:
    site: Site
    kind: str
    base_url: str
    pid: int
    log: Path

    @property
    def api(self) -> str:
        return f"{self.base_url}/v1"

    @property
    def socket_url(self) -> str:
        return self.base_url.replace("http", "ws", 1) + "/ws/v1/sessions"

    def client(self, tenant: str = "acme", key: str = "api_key", **options: Any) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.site.key(tenant, key)}"}
        return httpx.Client(base_url=self.api, headers=headers, timeout=30, trust_env=False, verify=False, **options)


@contextmanager
def new_database(url: str, name: str) -> Iterator[str]:
    """The URL of a database on the server of `url`, whose login may take the role app_owner."""
    parts = urlsplit(url)
    admin = urlunsplit(parts._replace(path="/postgres"))
    database, owner = sql.Identifier(name), sql.Identifier("app_owner")
    with psycopg.connect(admin, options="-c role=app_owner", autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, owner))
    try:
        yield urlunsplit(parts._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(admin, autocommit=True) as connection:  # only the login itself may end its sessions
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = %s AND backend_type = 'client backend'",  # others leave a database that is dropped
                [name],
            )
            connection.execute("SET ROLE app_owner")
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))


def new_site(home: Path, database_url: str, **env: str) -> Site:
    """A prepared site in the folder `home`."""
    told = {name: os.environ[name] for name in HANDED_DOWN if name in os.environ}
    told |= {
        "AGENTSITE_HOME": str(home),
        "DATABASE_URL": database_url,
        "SECRET_KEY": secrets.token_hex(32),
        "MASTER_KEY": secrets.token_hex(32),
        "PYTHONUNBUFFERED": "1",
        **env,
    }
    site = Site(home, told)
    site.prepare()
    return site


@contextmanager
def serving(site: Site, kind: str = "uvicorn", application: str = APPLICATION) -> Iterator[Server]:
    port = free_port()
    base_url = f"http://127.0.0.1:{port}"
    log = site.home / f"{kind}-{port}.log"
    command = server_command(kind, str(port), application)
    with running(command, log=log, ready=lambda: answers(base_url), env=site.env, cwd=CHECKOUT) as process:
        yield Server(site, kind, base_url, process.pid, log)


def server_command(kind: str, port: str, application: str = APPLICATION) -> list[str]:
    if kind == "daphne":
        return [sys.executable, "-m", "daphne", "--bind", "127.0.0.1", "--port", port, application]
    options = ["--lifespan", "on", "--no-access-log", "--timeout-graceful-shutdown", "5"]
    return [sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", port, *options, application]


def answers(base_url: str) -> bool:
    try:
        return httpx.get(f"{base_url}/v1/health", timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
