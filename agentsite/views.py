"""Health, and the error pages of paths that no view serves."""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from agentsite.admin.refusals import is_page, refusal
from agentsite.health import Component, components
from core import errors
from core.request_context import current_request


class HealthOutput(serializers.Serializer[Any]):
    status = serializers.ChoiceField(["ok"])


class ComponentOutput(serializers.Serializer[Any]):
    name = serializers.CharField()
    status = serializers.ChoiceField(["ok", "degraded", "down", "absent"])
    detail = serializers.CharField()


class ReadyOutput(serializers.Serializer[Any]):
    status = serializers.ChoiceField(["ok", "degraded", "down"])
    components = ComponentOutput(many=True)


class HealthView(APIView):
    @extend_schema(responses=HealthOutput, auth=[], operation_id="health", tags=["health"])
    def get(self, request: Request) -> Response:
        """The process answers."""
        return Response({"status": "ok"})


class ReadyView(APIView):
    @extend_schema(
        responses={200: ReadyOutput, 503: OpenApiResponse(ReadyOutput, description="It cannot serve.")},
        auth=[],
        operation_id="health_ready",
        tags=["health"],
    )
    def get(self, request: Request) -> Response:
        """Each component's state; 503 when one that chat needs is down."""
        found = components()
        status = overall(found)
        body = {"status": status, "components": [c._asdict() for c in found]}
        return Response(body, status=503 if status == "down" else 200)


def overall(found: list[Component]) -> str:
    states = {c.status for c in found}
    return "down" if "down" in states else "degraded" if "degraded" in states else "ok"


def _error(request: HttpRequest, error: errors.ApplicationError) -> HttpResponse:
    if request.path.startswith(("/v1/", "/mcp")):
        return JsonResponse(error.body(current_request().request_id), status=error.status)
    if is_page(request) and error.status in (403, 404):
        return refusal(request, error.status, error.message)
    return HttpResponse(f"{error.status} {error.message}\n", status=error.status, content_type="text/plain")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _error(request, errors.NotFound("Nothing is served at this path."))


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _error(request, errors.InvalidRequest("The request was refused."))


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _error(request, errors.NotPermitted("Your role does not permit this."))


def server_error(request: HttpRequest) -> HttpResponse:
    return _error(request, errors.ApplicationError("The server failed. The request id leads to its log."))
