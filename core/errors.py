"""The one error hierarchy. Edges render it once: OpenAI's body over HTTP, an error event on streams and sockets."""

from collections.abc import Mapping, Sequence
from typing import Any


class ApplicationError(Exception):
    """A failure that a caller may see: `message` is safe to show, `code` is stable, `param` names the input at fault.

    `details` lists every fault at once as `{"path", "code", "message"}`; `retry_after` is in seconds.
    """

    status = 500
    type = "internal_error"
    code = "internal_error"
    headers: Mapping[str, str] = {}  # of the answer, beside those that every error has

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        details: Sequence[dict[str, Any]] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.param = param
        self.details = list(details) if details is not None else None
        self.retry_after = retry_after

    def body(self, request_id: str | None = None) -> dict[str, Any]:
        """The `error` object of the public contract."""
        error: dict[str, Any] = {
            "message": self.message,
            "type": self.type,
            "code": self.code,
            "param": self.param,
            "request_id": request_id,
        }
        if self.details is not None:
            error["details"] = self.details
        return {"error": error}


class InvalidRequest(ApplicationError):
    status, type, code = 400, "invalid_request_error", "invalid_request"


class NotAuthenticated(ApplicationError):
    status, type, code = 401, "authentication_error", "not_authenticated"


class NotPermitted(ApplicationError):
    status, type, code = 403, "permission_error", "not_permitted"


class NotFound(ApplicationError):
    """Missing, or another tenant's: the caller cannot tell which."""

    status, type, code = 404, "not_found_error", "not_found"


class MethodNotAllowed(ApplicationError):
    status, type, code = 405, "invalid_request_error", "method_not_allowed"


class NotAcceptable(ApplicationError):
    status, type, code = 406, "invalid_request_error", "not_acceptable"


class Conflict(ApplicationError):
    status, type, code = 409, "conflict_error", "conflict"


class TooLarge(ApplicationError):
    status, type, code = 413, "invalid_request_error", "request_too_large"


class UnsupportedMedia(ApplicationError):
    status, type, code = 415, "invalid_request_error", "unsupported_media_type"


class IdempotencyMismatch(ApplicationError):
    status, type, code = 422, "idempotency_error", "idempotency_key_reused"


class RateLimited(ApplicationError):
    status, type, code = 429, "rate_limit_error", "rate_limited"


class ProviderFailed(ApplicationError):
    status, type, code = 502, "provider_error", "provider_error"


class Unavailable(ApplicationError):
    status, type, code = 503, "unavailable", "unavailable"


class TimedOut(ApplicationError):
    status, type, code = 504, "timeout", "timeout"
