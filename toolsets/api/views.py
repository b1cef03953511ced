from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from core.api import paginate, paginate_items, partly_validated, validated
from core.api_schema import LIST_PARAMETERS, SEARCH, body_errors, errors_of, list_of
from core.validation import config_schema, invalid
from tenants.api.base import ApiView, AsyncApiView
from tenants.permissions import authorize
from toolsets import credentials, selectors, services
from toolsets.api import serializers as io
from toolsets.base import Tool, ToolsetKind
from toolsets.invoke import tool_invoke
from toolsets.learning import toolset_refresh
from toolsets.models import Toolset
from toolsets.policy import Policy
from toolsets.validation import held_secrets, toolset_faults, toolset_warnings

KIND = OpenApiParameter("kind", OpenApiTypes.STR, description="Only toolsets of this kind.")
USER_ID = OpenApiParameter("user_id", OpenApiTypes.STR, description=io.USER_ID)


def toolset_json(toolset: Toolset) -> Any:
    return io.ToolsetOutput(toolset).data


def kind_json(kind: ToolsetKind) -> dict[str, Any]:
    return {
        "kind": kind.slug,
        "title": kind.title,
        "description": kind.description,
        "config_schema": config_schema(kind.Config),
        "policy_schema": config_schema(Policy),
        "secrets": dict(kind.secrets),
        "reserved": kind.reserved,
    }


def tool_json(tool: Tool) -> dict[str, Any]:
    return {
        "name": tool.name,
        "description": tool.description,
        "risk": tool.risk.value,
        "approval": tool.approval,
        "timeout": tool.timeout,
        "parameters": tool.parameters(),
    }


def _with_held(values: dict[str, Any]) -> dict[str, Any]:
    """Of a new toolset; where its secrets are wrong, nothing is said of those that it lacks."""
    return {**values, "held": held_secrets((), values["secrets"])} if "secrets" in values else values


class ToolsetsView(ApiView):
    @extend_schema(
        parameters=[*LIST_PARAMETERS, SEARCH, KIND],
        responses={200: list_of(io.ToolsetOutput), **errors_of()},
        operation_id="toolsets_list",
        tags=["toolsets"],
    )
    def get(self, request: Request) -> Response:
        """Toolsets by slug."""
        filters = {name: request.GET.get(name, "") for name in ("q", "kind")}
        return paginate(request, selectors.toolset_list(actor=self.actor, **filters), toolset_json, key="slug")

    @extend_schema(
        request=io.ToolsetInput,
        responses={201: io.ToolsetOutput, **body_errors(409)},
        operation_id="toolsets_create",
        tags=["toolsets"],
    )
    def post(self, request: Request) -> Response:
        """A toolset, which agents can then be granted by its slug."""
        authorize(self.actor, "toolset.edit")
        values, faults = partly_validated(io.ToolsetInput, request.data)
        if faults:
            raise invalid(faults + toolset_faults(_with_held(values)))
        return Response(toolset_json(services.toolset_create(actor=self.actor, **values)), status=201)


class ToolsetView(ApiView):
    @extend_schema(responses={200: io.ToolsetOutput, **errors_of(404)}, operation_id="toolsets_get", tags=["toolsets"])
    def get(self, request: Request, ref: str) -> Response:
        """One toolset."""
        return Response(toolset_json(selectors.toolset_get(actor=self.actor, ref=ref)))

    @extend_schema(
        request=io.ToolsetPatch,
        responses={200: io.ToolsetOutput, **body_errors(404, 409)},
        operation_id="toolsets_update",
        tags=["toolsets"],
    )
    def patch(self, request: Request, ref: str) -> Response:
        """Change some fields; `config` is replaced as a whole. Agents use it so from their next run."""
        authorize(self.actor, "toolset.edit")
        values, faults = partly_validated(io.ToolsetPatch, request.data, partial=True)
        if faults:
            toolset = selectors.toolset_get(actor=self.actor, ref=ref, learned=True)
            raise invalid(faults + selectors.toolset_report(toolset, values)[0])
        return Response(toolset_json(services.toolset_update(actor=self.actor, ref=ref, changes=values)))

    @extend_schema(
        responses={204: OpenApiResponse(description="Deleted."), **errors_of(404, 409)},
        operation_id="toolsets_delete",
        tags=["toolsets"],
    )
    def delete(self, request: Request, ref: str) -> Response:
        """Delete a toolset; 409 while an agent is granted it."""
        services.toolset_delete(actor=self.actor, ref=ref)
        return Response(status=204)


class ToolsetKindsView(ApiView):
    @extend_schema(
        parameters=LIST_PARAMETERS,
        responses={200: list_of(io.ToolsetKindOutput), **errors_of()},
        operation_id="toolsets_kinds",
        tags=["toolsets"],
    )
    def get(self, request: Request) -> Response:
        """The kinds that this server has, with the JSON Schema of their config."""
        kinds = selectors.kind_list(actor=self.actor)
        return paginate_items(request, kinds, kind_json, key=lambda kind: kind.slug)


class ToolsetToolsView(ApiView):
    @extend_schema(
        parameters=LIST_PARAMETERS,
        responses={200: list_of(io.ToolOutput), **errors_of(404, 503)},
        operation_id="toolsets_tools",
        tags=["toolsets"],
    )
    def get(self, request: Request, ref: str) -> Response:
        """The tools of a toolset, with the JSON Schema of their arguments."""
        tools = selectors.tool_list(actor=self.actor, ref=ref)
        return paginate_items(request, tools, tool_json, key=lambda tool: tool.name)


class ToolsetValidateView(ApiView):
    @extend_schema(
        request=io.ToolsetPatch,
        responses={200: io.ToolsetReport, **body_errors(404)},
        operation_id="toolsets_validate",
        tags=["toolsets"],
    )
    def post(self, request: Request, ref: str) -> Response:
        """What would be wrong with the toolset after these changes, every fault at once; nothing is changed or run."""
        authorize(self.actor, "toolset.edit")
        values, faults = partly_validated(io.ToolsetPatch, request.data, partial=True)
        toolset = selectors.toolset_get(actor=self.actor, ref=ref, learned=True)
        found, tools = selectors.toolset_report(toolset, values)
        faults += found
        warnings = toolset_warnings(self.actor, [("config", toolset.kind, values.get("config", toolset.config))])
        return Response({"valid": not faults, "errors": faults, "warnings": warnings, "tools": tools})


class NewToolsetValidateView(ApiView):
    @extend_schema(
        request=io.ToolsetInput,
        responses={200: io.NewToolsetReport, **body_errors()},
        operation_id="toolsets_validate_new",
        tags=["toolsets"],
    )
    def post(self, request: Request) -> Response:
        """Every fault that creating this toolset would meet, and warnings, without making or opening anything."""
        authorize(self.actor, "toolset.edit")
        values, faults = partly_validated(io.ToolsetInput, request.data)
        errors = faults + toolset_faults(_with_held(values))
        warnings = toolset_warnings(self.actor, [("config", values.get("kind", ""), values.get("config", {}))])
        return Response({"valid": not errors, "errors": errors, "warnings": warnings})


class ToolsetRefreshView(AsyncApiView):
    @extend_schema(
        request=None,
        responses={200: io.RefreshOutput, **errors_of(404, 409, 503)},
        operation_id="toolsets_refresh",
        tags=["toolsets"],
    )
    async def post(self, request: Request, ref: str) -> Response:
        """Ask the toolset's server for its tools now, as happens by itself from time to time."""
        refreshed = await toolset_refresh(actor=self.actor, ref=ref)
        return Response(io.RefreshOutput(refreshed).data)


class ToolInvokeView(AsyncApiView):
    @extend_schema(
        request=io.InvokeInput,
        responses={200: io.InvokeOutput, **body_errors(404, 503)},
        operation_id="toolsets_invoke",
        tags=["toolsets"],
    )
    async def post(self, request: Request, ref: str, name: str) -> Response:
        """Call one tool, as an agent would but outside of any run. The caller is the person who approves it."""
        authorize(self.actor, "toolset.edit")
        values = validated(io.InvokeInput, request.data)
        return Response(await tool_invoke(actor=self.actor, ref=ref, name=name, arguments=values["arguments"]))


class ToolsetCredentialsView(ApiView):
    @extend_schema(
        parameters=[USER_ID],
        responses={200: io.CredentialsOutput, **errors_of(400, 404)},
        operation_id="toolsets_credentials_get",
        tags=["toolsets"],
    )
    def get(self, request: Request, ref: str) -> Response:
        """Which of your own secrets are stored for a toolset that acts for persons; never the secrets themselves."""
        user_id = request.GET.get("user_id", "")
        found = credentials.credential_get(actor=self.actor, ref=ref, user_id=user_id)
        return Response(io.CredentialsOutput(found).data)

    @extend_schema(
        request=io.CredentialsInput,
        responses={200: io.CredentialsOutput, **body_errors(404, 409)},
        operation_id="toolsets_credentials_put",
        tags=["toolsets"],
    )
    def put(self, request: Request, ref: str) -> Response:
        """Store what you, or your end user, sign in with where this toolset acts for you."""
        values = validated(io.CredentialsInput, request.data)
        found = credentials.credential_put(actor=self.actor, ref=ref, **values)
        return Response(io.CredentialsOutput(found).data)

    @extend_schema(
        parameters=[USER_ID],
        responses={204: OpenApiResponse(description="Deleted."), **errors_of(400, 404)},
        operation_id="toolsets_credentials_delete",
        tags=["toolsets"],
    )
    def delete(self, request: Request, ref: str) -> Response:
        """Delete what is stored; runs under way may go on with it."""
        credentials.credential_delete(actor=self.actor, ref=ref, user_id=request.GET.get("user_id", ""))
        return Response(status=204)
