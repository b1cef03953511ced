from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from agents import selectors, services
from agents.api import serializers as io
from agents.compatibility import compatibility
from agents.models import Agent, AgentVersion
from agents.validation import check_agent
from core.api import paginate, partly_validated, validated
from core.api_schema import LIST_PARAMETERS, SEARCH, body_errors, errors_of, list_of
from core.errors import InvalidRequest
from core.validation import invalid
from tenants.api.base import ApiView
from tenants.permissions import authorize

STATUS = OpenApiParameter("status", OpenApiTypes.STR, enum=Agent.Status.values, description="Only these agents.")
TEMPLATE = OpenApiParameter("template", OpenApiTypes.STR, description="Only agents of this template.")


def agent_json(agent: Agent) -> Any:
    return io.AgentOutput(agent).data


def version_json(version: AgentVersion) -> Any:
    return io.AgentVersionOutput(version).data


class _AgentApiView(ApiView):
    def given(self, serializer: type[Serializer[Any]], request: Request, *, partial: bool = False) -> dict[str, Any]:
        """The body's values. Raises what is wrong with their form together with what is wrong with the rest of them."""
        authorize(self.actor, "agent.edit")
        values, faults = partly_validated(serializer, request.data, partial=partial)
        if faults:
            raise invalid(faults + check_agent(actor=self.actor, values=values).errors)
        return values


class AgentsView(_AgentApiView):
    @extend_schema(
        parameters=[*LIST_PARAMETERS, SEARCH, STATUS, TEMPLATE],
        responses={200: list_of(io.AgentOutput), **errors_of()},
        operation_id="agents_list",
        tags=["agents"],
    )
    def get(self, request: Request) -> Response:
        """Agents, newest first."""
        filters = {name: request.GET.get(name, "") for name in ("q", "status", "template")}
        if filters["status"] not in ("", *Agent.Status.values):
            raise InvalidRequest(f"status must be one of {', '.join(Agent.Status.values)}.", param="status")
        return paginate(request, selectors.agent_list(actor=self.actor, **filters), agent_json)

    @extend_schema(
        request=io.AgentInput,
        responses={201: io.AgentOutput, **body_errors(409)},
        operation_id="agents_create",
        tags=["agents"],
    )
    def post(self, request: Request) -> Response:
        """An agent, as a draft: until it is active, only those who may edit it can run it."""
        agent = services.agent_create(actor=self.actor, **self.given(io.AgentInput, request))
        return Response(agent_json(agent), status=201)


class AgentView(_AgentApiView):
    @extend_schema(responses={200: io.AgentOutput, **errors_of(404)}, operation_id="agents_get", tags=["agents"])
    def get(self, request: Request, ref: str) -> Response:
        """One agent with its current configuration."""
        return Response(agent_json(selectors.agent_get(actor=self.actor, ref=ref)))

    @extend_schema(
        request=io.AgentInput,
        responses={200: io.AgentOutput, **body_errors(404, 409)},
        operation_id="agents_replace",
        tags=["agents"],
    )
    def put(self, request: Request, ref: str) -> Response:
        """Replace slug and configuration; what is left out gets its default. A change makes a new version."""
        values = self.given(io.AgentInput, request)
        return Response(agent_json(services.agent_update(actor=self.actor, ref=ref, changes=values)))

    @extend_schema(
        request=io.AgentPatch,
        responses={200: io.AgentOutput, **body_errors(404, 409)},
        operation_id="agents_update",
        tags=["agents"],
    )
    def patch(self, request: Request, ref: str) -> Response:
        """Change some fields. A change makes a new version; nothing changed makes none."""
        values = self.given(io.AgentPatch, request, partial=True)
        return Response(agent_json(services.agent_update(actor=self.actor, ref=ref, changes=values)))

    @extend_schema(
        responses={204: OpenApiResponse(description="Deleted."), **errors_of(404)},
        operation_id="agents_delete",
        tags=["agents"],
    )
    def delete(self, request: Request, ref: str) -> Response:
        """Delete an agent with its versions. Its sessions, runs and messages stay."""
        services.agent_delete(actor=self.actor, ref=ref)
        return Response(status=204)


class AgentStatusView(ApiView):
    @extend_schema(
        request=io.AgentStatusInput,
        responses={200: io.AgentOutput, **body_errors(404)},
        operation_id="agents_status",
        tags=["agents"],
    )
    def patch(self, request: Request, ref: str) -> Response:
        """Make an agent a draft, active or paused; runs under way go on."""
        values = validated(io.AgentStatusInput, request.data)
        return Response(agent_json(services.agent_status(actor=self.actor, ref=ref, **values)))


class AgentVersionsView(ApiView):
    @extend_schema(
        parameters=LIST_PARAMETERS,
        responses={200: list_of(io.AgentVersionOutput), **errors_of(404)},
        operation_id="agents_versions",
        tags=["agents"],
    )
    def get(self, request: Request, ref: str) -> Response:
        """The configurations that an agent has had, newest first."""
        versions = selectors.version_list(actor=self.actor, ref=ref)
        return paginate(request, versions, version_json, key="-number")


class AgentVersionView(ApiView):
    @extend_schema(
        responses={200: io.AgentVersionOutput, **errors_of(404)}, operation_id="agents_version_get", tags=["agents"]
    )
    def get(self, request: Request, ref: str, number: int) -> Response:
        """One version."""
        return Response(version_json(selectors.version_get(actor=self.actor, ref=ref, number=number)))


class AgentRestoreView(ApiView):
    @extend_schema(
        request=None,
        responses={200: io.AgentOutput, **errors_of(404)},
        operation_id="agents_version_restore",
        tags=["agents"],
    )
    def post(self, request: Request, ref: str, number: int) -> Response:
        """Make an old version's configuration the current one, as a new version."""
        return Response(agent_json(services.agent_restore(actor=self.actor, ref=ref, number=number)))


class AgentValidateView(ApiView):
    @extend_schema(
        request=io.AgentDraft,
        responses={200: io.AgentReportOutput, **body_errors()},
        operation_id="agents_validate",
        tags=["agents"],
    )
    def post(self, request: Request) -> Response:
        """Every fault that creating this agent would meet, and warnings, without making anything."""
        authorize(self.actor, "agent.view")
        validated(io.AgentDraft, request.data)
        values, faults = partly_validated(io.AgentInput, request.data)
        report = check_agent(actor=self.actor, values=values)
        errors = faults + report.errors
        return Response({"valid": not errors, "errors": errors, "warnings": report.warnings})


class CompatibilityView(ApiView):
    @extend_schema(
        request=io.CompatibilityInput,
        responses={200: io.CompatibilityOutput, **body_errors()},
        operation_id="toolsets_compatibility",
        tags=["toolsets"],
    )
    def post(self, request: Request) -> Response:
        """Whether toolsets go with a template and a model, each with the reasons why not; nothing is made."""
        authorize(self.actor, "agent.view")
        values = validated(io.CompatibilityInput, request.data)
        return Response(compatibility(actor=self.actor, values=values))
