"""What every REST endpoint shares: strict JSON in, the one error body out, lists by cursor."""

import base64
import logging
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

import orjson
import psycopg
from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation, ValidationError
from django.db import DatabaseError, InterfaceError, OperationalError
from django.db.models import Q, QuerySet
from django.http import Http404
from drf_spectacular.extensions import OpenApiSerializerExtension
from rest_framework import exceptions as drf
from rest_framework import serializers
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from core import errors
from core.ids import parse_uuid
from core.request_context import current_request
from core.validation import has_large_number, invalid

logger = logging.getLogger(__name__)


class JSONRenderer(BaseRenderer):
    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        return b"" if data is None else orjson.dumps(data, default=str)


class JSONParser(BaseParser):
    media_type = "application/json"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        return parse_json(stream.read(settings.MAX_BODY_BYTES + 1))


def parse_json(body: bytes) -> Any:
    """The value of a request body; raises TooLarge, or InvalidRequest for what is no clean JSON."""
    if len(body) > settings.MAX_BODY_BYTES:
        raise body_too_large()
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        message = f"The body is not valid JSON: {error.msg} at line {error.lineno} column {error.colno}."
        raise errors.InvalidRequest(message, code="invalid_json") from None
    _refuse_unstorable(value)
    return value


def body_too_large() -> errors.TooLarge:
    limit = settings.MAX_BODY_BYTES
    return errors.TooLarge(f"The body exceeds {limit} bytes; MAX_BODY_BYTES on the server raises this limit.")


def _refuse_unstorable(value: Any) -> None:
    """PostgreSQL cannot store NUL, and nesting costs stack in every layer below."""
    level: list[Any] = [value]
    for _ in range(settings.MAX_JSON_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, str) and "\0" in item:
                raise errors.InvalidRequest("The body contains a NUL character.", code="invalid_character")
            if isinstance(item, dict):
                below += item.keys()
                below += item.values()
            elif isinstance(item, list):
                below += item
        if not below:
            return
        level = below
    limit = settings.MAX_JSON_DEPTH
    message = f"The body nests deeper than {limit} levels; MAX_JSON_DEPTH on the server raises this limit."
    raise errors.InvalidRequest(message, code="too_deep")


class Negotiation(BaseContentNegotiation):
    """JSON whatever `Accept` says, as OpenAI's API does; a body must say that it is JSON."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        kind = (request.content_type or "").split(";")[0].strip().lower()
        return parsers[0] if kind == "application/json" else None

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


def to_application_error(error: Exception) -> errors.ApplicationError | None:
    """Our error for one of the frameworks'; None for a fault that nobody foresaw."""
    match error:
        case errors.ApplicationError():
            return error
        case drf.ValidationError():
            return validation_error(error.detail)
        case drf.ParseError():
            return errors.InvalidRequest("The body could not be read.", code="invalid_json")
        case drf.UnsupportedMediaType():
            return errors.UnsupportedMedia("Send the body as application/json.")
        case drf.MethodNotAllowed():
            return errors.MethodNotAllowed(str(error.detail))
        case Http404():
            return errors.NotFound("Not found.")
        case PermissionDenied() | drf.PermissionDenied():
            return errors.NotPermitted("Not permitted.")
        case RequestDataTooBig():
            return body_too_large()
        case SuspiciousOperation():
            return errors.InvalidRequest("The request was refused.")
        case DatabaseError() | InterfaceError():
            return database_error(error)
    return None


def database_error(error: Exception) -> errors.ApplicationError | None:
    """What a caller may do about a fault of the database; None for a fault of ours."""
    cause = error.__cause__
    if isinstance(cause, psycopg.errors.ForeignKeyViolation):
        return errors.Conflict("Something that this needs was deleted meanwhile. Try again.", code="changed_meanwhile")
    if isinstance(error, OperationalError | InterfaceError):
        logger.error("The database failed", exc_info=error)
        return errors.Unavailable("The database does not answer now.", code="database_unavailable", retry_after=1)
    return None


def answerable(error: Exception) -> errors.ApplicationError:
    """What a caller is told of any failure; one that nobody foresaw goes to the log."""
    known = to_application_error(error)
    if known is None:
        logger.error("Unhandled error in a request", exc_info=error)
        known = errors.ApplicationError("The server failed. The request id leads to its log.")
    return known


def render_error(error: Exception, context: Any = None) -> Response:
    """DRF's exception handler: every failure as the error body of the contract, and never a stack trace."""
    known = answerable(error)
    response = Response(known.body(current_request().request_id), status=known.status)
    for name, value in error_headers(known).items():
        response[name] = value
    return response


def error_headers(error: errors.ApplicationError) -> dict[str, str]:
    headers = dict(error.headers)
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def validation_error(detail: Any) -> errors.InvalidRequest:
    """Every fault of a serializer at once, the first one in the message."""
    return invalid(list(_flatten(detail, "")))


def _flatten(detail: Any, path: str) -> Any:
    if isinstance(detail, dict):
        for key, value in detail.items():
            name = "" if key == "non_field_errors" else str(key)
            yield from _flatten(value, f"{path}.{name}".strip("."))
    elif isinstance(detail, list):
        for index, value in enumerate(detail):
            nested = isinstance(value, dict | list)
            yield from _flatten(value, f"{path}.{index}".strip(".") if nested else path)
    else:
        yield {"path": path, "code": getattr(detail, "code", "invalid"), "message": str(detail)}


class Text(serializers.CharField):
    """A JSON string and nothing else; surrounding blanks are kept."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"trim_whitespace": False, **kwargs})

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Slug(Text):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"max_length": 63, **kwargs})
        message = "Use 1 to 63 of a-z, 0-9 and '-', beginning with a letter or digit."
        pattern = serializers.RegexField(r"^[a-z0-9][a-z0-9-]*\Z", error_messages={"invalid": message})
        self.validators.append(pattern.validators[-1])


class Integer(serializers.IntegerField):
    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return super().to_internal_value(data)


class Flag(serializers.BooleanField):
    """A JSON boolean and nothing else."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class Choice(serializers.ChoiceField):
    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            self.fail("invalid_choice", input=data)
        return super().to_internal_value(data)


class JSONObject(serializers.DictField):
    """A JSON object; its keys are the caller's."""

    default_error_messages = {"large_number": "A number in it has more than 64 bits."}

    def to_internal_value(self, data: Any) -> Any:
        if has_large_number(data):
            self.fail("large_number")
        return super().to_internal_value(data)


class StrictSerializer(serializers.Serializer[Any]):
    """Input that names every unknown field instead of ignoring it."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            unknown = [name for name in data if name not in self.fields]
            if unknown:
                fault = "Unknown field."
                raise serializers.ValidationError({name: [fault] for name in unknown}, code="unknown_field")
        return super().to_internal_value(data)


class StrictSerializerSchema(OpenApiSerializerExtension):
    """Tells the schema's readers that unknown fields are refused."""

    target_class = StrictSerializer
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
        schema = {**auto_schema._map_serializer(self.target, direction, bypass_extensions=True)}
        if schema.get("description") == StrictSerializer.__doc__:  # inherited, and not about the body
            del schema["description"]
        return {**schema, "additionalProperties": False}


def validated(serializer: type[serializers.Serializer[Any]], data: Any, *, partial: bool = False) -> dict[str, Any]:
    """The validated values of `data`; raises what becomes a 400 that lists every fault."""
    bound = serializer(data=data, partial=partial)
    bound.is_valid(raise_exception=True)
    values: dict[str, Any] = bound.validated_data
    return values


def partly_validated(
    serializer: type[serializers.Serializer[Any]], data: Any, *, partial: bool = False
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The fields that are right, and every fault of the others: for an endpoint that looks for further faults."""
    bound = serializer(data=data, partial=partial)
    if bound.is_valid():
        return dict(bound.validated_data), []
    if not isinstance(data, dict):
        raise validation_error(bound.errors)
    detail: dict[str, Any] = dict(bound.errors)
    values: dict[str, Any] = {}
    for name, field in bound.fields.items():
        try:
            values[name] = field.run_validation(data.get(name, serializers.empty))
        except drf.ValidationError as error:
            detail[name] = error.detail
        except serializers.SkipField:
            continue
    return values, list(_flatten(detail, ""))


T = TypeVar("T")
Serialize = Callable[[Any], Any]


def page_limit(request: Any, *, maximum: int = 100, default: int = 20) -> int:
    text = request.GET.get("limit", str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= maximum):
        raise errors.InvalidRequest(f"limit must be an integer from 1 to {maximum}.", param="limit")
    return int(text)


def paginate(request: Any, queryset: QuerySet[Any], serialize: Serialize, *, key: str = "-id") -> Response:
    """The list envelope. `key` is a unique column of the queryset, `-` in front for descending; one query a page."""
    limit = page_limit(request)
    column = key.lstrip("-")
    cursor = request.GET.get("cursor")
    if cursor:
        value = _decode_cursor(queryset, column, cursor)
        queryset = queryset.filter(**{f"{column}__{'lt' if key.startswith('-') else 'gt'}": value})
    rows = list(queryset.order_by(key)[: limit + 1])
    return _page(rows, limit, serialize, lambda row: getattr(row, column))


def paginate_latest(
    request: Any, queryset: QuerySet[Any], serialize: Serialize, *, time: str = "created_at"
) -> Response:
    """The list envelope, the latest `time` first: for rows whose ids do not sort by it."""
    limit = page_limit(request)
    cursor = request.GET.get("cursor")
    if cursor:
        at, _, id = _decode_text(cursor).partition(" ")
        try:
            queryset = queryset.filter(Q(**{f"{time}__lt": at}) | Q(**{time: at}, id__lt=id))
        except (ValidationError, ValueError):
            raise _bad_cursor() from None
    rows = list(queryset.order_by(f"-{time}", "-id")[: limit + 1])
    return _page(rows, limit, serialize, lambda row: f"{getattr(row, time).isoformat()} {row.id}")


def paginate_items(request: Any, items: Iterable[T], serialize: Serialize, *, key: Callable[[T], str]) -> Response:
    """The list envelope around objects that are no rows: `items` come in the order of `key`, which is unique."""
    limit = page_limit(request)
    cursor = request.GET.get("cursor")
    after = _decode_text(cursor) if cursor else ""
    rows = list(islice((item for item in items if not cursor or key(item) > after), limit + 1))
    return _page(rows, limit, serialize, key)


def _page(rows: list[T], limit: int, serialize: Callable[[T], Any], place: Callable[[T], Any]) -> Response:
    """`rows` are `limit` and one more when there is more; `place` is where the next page begins after a row."""
    more, rows = len(rows) > limit, rows[:limit]
    return envelope([serialize(row) for row in rows], place(rows[-1]) if more else None)


def id_cursor(request: Any) -> UUID | None:
    """The id at which the page begins, None for the first page: for a list that pages by itself."""
    cursor = request.GET.get("cursor")
    if not cursor:
        return None
    id = parse_uuid(_decode_text(cursor))
    if id is None:
        raise _bad_cursor()
    return id


def envelope(rows: list[Any], following: Any) -> Response:
    """The list envelope of a list that pages by itself; `following` is None on the last page."""
    cursor = None if following is None else encode_cursor(following)
    return Response({"object": "list", "data": rows, "has_more": cursor is not None, "next_cursor": cursor})


def encode_cursor(value: Any) -> str:
    return base64.urlsafe_b64encode(str(value).encode()).decode().rstrip("=")


def _decode_cursor(queryset: QuerySet[Any], column: str, cursor: str) -> Any:
    text = _decode_text(cursor)
    try:
        return queryset.model._meta.get_field(column).to_python(text)
    except Exception:  # any garbage a caller may send; each field type raises its own
        raise _bad_cursor() from None


def _decode_text(cursor: str) -> str:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:
        raise _bad_cursor() from None
    if "\0" in text:  # which PostgreSQL refuses
        raise _bad_cursor()
    return text


def _bad_cursor() -> errors.InvalidRequest:
    return errors.InvalidRequest("cursor is not one that a list answered.", param="cursor")
