from core.errors import ApplicationError


class RunCancelled(ApplicationError):
    """Somebody stopped the run; not a failure."""

    status, type, code = 409, "conflict_error", "run_cancelled"
