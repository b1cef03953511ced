"""Background work: functions registered by name, enqueued in the caller's transaction, run by `manage.py worker`.

A job runs in the tenant that it was enqueued for; a platform job has none. Every job is safe to run twice.
The engine is Procrastinate, on the same PostgreSQL.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from procrastinate import App

from core.tenant import current_tenant, tenant_context

logger = logging.getLogger(__name__)
JobFunction = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Job:
    name: str
    function: JobFunction
    platform: bool
    cron: str | None


_jobs: dict[str, Job] = {}
_app: App | None = None


def job(name: str, *, platform: bool = False, cron: str | None = None) -> Callable[[JobFunction], JobFunction]:
    """Register a job, in an app's `tasks.py`. `cron` (UTC) makes a platform job run by itself."""
    if cron and not platform:
        raise ValueError(f"Job {name} has a schedule but no tenant: declare it platform=True.")

    def register(function: JobFunction) -> JobFunction:
        _jobs[name] = Job(name, function, platform, cron)
        return function

    return register


def enqueue(name: str, **arguments: Any) -> None:
    """Queue a job for the current tenant, in the current transaction. `arguments` must be JSON."""
    known = _jobs[name]
    tenant_id = current_tenant()
    if tenant_id is None and not known.platform:
        raise RuntimeError(f"Job {name} needs a tenant.")
    if _app is None:
        raise RuntimeError("The job engine has not started: is procrastinate.contrib.django installed?")
    payload = {"name": name, "tenant_id": str(tenant_id) if tenant_id else None, "arguments": arguments}
    _app.configure_task("run_job").defer(**payload)


def run_job(name: str, tenant_id: str | None, arguments: dict[str, Any]) -> None:
    known = _jobs[name]
    if tenant_id is None and not known.platform:
        raise RuntimeError(f"Job {name} came without a tenant.")
    with tenant_context(UUID(tenant_id) if tenant_id else None):
        known.function(**arguments)


def on_app_ready(app: App) -> None:
    """Called by Procrastinate once every app's `tasks` is imported."""
    global _app
    _app = app
    app.task(name="run_job")(run_job)
    for known in _jobs.values():
        if known.cron:
            _schedule(app, known)


def _schedule(app: App, known: Job) -> None:
    def tick(timestamp: int) -> None:
        run_job(known.name, None, {})

    task = app.task(name=f"tick:{known.name}", queueing_lock=known.name)(tick)
    app.periodic(cron=known.cron or "")(task)
