from typing import Any, cast

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from core.api import paginate, validated
from core.api_schema import LIST_PARAMETERS, SEARCH, body_errors, errors_of, list_of
from llm.api import model_serializers as io
from llm.models import ProviderModel
from llm.selectors import models as selectors
from llm.services import models as services
from llm.services.models import ModelChanges
from tenants.api.base import ApiView


def model_json(model: ProviderModel) -> Any:
    return io.ProviderModelOutput(model).data


class ProviderModelsView(ApiView):
    @extend_schema(
        parameters=[*LIST_PARAMETERS, SEARCH],
        responses={200: list_of(io.ProviderModelOutput), **errors_of(404)},
        operation_id="provider_models_list",
        tags=["providers"],
    )
    def get(self, request: Request, ref: str) -> Response:
        """The models of a provider by name, what is known of each, and where it is known from."""
        rows = selectors.model_list(actor=self.actor, ref=ref, q=request.GET.get("q", ""))
        return paginate(request, rows, model_json, key="name")

    @extend_schema(
        request=io.ProviderModelInput,
        responses={201: io.ProviderModelOutput, **body_errors(404, 409)},
        operation_id="provider_models_create",
        tags=["providers"],
    )
    def post(self, request: Request, ref: str) -> Response:
        """Enter a model that the provider has and does not list. `overrides` say what it can do."""
        values = validated(io.ProviderModelInput, request.data)
        return Response(model_json(services.model_create(actor=self.actor, ref=ref, **values)), status=201)


class ProviderModelView(ApiView):
    @extend_schema(
        responses={200: io.ProviderModelOutput, **errors_of(404)},
        operation_id="provider_models_get",
        tags=["providers"],
    )
    def get(self, request: Request, ref: str, name: str) -> Response:
        """One model; its name may have slashes and colons."""
        return Response(model_json(selectors.model_get(actor=self.actor, ref=ref, name=name)))

    @extend_schema(
        request=io.ProviderModelPatch,
        responses={200: io.ProviderModelOutput, **body_errors(404)},
        operation_id="provider_models_update",
        tags=["providers"],
    )
    def patch(self, request: Request, ref: str, name: str) -> Response:
        """Switch a model on or off, or replace its `overrides`."""
        changes = cast(ModelChanges, validated(io.ProviderModelPatch, request.data))
        return Response(model_json(services.model_update(actor=self.actor, ref=ref, name=name, changes=changes)))

    @extend_schema(
        responses={204: OpenApiResponse(description="Deleted."), **errors_of(404)},
        operation_id="provider_models_delete",
        tags=["providers"],
    )
    def delete(self, request: Request, ref: str, name: str) -> Response:
        """Forget a model. One that the provider lists comes back with its next test: switch it off instead."""
        services.model_delete(actor=self.actor, ref=ref, name=name)
        return Response(status=204)
