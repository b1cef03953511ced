from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from core.api import Flag, JSONObject, StrictSerializer, Text
from llm.capabilities import capabilities_with, capability_sources
from llm.models import ProviderModel
from llm.validation.models import MAX_NAME


class ProviderModelInput(StrictSerializer):
    """The form of the overrides is checked by the service, which reports the faults of all fields at once."""

    name = Text(max_length=MAX_NAME)
    enabled = Flag(required=False, default=True)
    overrides = JSONObject(required=False, default=dict)


class ProviderModelPatch(StrictSerializer):
    enabled = Flag(required=False)
    overrides = JSONObject(required=False)


class CapabilitiesOutput(serializers.Serializer[Any]):
    """null: not known. Prices are list prices in USD for a million tokens."""

    tools = serializers.BooleanField(allow_null=True)
    parallel_tools = serializers.BooleanField(allow_null=True)
    json_schema = serializers.BooleanField(allow_null=True)
    vision = serializers.BooleanField(allow_null=True)
    audio = serializers.BooleanField(allow_null=True)
    documents = serializers.BooleanField(allow_null=True)
    reasoning = serializers.BooleanField(allow_null=True)
    context_tokens = serializers.IntegerField(allow_null=True)
    output_tokens = serializers.IntegerField(allow_null=True)
    input_price = serializers.FloatField(allow_null=True)
    output_price = serializers.FloatField(allow_null=True)


class ProviderModelOutput(serializers.Serializer[ProviderModel]):
    name = serializers.CharField()
    model = serializers.CharField(source="__str__", help_text="What requests and agents name.")
    entered = serializers.BooleanField(help_text="By a person; the others were found by a test of the provider.")
    enabled = serializers.BooleanField()
    overrides = JSONObject()
    capabilities = serializers.SerializerMethodField()
    sources = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()

    @extend_schema_field(CapabilitiesOutput)
    def get_capabilities(self, model: ProviderModel) -> Any:
        return CapabilitiesOutput(capabilities_with(model.provider, model.name, model.overrides)).data

    def get_sources(self, model: ProviderModel) -> dict[str, str]:
        """Of each known capability: `kind`, `catalog` or `override`."""
        return capability_sources(model.provider, model.name, model.overrides)
