from typing import Any

from rest_framework import serializers

from core.api import Choice, Integer, Slug, StrictSerializer, Text
from tenants.models import ApiKey, Membership, Role
from tenants.permissions import SCOPES


class TenantOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    slug = Slug()
    name = serializers.CharField()


class PrincipalOutput(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(["user", "api_key", "guest"])
    id = serializers.UUIDField()
    label = serializers.CharField()  # type: ignore[assignment]


class MeOutput(serializers.Serializer[Any]):
    principal = PrincipalOutput()
    tenant = TenantOutput()
    role = serializers.ChoiceField(Role.choices)
    scopes = serializers.ListField(child=serializers.ChoiceField(list(SCOPES)))


class ApiKeyInput(StrictSerializer):
    name = Text(max_length=120)
    role = Choice(Role.choices)
    scopes = serializers.ListField(child=Choice(list(SCOPES)), required=False, default=list)
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)


class RotateInput(StrictSerializer):
    overlap_seconds = Integer(min_value=0, max_value=30 * 86_400, required=False, default=3600)


class ApiKeyOutput(serializers.Serializer[ApiKey]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    prefix = serializers.CharField()
    role = serializers.ChoiceField(Role.choices)
    scopes = serializers.ListField(child=serializers.CharField())
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)


class NewApiKeyOutput(ApiKeyOutput):
    token = serializers.CharField(help_text="Shown this once.")


class MemberInput(StrictSerializer):
    username = Text(max_length=150)
    role = Choice(Role.choices)
    email = serializers.EmailField(required=False, default="", max_length=254, allow_blank=True)
    password = Text(required=False, allow_null=True, default=None, max_length=128, write_only=True)


class MemberPatch(StrictSerializer):
    role = Choice(Role.choices, required=False)
    status = Choice(Membership.Status.choices, required=False)


class MemberOutput(serializers.Serializer[Membership]):
    id = serializers.UUIDField()
    user_id = serializers.UUIDField()
    username = serializers.CharField(source="user.username")
    email = serializers.CharField(source="user.email")
    role = serializers.ChoiceField(Role.choices)
    status = serializers.ChoiceField(Membership.Status.choices)
    created_at = serializers.DateTimeField()


class TicketOutput(serializers.Serializer[Any]):
    ticket = serializers.CharField()
    expires_in = serializers.IntegerField(help_text="Seconds.")


class GuestSecretInput(StrictSerializer):
    secret = Text(max_length=200, help_text="`asv_…`")


class GuestTokenOutput(serializers.Serializer[Any]):
    token = serializers.CharField(help_text="For `Authorization: Bearer`.")
    expires_in = serializers.IntegerField(help_text="Seconds.")
