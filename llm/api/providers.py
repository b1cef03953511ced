from typing import Any, cast

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api import paginate, validated
from core.api_schema import LIST_PARAMETERS, SEARCH, body_errors, errors_of, list_of
from llm.api import serializers as io
from llm.models import Provider
from llm.providers import provider_kinds
from llm.selectors import providers as selectors
from llm.services import providers as services
from llm.services.providers import ProviderChanges
from tenants.api.base import ApiView, AsyncApiView
from tenants.permissions import authorize

KIND_LIST = inline_serializer("ProviderKindList", {"object": serializers.CharField(), "data": io.KindOutput(many=True)})
HEALTH = inline_serializer(
    "EndpointHealthList", {"object": serializers.CharField(), "data": io.EndpointHealthOutput(many=True)}
)
KIND = OpenApiParameter("kind", str, description="Only providers of this kind.")


def provider_json(provider: Provider) -> Any:
    return io.ProviderOutput(provider).data


class ProvidersView(ApiView):
    @extend_schema(
        parameters=[*LIST_PARAMETERS, SEARCH, KIND],
        responses={200: list_of(io.ProviderOutput), **errors_of()},
        operation_id="providers_list",
        tags=["providers"],
    )
    def get(self, request: Request) -> Response:
        """Model providers, newest first."""
        rows = selectors.provider_list(actor=self.actor, q=request.GET.get("q", ""), kind=request.GET.get("kind", ""))
        return paginate(request, rows, provider_json)

    @extend_schema(
        request=io.ProviderInput,
        responses={201: io.ProviderOutput, **body_errors(409)},
        operation_id="providers_create",
        tags=["providers"],
    )
    def post(self, request: Request) -> Response:
        """A new provider. Its API key is stored encrypted and never shown again."""
        provider = services.provider_create(actor=self.actor, **validated(io.ProviderInput, request.data))
        return Response(provider_json(provider), status=201)


class ProviderView(ApiView):
    @extend_schema(
        responses={200: io.ProviderOutput, **errors_of(404)}, operation_id="providers_get", tags=["providers"]
    )
    def get(self, request: Request, ref: str) -> Response:
        """One provider, by id or slug."""
        return Response(provider_json(selectors.provider_get(actor=self.actor, ref=ref)))

    @extend_schema(
        request=io.ProviderInput,
        responses={200: io.ProviderOutput, **body_errors(404, 409)},
        operation_id="providers_replace",
        tags=["providers"],
    )
    def put(self, request: Request, ref: str) -> Response:
        """Replace a provider. Without `api_key` the stored one stays; `kind` must be what it is."""
        fields = validated(io.ProviderInput, request.data)
        kind = fields.pop("kind")
        changes = cast(ProviderChanges, fields)
        provider = services.provider_update(actor=self.actor, ref=ref, changes=changes, kind=kind)
        return Response(provider_json(provider))

    @extend_schema(
        request=io.ProviderPatch,
        responses={200: io.ProviderOutput, **body_errors(404, 409)},
        operation_id="providers_update",
        tags=["providers"],
    )
    def patch(self, request: Request, ref: str) -> Response:
        """Change some fields. `api_key` null or empty takes the stored one away."""
        changes = cast(ProviderChanges, validated(io.ProviderPatch, request.data))
        return Response(provider_json(services.provider_update(actor=self.actor, ref=ref, changes=changes)))

    @extend_schema(
        responses={204: OpenApiResponse(description="Deleted."), **errors_of(404, 409)},
        operation_id="providers_delete",
        tags=["providers"],
    )
    def delete(self, request: Request, ref: str) -> Response:
        """Delete a provider and its secret; 409 while an agent uses it."""
        services.provider_delete(actor=self.actor, ref=ref)
        return Response(status=204)


class ProviderTestView(AsyncApiView):
    @extend_schema(
        request=None,
        responses={200: io.TestOutput, **errors_of(404)},
        operation_id="providers_test",
        tags=["providers"],
    )
    async def post(self, request: Request, ref: str) -> Response:
        """Ask the provider for its models; stores its health and what it lists."""
        result = await services.provider_test(actor=self.actor, ref=ref)
        return Response(io.TestOutput(result).data)


class ProviderHealthView(ApiView):
    @extend_schema(responses={200: HEALTH, **errors_of(404)}, operation_id="providers_health", tags=["providers"])
    def get(self, request: Request, ref: str) -> Response:
        """The provider's models that have failed so often that they were left alone, and how they do now."""
        rows = selectors.endpoint_health(actor=self.actor, ref=ref)
        return Response({"object": "list", "data": [io.EndpointHealthOutput(row).data for row in rows]})


class ProviderResetView(ApiView):
    @extend_schema(
        request=io.ResetInput,
        responses={200: io.ResetOutput, **body_errors(404)},
        operation_id="providers_health_reset",
        tags=["providers"],
    )
    def post(self, request: Request, ref: str) -> Response:
        """Ask again the models that are left alone; all servers do within five seconds."""
        closed = services.provider_reset(actor=self.actor, ref=ref, **validated(io.ResetInput, request.data))
        return Response(io.ResetOutput({"closed": closed}).data)


class ProviderKindsView(ApiView):
    @extend_schema(responses={200: KIND_LIST, **errors_of()}, operation_id="providers_kinds", tags=["providers"])
    def get(self, request: Request) -> Response:
        """The kinds of providers, what each needs, and the JSON Schema of its `settings`."""
        authorize(self.actor, "provider.view")
        return Response({"object": "list", "data": [io.KindOutput(kind).data for kind in provider_kinds()]})
