"""What is worth another try: at the same target, and at another one."""

import asyncio
import random

from django.conf import settings

from core.errors import ApplicationError
from llm.exceptions import ProviderAuthentication, ProviderRateLimited, ProviderRejected

BACKOFF = 0.2  # seconds, doubled with every attempt, times 0.5 to 1.5


def retryable(error: ApplicationError) -> bool:
    """The fault may pass by itself."""
    return bool(getattr(error, "retryable", False))


def retry_wait(error: ApplicationError, attempt: int, deadline: float) -> float | None:
    """Seconds until the next attempt at the same target; None when there is none, or it would come too late."""
    if not retryable(error) or attempt >= settings.LLM_ATTEMPTS:
        return None
    wait = error.retry_after
    if wait is None:
        wait = BACKOFF * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)  # noqa: S311 spreads retries, guards nothing
    late = asyncio.get_running_loop().time() + wait >= deadline
    return None if late or wait > settings.LLM_MAX_RETRY_WAIT else wait


def others_may(error: ApplicationError) -> bool:
    """May another target give what this one did not? Not when the request itself is wrong; a context may be larger."""
    return not isinstance(error, ProviderRejected) or error.code == "context_length_exceeded"


def of_the_key(error: ApplicationError) -> bool:
    """Another key of the same provider may do."""
    return isinstance(error, ProviderAuthentication | ProviderRateLimited) or error.code == "provider_quota_exhausted"


def in_short(error: ApplicationError) -> str:
    """For the reason of what is tried next."""
    return "answered 429" if error.status == 429 else f"failed with {error.code}"
