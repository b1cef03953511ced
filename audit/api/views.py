from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from audit import selectors
from audit.api.serializers import AuditEventOutput
from audit.models import AuditEvent
from core.api import paginate
from core.api_schema import LIST_PARAMETERS, errors_of, list_of
from tenants.api.base import ApiView


def event_json(event: AuditEvent) -> Any:
    return AuditEventOutput(event).data


class AuditView(ApiView):
    @extend_schema(
        parameters=[
            *LIST_PARAMETERS,
            OpenApiParameter("action", str, description="How the action begins: `agent.` or `agent.create`."),
            OpenApiParameter("object_type", str),
            OpenApiParameter("object_id", str),
        ],
        responses={200: list_of(AuditEventOutput), **errors_of()},
        operation_id="audit_list",
        tags=["access"],
    )
    def get(self, request: Request) -> Response:
        """Who changed what, newest first."""
        events = selectors.event_list(
            actor=self.actor,
            action=request.GET.get("action", ""),
            object_type=request.GET.get("object_type", ""),
            object_id=request.GET.get("object_id", ""),
        )
        return paginate(request, events, event_json)
