"""What the OpenAPI schema says of every REST endpoint: its error answers and the list envelope of `core.api`."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, inline_serializer
from rest_framework import serializers


class ErrorDetail(serializers.Serializer[Any]):
    path = serializers.CharField()
    code = serializers.CharField()
    message = serializers.CharField()


class ErrorBody(serializers.Serializer[Any]):
    message = serializers.CharField()
    type = serializers.CharField()
    code = serializers.CharField()
    param = serializers.CharField(allow_null=True)
    request_id = serializers.CharField(allow_null=True)
    details = ErrorDetail(many=True, required=False)


class ErrorResponse(serializers.Serializer[Any]):
    error = ErrorBody()


_REASONS = {
    400: "The request is wrong; `details` lists every fault.",
    401: "No credential, or one that is wrong, expired, revoked or suspended.",
    403: "The credential may not do this.",
    404: "Missing, or not yours.",
    405: "The path does not take this method.",
    409: "The state of the object does not allow this.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    422: "The Idempotency-Key was used with another body.",
    429: "Too much at once; see Retry-After.",
    500: "The server failed.",
    502: "The model provider failed.",
    503: "Not available now; see Retry-After.",
    504: "It took too long.",
}


def errors_of(*statuses: int) -> dict[int, OpenApiResponse]:
    """The schema's error answers: 401 and 403 for every endpoint, and those that this one adds."""
    return {
        status: OpenApiResponse(ErrorResponse, description=_REASONS[status])
        for status in sorted({400, 401, 403, 503, *statuses})
    }


def body_errors(*statuses: int) -> dict[int, OpenApiResponse]:
    """`errors_of` for an endpoint that reads a body."""
    return errors_of(413, 415, *statuses)


LIST_PARAMETERS = [
    OpenApiParameter("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
    OpenApiParameter("cursor", OpenApiTypes.STR, description="`next_cursor` of the page before."),
]
SEARCH = OpenApiParameter("q", OpenApiTypes.STR, description="Text to search for.")


def list_of(serializer: type[serializers.Serializer[Any]]) -> Any:
    """The list envelope around a serializer, for the schema."""
    return inline_serializer(
        f"{serializer.__name__.removesuffix('Output')}List",
        {
            "object": serializers.CharField(),
            "data": serializer(many=True),
            "has_more": serializers.BooleanField(),
            "next_cursor": serializers.CharField(allow_null=True),
        },
    )
