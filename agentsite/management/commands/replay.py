from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core.errors import ApplicationError
from core.ids import NIL, parse_uuid
from core.tenant import tenant_context
from runs.models import Run
from runs.replay import Replay, run_replay

DIFFERENT, IMPOSSIBLE = 1, 2  # exit codes


class Command(BaseCommand):
    help = (
        "Execute a stored run again from the recorded answers of its models and tools, none of which is called, and "
        "print what differs. The exit code is 0 when nothing does, 1 when something does, 2 when it cannot be replayed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run", help="the run's id")
        parser.add_argument("--tenant", help="the slug of the tenant that the run must belong to")

    def handle(self, *args: Any, run: str, tenant: str | None, **options: Any) -> None:
        tenant_id, run_id = _find(run, tenant)
        try:
            with tenant_context(tenant_id):
                replay = run_replay(tenant_id=tenant_id, run_id=run_id)
        except ApplicationError as error:
            raise CommandError(error.message, returncode=IMPOSSIBLE) from error
        self.stdout.write("\n".join(_report(replay)))
        if not replay.is_identical:
            raise SystemExit(DIFFERENT)


def _find(ref: str, slug: str | None) -> tuple[UUID, UUID]:
    """Before its tenant is known, a run is visible to the platform only."""
    runs = Run.objects.using("ops").filter(id=parse_uuid(ref) or NIL)
    found = (runs.filter(tenant__slug=slug) if slug else runs).values_list("tenant_id", "id").first()
    if found is None:
        raise CommandError(f"No run '{ref}'{f' of the tenant {slug}' if slug else ''}.", returncode=IMPOSSIBLE)
    return found


def _report(replay: Replay) -> list[str]:
    run = replay.run
    lines = [f"run {run.id}: {run.status}"]
    if run.status != Run.Status.SUCCEEDED:
        lines.append(f"It ended with {run.error_code}: it is replayed as far as it went.")
    lines += replay.unknown
    lines += ["identical"] if replay.is_identical else replay.difference()
    return [*lines, f"tokens 0 (the run used {run.prompt_tokens + run.completion_tokens})"]
