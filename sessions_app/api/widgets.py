"""Publishable keys, for those who put a widget on a page, and visitors, for the widget itself."""

from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api import Integer, StrictSerializer, Text, paginate, validated
from core.api_schema import LIST_PARAMETERS, body_errors, errors_of, list_of
from core.errors import NotAuthenticated
from core.request_context import current_request
from sessions_app.selectors import widgets as selectors
from sessions_app.services import widgets as services
from sessions_app.services.visitors import visitor_open
from tenants.api.base import ApiView, PublicView, bearer_token, origin_of
from tenants.models import PublishableKey
from tenants.services.guests import guest_token


class _Limit(Integer):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=1, max_value=services.MAX_PER_MINUTE, **kwargs)


class PublishableKeyInput(StrictSerializer):
    name = Text(max_length=120)
    agent = Text(max_length=63, help_text="An agent's slug or id.")
    origins = serializers.ListField(
        child=Text(max_length=200), help_text="The pages that may show the widget, such as https://shop.example."
    )
    visitors_per_minute = _Limit(required=False, default=30, help_text="New ones, from one address.")
    messages_per_minute = _Limit(required=False, default=20, help_text="Of one visitor.")


class PublishableKeyPatch(StrictSerializer):
    name = Text(required=False, max_length=120)
    agent = Text(required=False, max_length=63)
    origins = serializers.ListField(required=False, child=Text(max_length=200))
    visitors_per_minute = _Limit(required=False)
    messages_per_minute = _Limit(required=False)


class PublishableKeyOutput(serializers.Serializer[PublishableKey]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    token = serializers.CharField(help_text="Public: the page shows it to everybody.")
    agent = serializers.CharField()
    origins = serializers.ListField(child=serializers.CharField())
    visitors_per_minute = serializers.IntegerField()
    messages_per_minute = serializers.IntegerField()
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    revoked_at = serializers.DateTimeField(allow_null=True)


class VisitorInput(StrictSerializer):
    secret = Text(required=False, default="", max_length=200, allow_blank=True, help_text="Of an earlier visit.")
    name = Text(required=False, default="", max_length=80, allow_blank=True, help_text="Which others are shown.")


class VisitedAgent(serializers.Serializer[Any]):
    slug = serializers.CharField()
    name = serializers.CharField()


class VisitorOutput(serializers.Serializer[Any]):
    visitor_id = serializers.UUIDField()
    secret = serializers.CharField(help_text="For the browser to keep, as `asv_…`.")
    token = serializers.CharField(help_text="For `Authorization: Bearer`.")
    expires_in = serializers.IntegerField(help_text="Seconds that the token lives.")
    agent = VisitedAgent()


def key_json(key: PublishableKey) -> Any:
    return PublishableKeyOutput(key).data


class PublishableKeysView(ApiView):
    @extend_schema(
        parameters=LIST_PARAMETERS,
        responses={200: list_of(PublishableKeyOutput), **errors_of()},
        operation_id="publishable_keys_list",
        tags=["access"],
    )
    def get(self, request: Request) -> Response:
        """Publishable keys, newest first."""
        return paginate(request, selectors.publishable_key_list(actor=self.actor), key_json)

    @extend_schema(
        request=PublishableKeyInput,
        responses={201: PublishableKeyOutput, **body_errors()},
        operation_id="publishable_keys_create",
        tags=["access"],
    )
    def post(self, request: Request) -> Response:
        """A key by which visitors of the pages at `origins` talk with the agent."""
        values = validated(PublishableKeyInput, request.data)
        return Response(key_json(services.publishable_key_create(actor=self.actor, **values)), status=201)


class PublishableKeyView(ApiView):
    @extend_schema(
        responses={200: PublishableKeyOutput, **errors_of(404)}, operation_id="publishable_keys_get", tags=["access"]
    )
    def get(self, request: Request, ref: str) -> Response:
        """One publishable key."""
        return Response(key_json(selectors.publishable_key_get(actor=self.actor, ref=ref)))

    @extend_schema(
        request=PublishableKeyPatch,
        responses={200: PublishableKeyOutput, **body_errors(404, 409)},
        operation_id="publishable_keys_update",
        tags=["access"],
    )
    def patch(self, request: Request, ref: str) -> Response:
        """Change it; visitors whom it no longer covers are refused within 5 seconds."""
        changes = validated(PublishableKeyPatch, request.data)
        return Response(key_json(services.publishable_key_update(actor=self.actor, ref=ref, changes=changes)))

    @extend_schema(
        responses={204: OpenApiResponse(description="Revoked."), **errors_of(404)},
        operation_id="publishable_keys_revoke",
        tags=["access"],
    )
    def delete(self, request: Request, ref: str) -> Response:
        """Revoke it: it and its visitors are refused within 5 seconds. The row stays, for the audit."""
        services.publishable_key_revoke(actor=self.actor, ref=ref)
        return Response(status=204)


class VisitorsView(PublicView):
    @extend_schema(
        request=VisitorInput,
        responses={
            200: OpenApiResponse(VisitorOutput, description="The visitor whose `secret` it is."),
            201: OpenApiResponse(VisitorOutput, description="A new visitor."),
            **body_errors(404, 409, 429),
        },
        operation_id="visitors_create",
        tags=["chat"],
    )
    def post(self, request: Request) -> Response:
        """For a widget, by its publishable key: who its visitor is, and a short-lived token for them."""
        token = bearer_token(request._request)
        if token is None:
            raise NotAuthenticated("Send `Authorization: Bearer <publishable key>`.")
        values = validated(VisitorInput, request.data)
        visit = visitor_open(token=token, origin=origin_of(request._request), address=current_request().ip, **values)
        answer = {
            "visitor_id": str(visit.guest.id),
            "secret": visit.secret,
            "token": guest_token(visit.guest),
            "expires_in": settings.GUEST_TOKEN_SECONDS,
            "agent": {"slug": visit.agent.slug, "name": visit.agent.version.name if visit.agent.version else ""},
        }
        return Response(answer, status=201 if visit.is_new else 200)
