"""What an OpenAI-compatible provider's failure means. Shared by every kind that speaks HTTP."""

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
_FILTER = re.compile(r"content.?(filter|policy|management)|safety")


@dataclass(frozen=True, slots=True)
class Fault:
    """A provider's own words, read to be understood and never shown. `status` is None inside a 200 stream."""

    status: int | None
    code: str = ""
    type: str = ""
    message: str = ""
    param: str = ""
    retry_after: float | None = None

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
    if status is None and isinstance(code, int):
        status = code
    return Fault(
        status=status,
        code=str(code or ""),
        type=str(error.get("type") or error.get("status") or ""),
        message=str(error.get("message") or error.get("detail") or "")[:2000],
        param=str(error.get("param") or ""),
        retry_after=retry_after(headers or {}),
    )


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
    if status == 402 or (status in (None, 403, 429) and _QUOTA.search(fault.words)):
        message = "The provider refuses to serve this account: its quota or credit is used up."
        return ProviderError(message, code="provider_quota_exhausted", retryable=False)
    if status in (401, 403):
        return ProviderAuthentication(
            "The provider refused the credential. Check the provider's API key and its rights."
        )
    if status == 404:
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
