from typing import Any

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from core.api import paginate, validated
from core.api_schema import LIST_PARAMETERS, body_errors, errors_of, list_of
from llm.api import route_serializers as io
from llm.models import ProviderKey
from llm.selectors.keys import key_get, key_list
from llm.services.keys import key_create, key_delete, key_update
from tenants.api.base import ApiView


def key_json(key: ProviderKey) -> Any:
    return io.KeyOutput(key).data


class ProviderKeysView(ApiView):
    @extend_schema(
        parameters=LIST_PARAMETERS,
        responses={200: list_of(io.KeyOutput), **errors_of(404)},
        operation_id="provider_keys_list",
        tags=["providers"],
    )
    def get(self, request: Request, ref: str) -> Response:
        """The keys of a provider besides its main one, newest first."""
        return paginate(request, key_list(actor=self.actor, provider=ref), key_json)

    @extend_schema(
        request=io.KeyInput,
        responses={201: io.KeyOutput, **body_errors(404, 409)},
        operation_id="provider_keys_create",
        tags=["providers"],
    )
    def post(self, request: Request, ref: str) -> Response:
        """One more key. It is stored encrypted and never shown again."""
        key = key_create(actor=self.actor, provider=ref, **validated(io.KeyInput, request.data))
        return Response(key_json(key), status=201)


class ProviderKeyView(ApiView):
    @extend_schema(
        responses={200: io.KeyOutput, **errors_of(404)}, operation_id="provider_keys_get", tags=["providers"]
    )
    def get(self, request: Request, ref: str, key: str) -> Response:
        """One key, by id."""
        return Response(key_json(key_get(actor=self.actor, provider=ref, ref=key)))

    @extend_schema(
        request=io.KeyPatch,
        responses={200: io.KeyOutput, **body_errors(404, 409)},
        operation_id="provider_keys_update",
        tags=["providers"],
    )
    def patch(self, request: Request, ref: str, key: str) -> Response:
        """Change some fields; an `api_key` takes the place of the stored one."""
        changes = validated(io.KeyPatch, request.data)
        return Response(key_json(key_update(actor=self.actor, provider=ref, ref=key, changes=changes)))

    @extend_schema(
        responses={204: OpenApiResponse(description="Deleted."), **errors_of(404)},
        operation_id="provider_keys_delete",
        tags=["providers"],
    )
    def delete(self, request: Request, ref: str, key: str) -> Response:
        """Delete a key; calls under way keep it."""
        key_delete(actor=self.actor, provider=ref, ref=key)
        return Response(status=204)
