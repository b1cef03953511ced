from core.errors import ApplicationError, RateLimited, Unavailable


class SandboxUnavailable(Unavailable):
    """Nothing on this server can jail the code; nothing of it was run."""

    code = "sandbox_unavailable"


class SandboxBusy(RateLimited):
    code = "sandbox_busy"


class JobFailed(ApplicationError):
    """The code's own fault; the message may be shown to the tenant whose code it is. `stdout` and `stderr` are what it
    printed before.

    `code` is one of timeout, memory, crashed, no_result, bad_result, error, syntax, no_entry_point, output.
    """

    status, type, code = 422, "job_error", "error"
    stdout = stderr = ""


class HostError(Exception):
    """A call of the host that is refused or failed; the message is what the code sees as an exception."""
