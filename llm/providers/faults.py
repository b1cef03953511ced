"""What a provider's failure means, whatever its wire: the one place where it becomes one of `llm.exceptions`."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from core.errors import ApplicationError
from llm.exceptions import (
    ModelNotFound,
    ProviderAuthentication,
    ProviderError,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
)
from llm.wire import ChatRequest

LONGEST_WAIT = 24 * 3600.0
_SAFE_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_CONTEXT = re.compile(
    r"context.?(length|window|size)|maximum context|exceed_context|too many (input )?tokens|prompt is too long"
    r"|input.{0,20}too long"
)
_QUOTA = re.compile(
    r"insufficient.?(quota|balance|credit|funds)|billing|payment|out of credits|exceeded your current quota"
)
_CREDIT = re.compile(r"credit balance is too low")
_FILTER = re.compile(r"content.?(filter|policy|management)|safety")
_BAD_KEY = re.compile(r"api.?key.?(not valid|invalid|expired)")
_NO_MODEL = ("model_not_found", "model_not_supported", "invalid_model", "deploymentnotfound")
# What providers call a failure where they give no status: in an event of a stream that began with 200.
STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
    # Google's
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """A provider's own words, read to be understood and never shown. `status` is None where none was told.

    `comes_back`: the provider says in its own words when to try again, so its quota is one of minutes, not of money.
    """

    status: int | None
    code: str = ""
    type: str = ""
    message: str = ""
    param: str = ""
    retry_after: float | None = None
    comes_back: bool = False

    @property
    def words(self) -> str:
        return f"{self.code} {self.type} {self.message}".lower()

    @property
    def safe_code(self) -> str:
        """For logs: an identifier, or nothing."""
        return self.code if _SAFE_CODE.match(self.code) else ""


def read_fault(status: int | None, body: bytes | Any, headers: Mapping[str, str] | None = None) -> Fault:
    """`body` is the answer's bytes, or what stood in the `error` field of a chunk."""
    error = _error_of(body)
    code = error.get("code")
    kind = str(error.get("type") or error.get("status") or "")
    if status is None:
        status = code if isinstance(code, int) else STATUS_OF_TYPE.get(kind)
    delay = _retry_delay(error.get("details"))
    wait = retry_after(headers or {})
    return Fault(
        status=status,
        code=str(code or ""),
        type=kind,
        message=str(error.get("message") or error.get("detail") or "")[:2000],
        param=str(error.get("param") or ""),
        retry_after=delay if wait is None else wait,
        comes_back=delay is not None,
    )


def _retry_delay(details: Any) -> float | None:
    """Seconds, from Google's RetryInfo: `{"retryDelay": "34.07s"}` among the details of an error."""
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and (seconds := _number(delay.removesuffix("s"))) is not None:
            return min(seconds, LONGEST_WAIT)
    return None


def _error_of(body: bytes | Any) -> dict[str, Any]:
    value = body
    if isinstance(body, bytes):
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            return {}
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, dict) and value.get("error"):
        value = value["error"]
    if isinstance(value, str):
        return {"message": value}
    return value if isinstance(value, dict) else {}


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from `retry-after-ms`, or `Retry-After` as seconds or as an HTTP date."""
    text = headers.get("retry-after-ms")
    if text:
        seconds = _number(text)
        return None if seconds is None else min(seconds / 1000, LONGEST_WAIT)
    text = headers.get("Retry-After") or headers.get("retry-after")
    if not text:
        return None
    seconds = _number(text)
    return _until(text) if seconds is None else min(seconds, LONGEST_WAIT)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


def _until(date: str) -> float | None:
    try:
        seconds = parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_WAIT)


def to_error(fault: Fault, request: ChatRequest | None = None) -> ApplicationError:
    """Ours for theirs."""
    status = fault.status
    if _is_out_of_money(fault):
        message = "The provider refuses to serve this account: its quota or credit is used up."
        return ProviderError(message, code="provider_quota_exhausted", retryable=False)
    if status in (401, 403) or (status == 400 and _BAD_KEY.search(fault.words)):
        return ProviderAuthentication(
            "The provider refused the credential. Check the provider's API key and its rights."
        )
    if status == 404 or (status == 400 and fault.code.lower() in _NO_MODEL):
        return _not_found(request)
    if status == 429 or "rate_limit" in fault.words:
        return ProviderRateLimited("The provider's rate limit is reached.", retry_after=fault.retry_after)
    if status in (408, 504, 524):
        return ProviderTimeout("The provider took too long.", retry_after=fault.retry_after)
    if status is not None and 300 <= status < 400:
        message = "The provider's address answers with a redirect: set its final address as base_url."
        return ProviderError(message, code="provider_redirected", retryable=False)
    if status is not None and 400 <= status < 500 and status not in (409, 425):
        return _rejected(fault, request)
    if status is None and _CONTEXT.search(fault.words):
        return _rejected(fault, request)
    return ProviderError("The provider failed.", retry_after=fault.retry_after)


def _is_out_of_money(fault: Fault) -> bool:
    if fault.status == 402 or (fault.status == 400 and _CREDIT.search(fault.words)):
        return True
    return fault.status in (None, 403, 429) and not fault.comes_back and bool(_QUOTA.search(fault.words))


def _not_found(request: ChatRequest | None) -> ApplicationError:
    if request is None:
        message = "The provider's address has no such path: check its base_url, which often ends in /v1."
        return ProviderError(message, code="provider_not_found", retryable=False)
    message = f"The provider does not know the model '{request.model}', or its base_url is wrong."
    return ModelNotFound(message, param="model")


def _rejected(fault: Fault, request: ChatRequest | None) -> ProviderRejected:
    if _CONTEXT.search(fault.words):
        message = "The conversation is longer than the model's context: send fewer or shorter messages."
        return ProviderRejected(message, code="context_length_exceeded", param="messages")
    if _FILTER.search(fault.words):
        return ProviderRejected("The provider's content filter refused the request.", code="content_filter")
    param = _own_param(fault.param, request)
    where = f" because of '{param}'" if param else ""
    message = (
        f"The provider refused the request{where} (status {fault.status}): the model may not support what it asks for."
    )
    return ProviderRejected(message, param=param)


def _own_param(param: str, request: ChatRequest | None) -> str | None:
    """The field that the provider names, if it is one that the caller sent."""
    head = re.split(r"[.\[]", param, maxsplit=1)[0]
    sent = {"model", "messages", *(request.params if request else ())}
    return head if head in sent else None
