"""What usage can be grouped and filtered by, as columns of the records and of their daily sums."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dimension:
    """`sql` is the value of one row; `daily` says that the daily sums keep it apart."""

    sql: str
    daily: bool = True


DIMENSIONS = {
    "provider": Dimension("provider"),
    "model": Dimension("model"),
    "route": Dimension("route"),
    "variant": Dimension("variant"),
    "agent": Dimension("agent"),
    "agent_id": Dimension("agent_id"),
    "agent_version": Dimension("agent_version"),
    "session": Dimension("session_id", daily=False),
    "run": Dimension("run_id", daily=False),
    "user": Dimension("CASE WHEN actor_kind = 'user' THEN actor_id END"),
    "api_key": Dimension("CASE WHEN actor_kind = 'api_key' THEN actor_id END"),
    "end_user": Dimension("end_user", daily=False),
    "key": Dimension("key_id"),
    "certainty": Dimension("certainty"),
    "error_code": Dimension("error_code"),
    "cached": Dimension("cached"),
}
BUCKETS = ("hour", "day", "week", "month")
NAMED_ACTORS = {"user", "api_key"}  # whose label is told beside the id
