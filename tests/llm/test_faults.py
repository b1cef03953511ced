"""What an upstream failure means, read from whatever shape it comes in."""

import time
from email.utils import formatdate
from typing import Any

import orjson
import pytest

from llm.exceptions import ProviderError, ProviderRateLimited, ProviderRejected
from llm.providers.faults import LONGEST_WAIT, Fault, read_fault, retry_after, to_error
from llm.wire import ChatRequest

REQUEST = ChatRequest("m", [], {"tools": []})


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "Retry-After": "9"}, 0.25),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "1e99"}, LONGEST_WAIT),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after-ms": "x"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_retry_after_as_a_date() -> None:
    found = retry_after({"Retry-After": formatdate(time.time() + 60, usegmt=True)})
    assert found is not None
    assert 55 < found <= 60


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "context length exceeded"}},
        {"error": "context length exceeded"},
        {"message": "context length exceeded"},
        {"detail": "context length exceeded"},
        [{"error": {"message": "context length exceeded", "status": "INVALID_ARGUMENT"}}],
    ],
)
def test_every_shape_of_an_error_body(body: Any) -> None:
    assert read_fault(400, orjson.dumps(body)).message == "context length exceeded"
    assert to_error(read_fault(400, orjson.dumps(body)), REQUEST).code == "context_length_exceeded"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"3", b"\xff", b'{"error": 7}'])
def test_bodies_that_say_nothing(body: bytes) -> None:
    error = to_error(read_fault(500, body), REQUEST)
    assert (type(error), error.code) == (ProviderError, "provider_error")


def test_the_field_at_fault_is_named_when_it_is_the_caller_s() -> None:
    named = to_error(Fault(400, param="tools[0].function"), REQUEST)
    assert (named.param, "tools" in named.message) == ("tools", True)
    assert to_error(Fault(400, param="internal_secret"), REQUEST).param is None


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(None, code="429"), ProviderError),
        (Fault(429, message="slow"), ProviderRateLimited),
        (Fault(None, type="rate_limit_error"), ProviderRateLimited),
        (Fault(None, message="maximum context length is 8"), ProviderRejected),
        (Fault(409), ProviderError),
    ],
)
def test_faults_within_a_stream(fault: Fault, kind: type) -> None:
    error = to_error(fault, REQUEST)
    assert type(error) is kind


def test_only_identifiers_are_logged() -> None:
    assert Fault(400, code="model_not_found").safe_code == "model_not_found"
    assert Fault(400, code="key sk-123 is wrong").safe_code == ""


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (
            400,
            {"message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT"},
            "provider_authentication",
        ),
        (
            400,
            {"message": "Your credit balance is too low", "type": "invalid_request_error"},
            "provider_quota_exhausted",
        ),
        (429, {"message": "You exceeded your current quota, check your plan and billing"}, "provider_quota_exhausted"),
        (None, {"type": "authentication_error"}, "provider_authentication"),
        (None, {"type": "overloaded_error"}, "provider_error"),
        (None, {"status": "DEADLINE_EXCEEDED"}, "provider_timeout"),
    ],
)
def test_what_providers_call_it(status: int | None, error: Any, code: str) -> None:
    assert to_error(read_fault(status, {"error": error}), REQUEST).code == code


def test_googles_quota_of_a_minute_comes_back() -> None:
    """The same words as for a plan that is used up, but for when to try again."""
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}, "x", {"retryDelay": 3}]
    body = {"error": {"message": "You exceeded your current quota, check your billing", "details": details}}
    error = to_error(read_fault(429, body), REQUEST)
    assert (error.code, error.retry_after) == ("provider_rate_limited", 34.5)
