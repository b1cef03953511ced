from core.errors import ApplicationError, Conflict, InvalidRequest, NotFound, NotPermitted, Unavailable


class RunCancelled(ApplicationError):
    """Somebody stopped the run; not a failure."""

    status, type, code = 409, "conflict_error", "run_cancelled"


class ParticipationEnded(NotPermitted):
    code = "participation_ended"

    def __init__(self) -> None:
        super().__init__("Who asked may not speak in this session any more.")


class SessionBusy(Conflict):
    code = "session_busy"


class RunFailed(ApplicationError):
    """A fault of ours, or of a template's."""

    code = "run_failed"

    def __init__(self) -> None:
        super().__init__("The run failed on the server. The run id leads to its log.")


class ReservedName(ApplicationError):
    """A fault of a template's."""

    code = "reserved_name"

    def __init__(self, name: str) -> None:
        super().__init__(f"The agent's template sent a Custom event named '{name}', which only the platform may send.")


class NotReplayable(Conflict):
    code = "not_replayable"


class RunMoved(Unavailable):
    """This server stops, the run goes on elsewhere: follow it again after the seq `after`."""

    code = "server_stopping"

    def __init__(self, after: int) -> None:
        super().__init__("The server is stopping; the run goes on. Follow it again, or ask again.", retry_after=1)
        self.after = after


class EventsExpired(NotFound):
    code = "events_expired"


def events_expired(days: int) -> EventsExpired:
    message = f"The events after this seq are no longer kept: they are removed {days} days after the run began."
    return EventsExpired(f"{message} EVENT_RETENTION_DAYS on the server keeps them longer.", param="after")


def unknown_cursor(after: int, last: int) -> InvalidRequest:
    message = f"The run has no event {after} yet: its last one is {last}."
    return InvalidRequest(message, code="unknown_cursor", param="after")
