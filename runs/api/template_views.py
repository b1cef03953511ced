from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api import StrictSerializer, validated
from core.api_schema import errors_of
from runs.template_statistics import MAX_DAYS, Figures, template_statistics
from tenants.api.base import ApiView

DEFAULT_DAYS = 30
DAYS = OpenApiParameter(
    "days",
    {"type": "integer", "minimum": 1, "maximum": MAX_DAYS, "default": DEFAULT_DAYS},
    description="The last days.",
)


class StatisticsQuery(StrictSerializer):
    days = serializers.IntegerField(min_value=1, max_value=MAX_DAYS, required=False, default=DEFAULT_DAYS)


class DurationOutput(serializers.Serializer[Any]):
    p50 = serializers.FloatField(allow_null=True)
    p95 = serializers.FloatField(allow_null=True)


class FiguresOutput(serializers.Serializer[Any]):
    agents = serializers.IntegerField(help_text="That have it now.")
    runs = serializers.IntegerField(help_text="That began in the time and ended.")
    failed = serializers.IntegerField(help_text="Of these: failed or expired.")
    error_rate = serializers.FloatField(allow_null=True, help_text="0 to 1; null without runs.")
    duration_ms = DurationOutput(help_text="From the start to the end, of runs that succeeded.")


class VersionFiguresOutput(FiguresOutput):
    version = serializers.CharField()


class TemplateStatisticsOutput(FiguresOutput):
    template = serializers.CharField()
    days = serializers.IntegerField()
    versions = VersionFiguresOutput(many=True, help_text="Those that have agents or runs, the highest first.")


def figures_json(figures: Figures) -> dict[str, Any]:
    return {
        "agents": figures.agents,
        "runs": figures.runs,
        "failed": figures.failed,
        "error_rate": figures.error_rate,
        "duration_ms": {"p50": figures.p50, "p95": figures.p95},
    }


class TemplateStatisticsView(ApiView):
    @extend_schema(
        parameters=[DAYS],
        responses={200: TemplateStatisticsOutput, **errors_of(404)},
        operation_id="templates_statistics",
        tags=["templates"],
    )
    def get(self, request: Request, slug: str) -> Response:
        """How a template does in this tenant: its agents, runs, failures and times, in all and by version."""
        days = validated(StatisticsQuery, request.GET)["days"]
        found = template_statistics(actor=self.actor, slug=slug, days=days)
        versions = [{"version": version, **figures_json(each)} for version, each in found.versions.items()]
        return Response({"template": slug, "days": days, **figures_json(found.total), "versions": versions})
