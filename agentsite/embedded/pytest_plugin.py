"""Gives a test run the database of its own: an embedded server with fast, unsafe settings, up while tests run.

Loaded with `-p agentsite.embedded.pytest_plugin`, before Django's settings. A database that DATABASE_URL names is used
instead; the workers of pytest-xdist inherit the variable.
"""

import os
from collections.abc import Iterator
from itertools import count

import pytest

from agentsite.embedded import roles
from agentsite.embedded.errors import StartError
from agentsite.embedded.home import Home, open_home
from agentsite.embedded.locks import FileLock
from agentsite.embedded.postgres import DATABASE, Cluster, ensure

_CLUSTER = pytest.StashKey[Cluster]()
_SLOT = pytest.StashKey[FileLock]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Iterator[None]:
    os.environ.setdefault("AGENTSITE_ENV", "test")
    if "PYTEST_XDIST_WORKER" not in os.environ:
        try:
            _provide_database(early_config)
        except StartError as error:
            raise pytest.UsageError(str(error)) from error
    return (yield)


def pytest_unconfigure(config: pytest.Config) -> None:
    if cluster := config.stash.get(_CLUSTER, None):
        cluster.stop()
        config.stash[_SLOT].release()


def _provide_database(config: pytest.Config) -> None:
    if url := os.environ.get("DATABASE_URL"):
        roles.ensure_roles(url)
        return
    home = open_home()
    cluster = config.stash[_CLUSTER] = ensure(home, name="test-postgres", durable=False)
    roles.bootstrap(cluster)
    database, config.stash[_SLOT] = _free_database(home)
    os.environ["DATABASE_URL"] = cluster.url.removesuffix(DATABASE) + database


def _free_database(home: Home) -> tuple[str, FileLock]:
    """A database name that no other test run of this moment uses, and the lock that keeps it."""
    for number in count():
        lock = home.lock(f"test-run-{number}")
        if lock.acquire(wait=False):
            return f"{DATABASE}_{number}" if number else DATABASE, lock
    raise AssertionError("unreachable")
