"""Finished runs are kept with one event for each stretch of a message instead of one for each piece.

The pieces between two other events are a stretch. Its last rows, one for each message or call in it, become the merged
ones, in the order in which the messages began: so every `seq` that a reader may hold is either kept or inside a merged
row. `metadata.merged` of such a row says: `first`, the first seq that it stands for; `since`, where its stretch began;
`start`, the character of its message at which its text begins. `runs.follow.as_seen_after` reads it.
"""

from itertools import groupby
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from runs.events import DELTAS
from runs.models import Run, RunEvent

Part = tuple[str, str]  # type of event, and message or call


@transaction.atomic
def run_compact(*, tenant_id: UUID, run_id: UUID) -> None:
    """Merge the pieces of a finished run. Call it in the tenant; a second time changes nothing."""
    runs = Run.objects.select_for_update(of=("self",)).filter(tenant_id=tenant_id, id=run_id, compacted_at=None)
    run = runs.exclude(finished_at=None).first()
    if run is None:
        return
    rows = RunEvent.objects.filter(tenant_id=tenant_id, run_id=run_id, day=run.day)
    said: dict[Part, int] = {}  # characters so far
    for is_pieces, group in groupby(rows.order_by("seq"), key=lambda row: row.type in DELTAS):
        if is_pieces:
            _merge(rows, list(group), said)
    run.compacted_at = timezone.now()
    run.save(update_fields=["compacted_at"])


def _merge(rows: Any, stretch: list[RunEvent], said: dict[Part, int]) -> None:
    parts: dict[Part, list[RunEvent]] = {}
    for row in stretch:
        parts.setdefault(_part(row), []).append(row)
    since, end = stretch[0].seq, stretch[-1].seq
    kept = range(end - len(parts) + 1, end + 1)
    first = since
    for seq, (part, pieces) in zip(kept, parts.items(), strict=True):
        text = "".join(piece.data["delta"] for piece in pieces)
        start = said.get(part, 0)
        said[part] = start + len(text)
        if len(stretch) > len(parts):
            metadata = {"merged": {"first": first, "since": since, "start": start}}
            merged = {**pieces[0].data, "delta": text, "metadata": metadata}
            rows.filter(seq=seq).update(at_ms=pieces[0].at_ms, type=part[0], data=merged)
        first = seq + 1
    rows.filter(seq__gte=since, seq__lt=kept.start).delete()


def _part(row: RunEvent) -> Part:
    return row.type, str(row.data[DELTAS[row.type]])
