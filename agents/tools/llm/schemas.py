"""JSON Schemas that a model wrote."""

from typing import Any

from core import json_schemas
from core.json_schemas import SchemaFault
from toolsets.exceptions import ToolError


class Schema(json_schemas.Schema):
    """Raises ToolError where that raises SchemaFault."""

    def __init__(self, schema: dict[str, Any]) -> None:
        try:
            super().__init__(schema)
        except SchemaFault as fault:
            raise ToolError(str(fault)) from None

    def read(self, answer: str) -> tuple[dict[str, Any] | None, str]:
        try:
            return super().read(answer)
        except SchemaFault as fault:
            raise ToolError(str(fault)) from None
