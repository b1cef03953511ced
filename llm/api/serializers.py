from typing import Any

from rest_framework import serializers

from core.api import JSONObject, StrictSerializer, Text
from llm.models import EndpointHealth, Provider
from llm.providers.base import Preset, ProviderKind
from llm.selectors.providers import provider_models

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


class PresetOutput(serializers.Serializer[Preset]):
    slug = serializers.CharField()
    title = serializers.CharField()
    base_url = serializers.CharField(help_text="A part in capitals is to be replaced.")
    api_key = serializers.ChoiceField(NEEDS)
    settings = JSONObject()


class KindOutput(serializers.Serializer[ProviderKind]):
    slug = serializers.CharField()
    title = serializers.CharField()
    installed = serializers.SerializerMethodField()
    install = serializers.CharField(allow_blank=True, help_text="The command that installs what the kind needs.")
    base_url = serializers.ChoiceField(NEEDS)
    api_key = serializers.ChoiceField(NEEDS)
    default_base_url = serializers.CharField(allow_blank=True)
    presets = PresetOutput(many=True, help_text="Services that the kind reaches, and what to fill in for each.")
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


class EndpointHealthOutput(serializers.Serializer[EndpointHealth]):
    """`open`: calls are refused until `until`. `half_open`: one call at a time tries it."""

    model = serializers.CharField()
    key = serializers.CharField(allow_blank=True, help_text="Which of the provider's keys; empty for its only one.")
    state = serializers.ChoiceField(EndpointHealth.State.choices, source="state_now")
    failures = serializers.IntegerField(help_text="In a row, when the state changed.")
    opened_at = serializers.DateTimeField()
    until = serializers.DateTimeField()
    last_error_code = serializers.CharField(allow_blank=True)
    updated_at = serializers.DateTimeField()


class ResetInput(StrictSerializer):
    model = Text(max_length=200, required=False, help_text="Only this model's endpoints.")
    key = Text(max_length=64, required=False, help_text="Only this key's endpoints.")


class ResetOutput(serializers.Serializer[Any]):
    closed = serializers.IntegerField(help_text="How many endpoints were left alone and are asked again.")
