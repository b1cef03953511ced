from typing import Any

from rest_framework import serializers

from agents.models import Agent, AgentVersion
from agents.validation import MAX_CACHE_SECONDS, MAX_INSTRUCTIONS, MAX_MODEL, MAX_NAME, MAX_RUNS, MAX_TOOLSETS
from core.api import Choice, Flag, Integer, JSONObject, Slug, StrictSerializer, Text
from core.api_schema import ErrorDetail

WHEN_BUSY = (
    "What happens to a message that comes while the session still has a run. `queue`: it waits for its turn. "
    "`reject`: 409. `interrupt`: the run under way is cancelled, and what it said is kept. `steer`: the running agent "
    "hears it at its next step; its template needs the capability `steering`."
)
MAX_CONCURRENT_RUNS = "Runs of this agent at once; null: only the tenant's limit."
CACHE_SECONDS = "For how long a model's answer to the same request of this version is given again; null: never."
CODE = "SHA-256 of the code and packages that it pins; empty: its template pins none."
JOIN_CALLS = "Do requests that are the same and made at the same time share one answer of the model?"


def _when_busy(**options: Any) -> Choice:
    return Choice(AgentVersion.WhenBusy.choices, required=False, help_text=WHEN_BUSY, **options)


def _max_concurrent_runs(**options: Any) -> Integer:
    options = {"min_value": 1, "max_value": MAX_RUNS, "help_text": MAX_CONCURRENT_RUNS, **options}
    return Integer(required=False, allow_null=True, **options)


def _cache_seconds(**options: Any) -> Integer:
    options = {"min_value": 1, "max_value": MAX_CACHE_SECONDS, "help_text": CACHE_SECONDS, **options}
    return Integer(required=False, allow_null=True, **options)


def _join_calls(**options: Any) -> Flag:
    return Flag(required=False, help_text=JOIN_CALLS, **options)


def _slugs(**options: Any) -> serializers.ListField:
    return serializers.ListField(child=Text(max_length=63), max_length=MAX_TOOLSETS, **options)


class AgentInput(StrictSerializer):
    slug = Slug()
    name = Text(max_length=MAX_NAME)
    template = Text(max_length=63)
    template_version = Text(
        max_length=32, required=False, allow_null=True, default=None, help_text="By default the highest."
    )
    model = Text(max_length=MAX_MODEL, help_text="`provider_slug/model`")
    instructions = Text(max_length=MAX_INSTRUCTIONS, required=False, allow_blank=True, default="")
    config = JSONObject(required=False, default=dict, help_text="By the template's schema.")
    toolsets = _slugs(required=False, default=list, help_text="Slugs of toolsets.")
    when_busy = _when_busy(default=AgentVersion.WhenBusy.QUEUE.value)
    max_concurrent_runs = _max_concurrent_runs(default=None)
    cache_seconds = _cache_seconds(default=None)
    join_calls = _join_calls(default=False)
    metadata = JSONObject(required=False, default=dict, help_text="Your own.")


class _Anything(serializers.JSONField):
    def run_validation(self, data: Any = serializers.empty) -> Any:
        if data is serializers.empty:
            raise serializers.SkipField
        return data


class AgentDraft(StrictSerializer):
    """The fields of an agent to be made, right or wrong: what is wrong with them is the answer."""

    def get_fields(self) -> dict[str, serializers.Field]:
        return {name: _Anything(required=False) for name in AgentInput().get_fields()}


class AgentPatch(StrictSerializer):
    slug = Slug(required=False)
    name = Text(max_length=MAX_NAME, required=False)
    template = Text(max_length=63, required=False)
    template_version = Text(
        max_length=32, required=False, allow_null=True, help_text="Left out: what is pinned; null: the highest."
    )
    model = Text(max_length=MAX_MODEL, required=False, help_text="`provider_slug/model`")
    instructions = Text(max_length=MAX_INSTRUCTIONS, required=False, allow_blank=True)
    config = JSONObject(required=False, help_text="Replaced as a whole.")
    toolsets = _slugs(required=False, help_text="Replaced as a whole.")
    when_busy = _when_busy()
    max_concurrent_runs = _max_concurrent_runs()
    cache_seconds = _cache_seconds()
    join_calls = _join_calls()
    metadata = JSONObject(required=False, help_text="Replaced as a whole.")


class AgentStatusInput(StrictSerializer):
    status = Choice(Agent.Status.choices)


class AgentOutput(serializers.Serializer[Agent]):
    id = serializers.UUIDField()
    slug = serializers.CharField()
    name = serializers.CharField(source="version.name")
    status = serializers.ChoiceField(Agent.Status.choices)
    template = serializers.CharField(source="version.template")
    template_version = serializers.CharField(source="version.template_version")
    model = serializers.CharField(source="version.model")
    instructions = serializers.CharField(source="version.instructions", allow_blank=True)
    config = JSONObject(source="version.config")
    toolsets = serializers.ListField(child=serializers.CharField(), source="version.toolsets")
    when_busy = serializers.ChoiceField(AgentVersion.WhenBusy.choices, source="version.when_busy", help_text=WHEN_BUSY)
    max_concurrent_runs = serializers.IntegerField(
        source="version.max_concurrent_runs", allow_null=True, help_text=MAX_CONCURRENT_RUNS
    )
    cache_seconds = serializers.IntegerField(source="version.cache_seconds", allow_null=True, help_text=CACHE_SECONDS)
    join_calls = serializers.BooleanField(source="version.join_calls", help_text=JOIN_CALLS)
    metadata = JSONObject(source="version.metadata")
    code = serializers.CharField(source="version.code", allow_blank=True, help_text=CODE)
    version = serializers.IntegerField(source="version.number", help_text="The number of the current version.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class AgentVersionOutput(serializers.Serializer[AgentVersion]):
    id = serializers.UUIDField()
    number = serializers.IntegerField()
    name = serializers.CharField()
    template = serializers.CharField()
    template_version = serializers.CharField()
    model = serializers.CharField()
    instructions = serializers.CharField(allow_blank=True)
    config = JSONObject()
    toolsets = serializers.ListField(child=serializers.CharField())
    when_busy = serializers.ChoiceField(AgentVersion.WhenBusy.choices, help_text=WHEN_BUSY)
    max_concurrent_runs = serializers.IntegerField(allow_null=True, help_text=MAX_CONCURRENT_RUNS)
    cache_seconds = serializers.IntegerField(allow_null=True, help_text=CACHE_SECONDS)
    join_calls = serializers.BooleanField(help_text=JOIN_CALLS)
    metadata = JSONObject()
    code = serializers.CharField(allow_blank=True, help_text=CODE)
    restored_from = serializers.IntegerField(allow_null=True)
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()


class AgentReportOutput(serializers.Serializer[Any]):
    valid = serializers.BooleanField()
    errors = ErrorDetail(many=True)  # type: ignore[assignment]
    warnings = ErrorDetail(many=True)


class CompatibilityInput(StrictSerializer):
    template = Text(max_length=63)
    template_version = Text(max_length=32, required=False)
    model = Text(max_length=MAX_MODEL, required=False, help_text="provider/model, or route/slug.")
    toolsets = serializers.ListField(child=Text(max_length=63), min_length=1, max_length=MAX_TOOLSETS)


class ToolsetCompatibility(serializers.Serializer[Any]):
    toolset = serializers.CharField()
    compatible = serializers.BooleanField()
    reasons = ErrorDetail(many=True)
    tools = serializers.ListField(child=serializers.CharField(), help_text="Their names, before those that clash.")


class CompatibilityOutput(serializers.Serializer[Any]):
    compatible = serializers.BooleanField(help_text="All of the toolsets together.")
    toolsets = ToolsetCompatibility(many=True)
    errors = ErrorDetail(many=True)  # type: ignore[assignment]
    warnings = ErrorDetail(many=True)
