from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from core.api import paginate_items, validated
from core.api_schema import LIST_PARAMETERS, SEARCH, body_errors, errors_of, list_of
from templates_app import selectors
from templates_app.api import serializers as io
from templates_app.base import AgentTemplate
from templates_app.requirements import Requirements
from templates_app.selectors import TemplateInfo
from tenants.api.base import ApiView

VERSION = OpenApiParameter("version", OpenApiTypes.STR, description="A version in use; by default the highest.")


def template_json(info: TemplateInfo) -> dict[str, Any]:
    template = info.template
    return {
        "slug": info.slug,
        "version": template.version if template else None,
        "versions": info.versions,
        "title": template.title if template else info.slug,
        "description": template.description if template else "",
        "framework": template.framework if template else None,
        "capabilities": sorted(template.capabilities) if template else [],
        "reserved_toolsets": sorted(template.reserved_toolsets) if template else [],
        "healthy": not info.problems,
        "deprecated": (template.deprecated or None) if template else None,
    }


def version_json(template: AgentTemplate, *, default: bool) -> dict[str, Any]:
    return {
        "version": template.version,
        "default": default,
        "title": template.title,
        "description": template.description,
        "framework": template.framework,
        "capabilities": sorted(template.capabilities),
        "reserved_toolsets": sorted(template.reserved_toolsets),
        "deprecated": template.deprecated or None,
        "compatible_since": template.compatible_from(),
        "migrates": template.migrates(),
    }


def requirements_json(needs: Requirements | None) -> dict[str, Any] | None:
    if needs is None:
        return None
    return {"model": sorted(needs.model), "toolsets": sorted(needs.toolsets), "sandbox": needs.sandbox}


class TemplatesView(ApiView):
    @extend_schema(
        parameters=[*LIST_PARAMETERS, SEARCH],
        responses={200: list_of(io.TemplateOutput), **errors_of()},
        operation_id="templates_list",
        tags=["templates"],
    )
    def get(self, request: Request) -> Response:
        """The templates by slug, those that failed to load included."""
        found = selectors.template_list(actor=self.actor, q=request.GET.get("q", ""))
        return paginate_items(request, found, template_json, key=lambda info: info.slug)


class TemplateView(ApiView):
    @extend_schema(
        responses={200: io.TemplateOutput, **errors_of(404)}, operation_id="templates_get", tags=["templates"]
    )
    def get(self, request: Request, slug: str) -> Response:
        """One template."""
        return Response(template_json(selectors.template_info(actor=self.actor, slug=slug)))


class TemplateSchemaView(ApiView):
    @extend_schema(
        parameters=[VERSION],
        responses={200: OpenApiTypes.OBJECT, **errors_of(404)},
        operation_id="templates_schema",
        tags=["templates"],
    )
    def get(self, request: Request, slug: str) -> Response:
        """The JSON Schema (draft 2020-12) of the template's config."""
        template = selectors.template_get(actor=self.actor, slug=slug, version=request.GET.get("version"))
        return Response(template.config_schema())


class TemplateVersionsView(ApiView):
    @extend_schema(
        parameters=LIST_PARAMETERS,
        responses={200: list_of(io.TemplateVersionOutput), **errors_of(404)},
        operation_id="templates_versions",
        tags=["templates"],
    )
    def get(self, request: Request, slug: str) -> Response:
        """The versions in use, highest first."""
        numbered = enumerate(selectors.template_versions(actor=self.actor, slug=slug))
        return paginate_items(
            request,
            numbered,
            lambda item: version_json(item[1], default=item[0] == 0),
            key=lambda item: f"{item[0]:06}",
        )


class TemplateHealthView(ApiView):
    @extend_schema(
        responses={200: io.TemplateHealthOutput, **errors_of(404)}, operation_id="templates_health", tags=["templates"]
    )
    def get(self, request: Request, slug: str) -> Response:
        """Is the template usable, and if not, why."""
        health = selectors.template_health(actor=self.actor, slug=slug)
        return Response(io.TemplateHealthOutput(health).data)


class TemplateValidateView(ApiView):
    @extend_schema(
        request=io.TemplateValidateInput,
        responses={200: io.ConfigReportOutput, **body_errors(404)},
        operation_id="templates_validate",
        tags=["templates"],
    )
    def post(self, request: Request, slug: str) -> Response:
        """Every fault of a config, warnings, and what it needs of a model, of toolsets and of the server."""
        values = validated(io.TemplateValidateInput, request.data)
        report = selectors.config_check(actor=self.actor, slug=slug, **values)
        found = {"valid": report.valid, "errors": report.errors, "warnings": report.warnings}
        return Response({**found, "requirements": requirements_json(report.requirements)})
