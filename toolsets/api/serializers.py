from typing import Any

from rest_framework import serializers

from core.api import Flag, JSONObject, Slug, StrictSerializer, Text
from core.api_schema import ErrorDetail
from toolsets.base import Risk
from toolsets.models import Toolset, ToolsetCredential

POLICY = "What is set around its tools: `only`, `prefix`, `approval`, `calls_per_run`, `calls_per_minute`, `timeout`, …"
SECRETS = "Texts by name, stored encrypted and never shown; those that are not named stay, null takes one away."
USER_ID = "Your end user, as in a chat's `metadata.user_id`; for API keys, which must name one."
LEARNED_AT = "When the server was asked that told the toolset's tools; null where none is asked, or none has told yet."
LEARN_ERROR = "Why the server could not be asked last, or empty. The tools that it told before are kept."


class ToolsetInput(StrictSerializer):
    slug = Slug()
    name = Text(max_length=120)
    kind = Text(max_length=32)
    config = JSONObject(required=False, default=dict)
    policy = JSONObject(required=False, default=dict, help_text=POLICY)
    secrets = JSONObject(required=False, default=dict, write_only=True, help_text=SECRETS)
    enabled = Flag(required=False, default=True)


class ToolsetPatch(StrictSerializer):
    slug = Slug(required=False)
    name = Text(max_length=120, required=False)
    config = JSONObject(required=False)
    policy = JSONObject(required=False, help_text=POLICY)
    secrets = JSONObject(required=False, write_only=True, help_text=SECRETS)
    enabled = Flag(required=False)


class ToolsetOutput(serializers.Serializer[Toolset]):
    id = serializers.UUIDField()
    slug = serializers.CharField()
    name = serializers.CharField()
    kind = serializers.CharField()
    config = JSONObject()
    policy = JSONObject(help_text=POLICY)
    secrets = serializers.ListField(
        child=serializers.CharField(), source="secret_names", help_text="The names of those that are stored."
    )
    enabled = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    learned_at = serializers.DateTimeField(allow_null=True, help_text=LEARNED_AT)
    learn_error = serializers.CharField(help_text=LEARN_ERROR)


class CredentialsInput(StrictSerializer):
    secrets = JSONObject(write_only=True, help_text="Texts by name, in place of those that are stored.")
    user_id = Text(max_length=128, required=False, default="", help_text=USER_ID)


class CredentialsOutput(serializers.Serializer[ToolsetCredential]):
    names = serializers.ListField(child=serializers.CharField(), source="secret_names")
    updated_at = serializers.DateTimeField()


class RefreshOutput(serializers.Serializer[Any]):
    learned_at = serializers.DateTimeField(allow_null=True, help_text=LEARNED_AT)
    learn_error = serializers.CharField(help_text=LEARN_ERROR)
    tools = serializers.ListField(
        child=serializers.CharField(), help_text="The names of the tools that are known now, before the policy."
    )
    left_out = serializers.ListField(
        child=serializers.CharField(), help_text="What the server told of and cannot be a tool, and why."
    )


class ToolsetKindOutput(serializers.Serializer[Any]):
    kind = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField()
    config_schema = JSONObject(help_text="JSON Schema of `config`.")
    policy_schema = JSONObject(help_text="JSON Schema of `policy`, the same for all kinds.")
    secrets = JSONObject(help_text="The secrets that the kind may need, by name, with a title.")
    reserved = serializers.BooleanField(
        help_text="Whether only agents may have it whose template names the kind in its `reserved_toolsets`."
    )


class NewToolsetReport(serializers.Serializer[Any]):
    valid = serializers.BooleanField()
    errors = ErrorDetail(many=True)  # type: ignore[assignment]
    warnings = ErrorDetail(many=True)


class ToolsetReport(NewToolsetReport):
    tools = serializers.ListField(child=serializers.CharField(), help_text="The names of the tools that it would have.")


class InvokeInput(StrictSerializer):
    arguments = JSONObject(required=False, default=dict, help_text="What the tool's `parameters` describe.")


class InvokeOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField(help_text="Of the call's row.")
    content = serializers.CharField(help_text="What a model would be shown.")
    is_error = serializers.BooleanField()
    ms = serializers.IntegerField()


class ToolOutput(serializers.Serializer[Any]):
    name = serializers.CharField()
    description = serializers.CharField()
    risk = serializers.ChoiceField([risk.value for risk in Risk])
    approval = serializers.BooleanField(help_text="Whether a person is asked before each call.")
    timeout = serializers.FloatField(help_text="Seconds.")
    parameters = JSONObject(help_text="JSON Schema of the arguments.")
