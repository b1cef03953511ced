from typing import Any

from rest_framework import serializers

from core.api import JSONObject, StrictSerializer, Text
from core.api_schema import ErrorDetail


class ProblemOutput(serializers.Serializer[Any]):
    source = serializers.CharField(help_text="Where it was found.")  # type: ignore[assignment]
    reason = serializers.CharField()


class TemplateOutput(serializers.Serializer[Any]):
    slug = serializers.CharField()
    version = serializers.CharField(allow_null=True, help_text="The default; null when no version is in use.")
    versions = serializers.ListField(child=serializers.CharField(), help_text="Highest first.")
    title = serializers.CharField()
    description = serializers.CharField()
    framework = serializers.CharField(allow_null=True)
    capabilities = serializers.ListField(child=serializers.CharField())
    reserved_toolsets = serializers.ListField(
        child=serializers.CharField(), help_text="The kinds of toolsets that agents of few templates may be granted."
    )
    healthy = serializers.BooleanField()
    deprecated = serializers.CharField(
        allow_null=True, help_text="Why the default version should not be used any more, and what instead; else null."
    )


class DeprecatedVersion(serializers.Serializer[Any]):
    version = serializers.CharField()
    reason = serializers.CharField()


class TemplateVersionOutput(serializers.Serializer[Any]):
    version = serializers.CharField()
    default = serializers.BooleanField()
    title = serializers.CharField()
    description = serializers.CharField()
    framework = serializers.CharField()
    capabilities = serializers.ListField(child=serializers.CharField())
    reserved_toolsets = serializers.ListField(
        child=serializers.CharField(), help_text="The kinds of toolsets that agents of few templates may be granted."
    )
    deprecated = serializers.CharField(allow_null=True, help_text="Why not to use it any more, and what instead.")
    compatible_since = serializers.CharField(
        help_text="Agents of this version and above come to this one with their config as it is."
    )
    migrates = serializers.BooleanField(help_text="It turns the configs of other versions into its own.")


class TemplateHealthOutput(serializers.Serializer[Any]):
    slug = serializers.CharField()
    healthy = serializers.BooleanField()
    versions = serializers.ListField(child=serializers.CharField())
    problems = ProblemOutput(many=True)
    deprecated = DeprecatedVersion(many=True)


class TemplateValidateInput(StrictSerializer):
    config = JSONObject()
    version = Text(required=False, allow_null=True, default=None, max_length=32)


class RequirementsOutput(serializers.Serializer[Any]):
    model = serializers.ListField(child=serializers.CharField(), help_text="Capabilities of the model.")
    toolsets = serializers.ListField(child=serializers.CharField(), help_text="Kinds; of each, one must be granted.")
    sandbox = serializers.IntegerField(allow_null=True, help_text="The weakest level that will do; null: none needed.")


class ConfigReportOutput(serializers.Serializer[Any]):
    valid = serializers.BooleanField()
    errors = ErrorDetail(many=True)  # type: ignore[assignment]
    warnings = ErrorDetail(many=True)
    requirements = RequirementsOutput(allow_null=True, help_text="Of a valid config; null for one that is not.")
