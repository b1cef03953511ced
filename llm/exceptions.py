"""What can go wrong between us and a model provider. Each error says whether the same call may succeed when repeated.

Messages are ours: a provider's own text may hold keys, prompts or internals and is neither shown nor logged.
"""

from typing import Any

from core.errors import Conflict, NotFound, ProviderFailed, Unavailable


class ProviderError(ProviderFailed):
    """`retryable`: the fault may pass by itself. `retry_after`: seconds that the provider asked to wait, if it did."""

    default_retryable = True

    def __init__(self, message: str, *, retryable: bool | None = None, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.retryable = self.default_retryable if retryable is None else retryable


class ProviderRateLimited(ProviderError):
    status, type, code = 429, "rate_limit_error", "provider_rate_limited"


class ProviderTimeout(ProviderError):
    status, type, code = 504, "timeout", "provider_timeout"


class ProviderRejected(ProviderError):
    """The provider, or we for it, found the request itself wrong: the caller has to change it."""

    status, type, code = 400, "invalid_request_error", "provider_rejected"
    default_retryable = False


class ProviderAuthentication(ProviderError):
    """The tenant's credential for the provider is missing, wrong or not allowed to do this."""

    code = "provider_authentication"
    default_retryable = False


class StreamTruncated(ProviderError):
    """The answer stopped without a finish reason: what was received is incomplete."""

    code = "provider_stream_truncated"


class BadAnswer(ProviderError):
    """The provider answered something that is no chat completion."""

    code = "provider_bad_answer"


class ModelNotFound(NotFound):
    code = "model_not_found"


class RouteInactive(Conflict):
    code = "route_inactive"


class RouteEmpty(Unavailable):
    """None of a route's targets can be tried for a request."""

    code = "route_empty"


def model_not_found(name: str) -> ModelNotFound:
    return ModelNotFound(f"The model '{name}' does not exist. GET /v1/models lists yours.", param="model")
