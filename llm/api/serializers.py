from typing import Any

from rest_framework import serializers

from core.api import JSONObject, StrictSerializer, Text
from llm.models import Provider
from llm.providers.base import ProviderKind
from llm.selectors import provider_models

NEEDS = ("required", "optional", "none")


class ProviderInput(StrictSerializer):
    """Formats are checked by the service, which reports the faults of all fields at once."""

    slug = Text(max_length=63)
    kind = Text(max_length=32)
    base_url = Text(max_length=500, required=False, allow_blank=True, default="")
    api_key = Text(max_length=4000, required=False, allow_blank=True, allow_null=True, write_only=True)
    settings = JSONObject(required=False, default=dict)


class ProviderPatch(StrictSerializer):
    slug = Text(max_length=63, required=False)
    base_url = Text(max_length=500, required=False, allow_blank=True)
    api_key = Text(max_length=4000, required=False, allow_blank=True, allow_null=True, write_only=True)
    settings = JSONObject(required=False)


class ProviderOutput(serializers.Serializer[Provider]):
    id = serializers.UUIDField()
    slug = serializers.CharField()
    kind = serializers.CharField()
    base_url = serializers.CharField(allow_blank=True)
    api_key_last4 = serializers.CharField(source="secret_last4", allow_blank=True)
    has_api_key = serializers.SerializerMethodField()
    settings = JSONObject()
    models = serializers.SerializerMethodField()
    health = serializers.ChoiceField(Provider.Health.choices)
    health_message = serializers.CharField(allow_blank=True)
    health_checked_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()

    def get_has_api_key(self, provider: Provider) -> bool:
        return provider.secret is not None

    def get_models(self, provider: Provider) -> list[str]:
        return provider_models(provider)


class KindOutput(serializers.Serializer[ProviderKind]):
    slug = serializers.CharField()
    title = serializers.CharField()
    installed = serializers.SerializerMethodField()
    install = serializers.CharField(allow_blank=True, help_text="The command that installs what the kind needs.")
    base_url = serializers.ChoiceField(NEEDS)
    api_key = serializers.ChoiceField(NEEDS)
    default_base_url = serializers.CharField(allow_blank=True)
    models = serializers.SerializerMethodField()
    settings_schema = serializers.SerializerMethodField()

    def get_installed(self, kind: ProviderKind) -> bool:
        return kind.installed()

    def get_models(self, kind: ProviderKind) -> list[str] | None:
        """The closed list of models; null when each provider has its own."""
        return None if kind.static_models is None else list(kind.static_models)

    def get_settings_schema(self, kind: ProviderKind) -> dict[str, Any]:
        return kind.Settings.model_json_schema()


class TestOutput(serializers.Serializer[Any]):
    """`healthy` false is an answer, not an error: `message` says what to do."""

    healthy = serializers.BooleanField()
    message = serializers.CharField()
    models = serializers.ListField(child=serializers.CharField())
    latency_ms = serializers.IntegerField()
