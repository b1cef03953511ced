"""What the server is made of and how each part is, without secrets."""

import logging
from datetime import timedelta
from typing import NamedTuple

from django.db import DatabaseError, connection
from django.utils import timezone

from llm.providers import provider_kinds
from runs import runner
from sandbox import probe
from templates_app.registry import registry
from toolsets.registry import toolset_kind_faults, toolset_kinds

logger = logging.getLogger(__name__)
WORKER_SILENT = timedelta(seconds=60)


class Component(NamedTuple):
    """`status`: ok, degraded (chat works without it), down (chat does not), absent (not part of this installation)."""

    name: str
    status: str
    detail: str


def components() -> list[Component]:
    database = _database()
    worker = _worker() if database.status == "ok" else Component("worker", "degraded", "Unknown without the database.")
    return [_server(), database, worker, _providers(), _templates(), _toolsets(), _sandbox()]


def _server() -> Component:
    if runner.is_stopping():
        return Component("server", "down", "It is stopping and takes no new runs.")
    return Component("server", "ok", "It takes runs.")


def _database() -> Component:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        logger.exception("The database does not answer")
        return Component("database", "down", "PostgreSQL does not answer.")
    return Component("database", "ok", "PostgreSQL answers.")


def _worker() -> Component:
    with connection.cursor() as cursor:
        cursor.execute("SELECT max(last_heartbeat) FROM procrastinate_workers")
        (seen,) = cursor.fetchone()
    if seen is None or timezone.now() - seen > WORKER_SILENT:
        return Component("worker", "degraded", "No worker has reported for a minute; start `manage.py worker`.")
    return Component("worker", "ok", "A worker reports.")


def _providers() -> Component:
    missing = [kind.slug for kind in provider_kinds() if not kind.installed()]
    if missing:
        return Component("model providers", "degraded", f"Not installed: {', '.join(missing)}.")
    return Component("model providers", "ok", f"{len(provider_kinds())} kinds.")


def _templates() -> Component:
    broken = [health.slug for health in registry.health() if not health.healthy]
    if broken:
        return Component("templates", "degraded", f"Unhealthy: {', '.join(broken)}.")
    return Component("templates", "ok", f"{len(registry.health())} templates.")


def _toolsets() -> Component:
    broken = [fault.name for fault in toolset_kind_faults()]
    if broken:
        return Component("toolsets", "degraded", f"Did not load: {', '.join(broken)}.")
    return Component("toolsets", "ok", f"{len(toolset_kinds())} kinds.")


def _sandbox() -> Component:
    return Component("sandbox", *probe.describe())
