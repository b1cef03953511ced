"""Request bodies that a pydantic model of the service checks, so that all faults are told at once."""

from typing import Any

from pydantic import BaseModel
from rest_framework.request import Request

from core.errors import InvalidRequest


def body_of(request: Request) -> dict[str, Any]:
    if not isinstance(request.data, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return request.data


def json_body(model: type[BaseModel], *, partial: bool = False) -> dict[str, Any]:
    """The body in the OpenAPI schema; of a `partial` one any field may be left out."""
    schema = model.model_json_schema()
    if partial:
        schema.pop("required", None)
    return {"application/json": schema}
