"""Brings the database up to date in one Django process: roles, pending migrations, demo data.

python -m agentsite.embedded.prepare --base-url http://127.0.0.1:8000 [--no-local-model]
"""

import os
import sys

import django
from django.core.management import call_command
from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from agentsite.embedded import roles
from agentsite.embedded.command import services
from agentsite.embedded.errors import REFUSAL, StartError


def main(arguments: list[str]) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentsite.settings")
    try:
        with services(["prepare"]):
            prepare(arguments)
    except StartError as error:
        sys.exit(REFUSAL + str(error))


def prepare(arguments: list[str]) -> None:
    url = os.environ.get("DATABASE_URL")
    if not url:
        raise StartError("DATABASE_URL must be set when AGENTSITE_ENV is production.")
    _ensure_roles(url)
    django.setup()
    with roles.exclusive(url):
        if _migrations_pending():
            call_command("migrate", database="owner", interactive=False)
        call_command("demo", *arguments)


def _ensure_roles(url: str) -> None:
    """Each login may take the roles that the settings ask of it."""
    owner, stream, ops = (os.environ.get(f"DATABASE_{name}_URL") or url for name in ("OWNER", "STREAM", "OPS"))
    for login_url in dict.fromkeys([url, owner, stream, ops]):
        wanted = {"app_user": url, "app_owner": owner, "app_stream": stream, "app_ops": ops}
        roles.ensure_roles(login_url, [role for role, role_url in wanted.items() if role_url == login_url])


def _migrations_pending() -> bool:
    executor = MigrationExecutor(connections["owner"])
    return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))


if __name__ == "__main__":
    main(sys.argv[1:])
