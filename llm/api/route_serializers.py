from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from core.api import Flag, Integer, JSONObject, StrictSerializer, Text
from llm.models import ProviderKey, Route
from llm.providers.base import LIMITS
from llm.selectors.route_report import MAX_DAYS, ReportRow
from llm.selectors.routes import target_spec

_LIMIT_HELP = {"rpm": "Requests a minute.", "tpm": "Tokens a minute.", "concurrent": "Calls at once."}


def limit(name: str) -> Integer:
    return Integer(min_value=1, max_value=LIMITS[name], allow_null=True, required=False, help_text=_LIMIT_HELP[name])


class TargetInput(StrictSerializer):
    """Formats are checked by the service, which reports the faults of all fields at once."""

    model = Text(help_text="provider/model")
    weight = Integer(required=False, default=1)
    rule = Text(required=False, allow_blank=True, default="", help_text="A CEL expression over the request.")
    variant = Text(required=False, allow_blank=True, default="")
    enabled = Flag(required=False, default=True)


class RouteInput(StrictSerializer):
    slug = Text(max_length=63)
    name = Text(required=False, allow_blank=True, default="")
    strategy = Text(max_length=32)
    settings = JSONObject(required=False, default=dict)
    continues = Flag(
        required=False,
        default=False,
        help_text="When a target fails after its first token, the next one goes on from what was said.",
    )
    is_active = Flag(required=False, default=True)
    targets = TargetInput(many=True)


class RoutePatch(StrictSerializer):
    slug = Text(max_length=63, required=False)
    name = Text(required=False, allow_blank=True)
    strategy = Text(max_length=32, required=False)
    settings = JSONObject(required=False)
    continues = Flag(required=False)
    is_active = Flag(required=False)
    targets = TargetInput(many=True, required=False)


class TargetOutput(serializers.Serializer[Any]):
    model = serializers.CharField()
    weight = serializers.IntegerField()
    rule = serializers.CharField(allow_blank=True)
    variant = serializers.CharField(allow_blank=True)
    enabled = serializers.BooleanField()


class RouteOutput(serializers.Serializer[Route]):
    id = serializers.UUIDField()
    slug = serializers.CharField()
    name = serializers.CharField(allow_blank=True)
    strategy = serializers.CharField()
    settings = JSONObject()
    continues = serializers.BooleanField()
    is_active = serializers.BooleanField()
    targets = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()

    @extend_schema_field(TargetOutput(many=True))
    def get_targets(self, route: Route) -> list[dict[str, Any]]:
        return [target_spec(target) for target in route.targets.all()]


class PreviewInput(serializers.Serializer[Any]):
    """A chat-completions request; what else it holds is read as one, and ignored where no route looks at it."""

    messages = serializers.ListField(child=JSONObject(), allow_empty=False)
    metadata = JSONObject(required=False, default=dict)


class LegOutput(serializers.Serializer[Any]):
    model = serializers.CharField()
    reason = serializers.CharField()
    variant = serializers.CharField(allow_blank=True)


class LeftOutOutput(serializers.Serializer[Any]):
    model = serializers.CharField()
    reason = serializers.CharField()


class PreviewOutput(serializers.Serializer[Any]):
    """`targets` are tried in this order; `features` is what rules see of the request."""

    object = serializers.CharField()
    route = serializers.CharField()
    continues = serializers.BooleanField()
    targets = LegOutput(many=True)
    left_out = LeftOutOutput(many=True)
    features = JSONObject()


class ReportQuery(serializers.Serializer[Any]):
    days = serializers.IntegerField(min_value=1, max_value=MAX_DAYS, required=False, default=7)


class Times(serializers.Serializer[Any]):
    """Milliseconds; null where nothing was measured."""

    p50 = serializers.FloatField(allow_null=True)
    p95 = serializers.FloatField(allow_null=True)


class ReportRowOutput(serializers.Serializer[ReportRow]):
    variant = serializers.CharField(allow_blank=True)
    model = serializers.CharField(source="name")
    calls = serializers.IntegerField()
    failed = serializers.IntegerField()
    error_rate = serializers.FloatField()
    first_token_ms = serializers.SerializerMethodField()
    total_ms = serializers.SerializerMethodField()
    cost = serializers.SerializerMethodField()
    unpriced = serializers.IntegerField(help_text="Calls without a known price, which are not in the cost.")
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()

    @extend_schema_field(Times)
    def get_first_token_ms(self, row: ReportRow) -> dict[str, float | None]:
        return dict(zip(("p50", "p95"), row.first_token_ms, strict=True))

    @extend_schema_field(Times)
    def get_total_ms(self, row: ReportRow) -> dict[str, float | None]:
        return dict(zip(("p50", "p95"), row.total_ms, strict=True))

    def get_cost(self, row: ReportRow) -> str:
        """US dollars."""
        return f"{row.cost:f}"


class ReportOutput(serializers.Serializer[Any]):
    object = serializers.CharField()
    route = serializers.CharField()
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    rows = ReportRowOutput(many=True)


class KeyInput(StrictSerializer):
    label = Text(max_length=63)  # type: ignore[assignment]
    api_key = Text(max_length=4000, write_only=True)
    rpm = limit("rpm")
    tpm = limit("tpm")
    concurrent = limit("concurrent")
    enabled = Flag(required=False, default=True)


class KeyPatch(StrictSerializer):
    label = Text(max_length=63, required=False)  # type: ignore[assignment]
    api_key = Text(max_length=4000, required=False, write_only=True)
    rpm = limit("rpm")
    tpm = limit("tpm")
    concurrent = limit("concurrent")
    enabled = Flag(required=False)


class KeyOutput(serializers.Serializer[ProviderKey]):
    id = serializers.UUIDField()
    label = serializers.CharField()  # type: ignore[assignment]
    api_key_last4 = serializers.CharField(source="secret_last4", allow_blank=True)
    rpm = serializers.IntegerField(allow_null=True)
    tpm = serializers.IntegerField(allow_null=True)
    concurrent = serializers.IntegerField(allow_null=True)
    enabled = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
