"""What `manage.py` prepares for a command: the virtual environment, the secrets, the database."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from agentsite.embedded import postgres
from agentsite.embedded.errors import StartError
from agentsite.embedded.home import Home, open_home
from agentsite.embedded.install import PYTHON
from agentsite.embedded.postgres import Cluster

# Commands that never open a database.
OFFLINE = {"", "help", "version", "--version", "--help", "-h", "collectstatic", "diffsettings", "findstatic"}
OFFLINE |= {"makemessages", "compilemessages", "spectacular", "startapp", "startproject"}


def enter_environment(script: str) -> None:
    """Goes on in the checkout's virtual environment, unless this process is in one or the site has none."""
    if sys.prefix == sys.base_prefix and PYTHON.exists():
        os.execv(PYTHON, [str(PYTHON), script, *sys.argv[1:]])  # noqa: S606


@contextmanager
def services(arguments: list[str]) -> Iterator[None]:
    """For the block, a database and secrets in `os.environ`: what is set stays, the rest is this state folder's.

    In production nothing is added: there every value is set by whoever runs the site. Raises StartError.
    """
    if os.environ.get("AGENTSITE_ENV") == "production" or not _needs_database(arguments):
        yield
        return
    home = open_home()
    cluster = None if os.environ.get("DATABASE_URL") else start_database(home)
    os.environ.update(environment(home, cluster))
    try:
        yield
    finally:
        if cluster:
            cluster.stop()


def start_database(home: Home) -> Cluster:
    from agentsite.embedded import roles  # needs psycopg, which a bare Python lacks

    cluster = postgres.ensure(home)
    try:
        roles.bootstrap(cluster)
    except StartError:
        cluster.stop()
        raise
    return cluster


def environment(home: Home, cluster: Cluster | None) -> dict[str, str]:
    """The variables of a process of this home, without those that are set already."""
    secrets = home.secrets()
    values = {"AGENTSITE_HOME": str(home.path), "SECRET_KEY": secrets.secret_key, "MASTER_KEY": secrets.master_key}
    if cluster:
        values["DATABASE_URL"] = cluster.url
    return {name: value for name, value in values.items() if not os.environ.get(name)}


def _needs_database(arguments: list[str]) -> bool:
    name = arguments[0] if arguments else ""
    if name == "check":
        return any(argument.startswith("--database") for argument in arguments)
    return name not in OFFLINE and not {"--help", "-h"} & set(arguments)
