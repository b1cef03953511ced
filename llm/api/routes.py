from typing import Any, cast

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from core.api import paginate, validated
from core.api_schema import LIST_PARAMETERS, SEARCH, body_errors, errors_of, list_of
from llm.api import route_serializers as io
from llm.models import Route
from llm.routing.cel import known_to_rules
from llm.routing.features import Features
from llm.selectors import routes as selectors
from llm.selectors.route_report import MAX_DAYS, route_report
from llm.services import routes as services
from llm.wire import ChatRequest
from tenants.api.base import ApiView

STRATEGY = OpenApiParameter("strategy", str, description="Only routes of this strategy.")
DAYS = OpenApiParameter("days", {"type": "integer", "minimum": 1, "maximum": MAX_DAYS, "default": 7})


def route_json(route: Route) -> Any:
    return io.RouteOutput(route).data


class RoutesView(ApiView):
    @extend_schema(
        parameters=[*LIST_PARAMETERS, SEARCH, STRATEGY],
        responses={200: list_of(io.RouteOutput), **errors_of()},
        operation_id="routes_list",
        tags=["routes"],
    )
    def get(self, request: Request) -> Response:
        """Routes, newest first. Each is a model name, `route/slug`."""
        q, strategy = request.GET.get("q", ""), request.GET.get("strategy", "")
        rows = selectors.route_list(actor=self.actor, q=q, strategy=strategy)
        return paginate(request, rows, route_json)

    @extend_schema(
        request=io.RouteInput,
        responses={201: io.RouteOutput, **body_errors(409)},
        operation_id="routes_create",
        tags=["routes"],
    )
    def post(self, request: Request) -> Response:
        """A new route with its targets, in their order."""
        route = services.route_create(actor=self.actor, **validated(io.RouteInput, request.data))
        return Response(route_json(route), status=201)


class RouteView(ApiView):
    @extend_schema(responses={200: io.RouteOutput, **errors_of(404)}, operation_id="routes_get", tags=["routes"])
    def get(self, request: Request, ref: str) -> Response:
        """One route, by id or slug."""
        return Response(route_json(selectors.route_get(actor=self.actor, ref=ref)))

    @extend_schema(
        request=io.RouteInput,
        responses={200: io.RouteOutput, **body_errors(404, 409)},
        operation_id="routes_replace",
        tags=["routes"],
    )
    def put(self, request: Request, ref: str) -> Response:
        """Replace a route and its targets."""
        changes = validated(io.RouteInput, request.data)
        return Response(route_json(services.route_update(actor=self.actor, ref=ref, changes=changes)))

    @extend_schema(
        request=io.RoutePatch,
        responses={200: io.RouteOutput, **body_errors(404, 409)},
        operation_id="routes_update",
        tags=["routes"],
    )
    def patch(self, request: Request, ref: str) -> Response:
        """Change some fields; `targets` as a whole."""
        changes = validated(io.RoutePatch, request.data)
        return Response(route_json(services.route_update(actor=self.actor, ref=ref, changes=changes)))

    @extend_schema(
        responses={204: OpenApiResponse(description="Deleted."), **errors_of(404, 409)},
        operation_id="routes_delete",
        tags=["routes"],
    )
    def delete(self, request: Request, ref: str) -> Response:
        """Delete a route; 409 while an agent uses it."""
        services.route_delete(actor=self.actor, ref=ref)
        return Response(status=204)


class RoutePreviewView(ApiView):
    @extend_schema(
        request=io.PreviewInput,
        responses={200: io.PreviewOutput, **body_errors(404)},
        operation_id="routes_preview",
        tags=["routes"],
    )
    def post(self, request: Request, ref: str) -> Response:
        """Where a chat-completions request would go, and why; no provider is asked.

        `metadata.user_id`, else `metadata.session_id`, is whom an A/B test assigns.
        """
        values = validated(io.PreviewInput, request.data)
        metadata = values["metadata"]
        body = cast(dict[str, Any], request.data)
        params = {name: value for name, value in body.items() if name not in ("messages", "metadata", "model")}
        asked = ChatRequest("", values["messages"], params)
        sticky = str(metadata.get("user_id") or metadata.get("session_id") or self.actor.id)
        found = selectors.route_preview(actor=self.actor, ref=ref, request=asked, sticky=sticky, metadata=metadata)
        known = known_to_rules(Features(asked, metadata=metadata))
        return Response(preview_json(found, known))


def preview_json(preview: selectors.Preview, features: dict[str, Any]) -> dict[str, Any]:
    legs = [{"model": leg.target.name, "reason": leg.reason, "variant": leg.variant} for leg in preview.legs]
    return {
        "object": "route_preview",
        "route": preview.route.slug,
        "continues": preview.route.continues,
        "targets": legs,
        "left_out": [{"model": name, "reason": reason} for name, reason in preview.left_out],
        "features": features,
    }


class RouteReportView(ApiView):
    @extend_schema(
        parameters=[DAYS],
        responses={200: io.ReportOutput, **errors_of(404)},
        operation_id="routes_report",
        tags=["routes"],
    )
    def get(self, request: Request, ref: str) -> Response:
        """How the route's variants and models have done in the last days, side by side."""
        days = validated(io.ReportQuery, request.GET)["days"]
        report = route_report(actor=self.actor, ref=ref, days=days)
        span = {"since": report.since, "until": report.until}
        found = {"object": "route_report", "route": report.route.slug, **span, "rows": report.rows}
        return Response(io.ReportOutput(found).data)
