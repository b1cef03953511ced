from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from core.api import paginate, validated
from core.api_schema import LIST_PARAMETERS, body_errors, errors_of, list_of
from tenants import selectors, services
from tenants.api import serializers as io
from tenants.api.base import ApiView, PublicView, refuse_other_origin
from tenants.models import ApiKey, Membership
from tenants.services import guests


def member_json(member: Membership) -> Any:
    return io.MemberOutput(member).data


def key_json(key: ApiKey) -> Any:
    return io.ApiKeyOutput(key).data


class MeView(ApiView):
    @extend_schema(responses={200: io.MeOutput, **errors_of()}, operation_id="me", tags=["access"])
    def get(self, request: Request) -> Response:
        """Who the credential is, and what it may do."""
        tenant = selectors.tenant_get(actor=self.actor)
        actor = {"kind": self.actor.kind, "id": str(self.actor.id), "label": self.actor.label}
        return Response(
            {
                "principal": actor,
                "tenant": io.TenantOutput(tenant).data,
                "role": self.actor.role,
                "scopes": sorted(self.actor.scopes),
            }
        )


class ApiKeysView(ApiView):
    @extend_schema(
        parameters=LIST_PARAMETERS,
        responses={200: list_of(io.ApiKeyOutput), **errors_of()},
        operation_id="api_keys_list",
        tags=["access"],
    )
    def get(self, request: Request) -> Response:
        """API keys, newest first."""
        return paginate(request, selectors.api_key_list(actor=self.actor), key_json)

    @extend_schema(
        request=io.ApiKeyInput,
        responses={201: io.NewApiKeyOutput, **body_errors()},
        operation_id="api_keys_create",
        tags=["access"],
    )
    def post(self, request: Request) -> Response:
        """A new key; its token is in this answer only."""
        key, token = services.api_key_create(actor=self.actor, **validated(io.ApiKeyInput, request.data))
        return Response({**key_json(key), "token": token}, status=201)


class ApiKeyView(ApiView):
    @extend_schema(responses={200: io.ApiKeyOutput, **errors_of(404)}, operation_id="api_keys_get", tags=["access"])
    def get(self, request: Request, ref: str) -> Response:
        """One API key."""
        return Response(key_json(selectors.api_key_get(actor=self.actor, ref=ref)))

    @extend_schema(
        responses={204: OpenApiResponse(description="Revoked."), **errors_of(404)},
        operation_id="api_keys_revoke",
        tags=["access"],
    )
    def delete(self, request: Request, ref: str) -> Response:
        """Revoke a key: refused everywhere within 5 seconds. The row stays, for the audit."""
        services.api_key_revoke(actor=self.actor, ref=ref)
        return Response(status=204)


class ApiKeyRotateView(ApiView):
    @extend_schema(
        request=io.RotateInput,
        responses={201: io.NewApiKeyOutput, **body_errors(404, 409)},
        operation_id="api_keys_rotate",
        tags=["access"],
    )
    def post(self, request: Request, ref: str) -> Response:
        """A successor with the same rights; the old key works for `overlap_seconds` more."""
        values = validated(io.RotateInput, request.data)
        key, token = services.api_key_rotate(actor=self.actor, ref=ref, **values)
        return Response({**key_json(key), "token": token}, status=201)


class MembersView(ApiView):
    @extend_schema(
        parameters=LIST_PARAMETERS,
        responses={200: list_of(io.MemberOutput), **errors_of()},
        operation_id="members_list",
        tags=["access"],
    )
    def get(self, request: Request) -> Response:
        """Members, newest first."""
        return paginate(request, selectors.member_list(actor=self.actor), member_json)

    @extend_schema(
        request=io.MemberInput,
        responses={201: io.MemberOutput, **body_errors(409)},
        operation_id="members_create",
        tags=["access"],
    )
    def post(self, request: Request) -> Response:
        """Add a person; `password` is for somebody who has no account yet."""
        member = services.member_add(actor=self.actor, **validated(io.MemberInput, request.data))
        return Response(member_json(member), status=201)


class MemberView(ApiView):
    @extend_schema(responses={200: io.MemberOutput, **errors_of(404)}, operation_id="members_get", tags=["access"])
    def get(self, request: Request, ref: str) -> Response:
        """One member."""
        return Response(member_json(selectors.member_get(actor=self.actor, ref=ref)))

    @extend_schema(
        request=io.MemberPatch,
        responses={200: io.MemberOutput, **body_errors(404, 409)},
        operation_id="members_update",
        tags=["access"],
    )
    def patch(self, request: Request, ref: str) -> Response:
        """Change role or status."""
        values = validated(io.MemberPatch, request.data)
        return Response(member_json(services.member_update(actor=self.actor, ref=ref, **values)))

    @extend_schema(
        responses={204: OpenApiResponse(description="Removed."), **errors_of(404, 409)},
        operation_id="members_remove",
        tags=["access"],
    )
    def delete(self, request: Request, ref: str) -> Response:
        """Remove a member; the person's account stays."""
        services.member_remove(actor=self.actor, ref=ref)
        return Response(status=204)


class TicketView(ApiView):
    @extend_schema(
        request=None, responses={201: io.TicketOutput, **errors_of()}, operation_id="ws_tickets_create", tags=["chat"]
    )
    def post(self, request: Request) -> Response:
        """A one-use ticket for a browser socket: `Sec-WebSocket-Protocol: agui.v1, ticket.<ticket>`."""
        ticket, lifetime = services.ticket_create(actor=self.actor)
        return Response({"ticket": ticket, "expires_in": lifetime}, status=201)


class GuestTokenView(PublicView):
    @extend_schema(
        request=io.GuestSecretInput,
        responses={200: io.GuestTokenOutput, **body_errors()},
        auth=[],
        operation_id="guest_tokens_create",
        tags=["chat"],
    )
    def post(self, request: Request) -> Response:
        """A short-lived token for the secret that a guest's browser keeps."""
        guest = guests.guest_by_secret(validated(io.GuestSecretInput, request.data)["secret"])
        refuse_other_origin(request._request, guest.key)
        return Response({"token": guests.guest_token(guest), "expires_in": settings.GUEST_TOKEN_SECONDS})
