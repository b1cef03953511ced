from typing import Any

from rest_framework import serializers

from core.api import Flag, JSONObject, Slug, StrictSerializer, Text
from toolsets.base import Risk
from toolsets.models import Toolset


class ToolsetInput(StrictSerializer):
    slug = Slug()
    name = Text(max_length=120)
    kind = Text(max_length=32)
    config = JSONObject(required=False, default=dict)
    enabled = Flag(required=False, default=True)


class ToolsetPatch(StrictSerializer):
    slug = Slug(required=False)
    name = Text(max_length=120, required=False)
    config = JSONObject(required=False)
    enabled = Flag(required=False)


class ToolsetOutput(serializers.Serializer[Toolset]):
    id = serializers.UUIDField()
    slug = serializers.CharField()
    name = serializers.CharField()
    kind = serializers.CharField()
    config = JSONObject()
    enabled = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class ToolsetKindOutput(serializers.Serializer[Any]):
    kind = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField()
    config_schema = JSONObject(help_text="JSON Schema of `config`.")


class ToolOutput(serializers.Serializer[Any]):
    name = serializers.CharField()
    description = serializers.CharField()
    risk = serializers.ChoiceField([risk.value for risk in Risk])
    parameters = JSONObject(help_text="JSON Schema of the arguments.")
