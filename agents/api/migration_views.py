from collections import Counter
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agents.migrating import MAX_AGENTS, agents_migrate
from agents.upgrades import Upgrade
from core.api import Flag, StrictSerializer, Text, validated
from core.api_schema import ErrorDetail, body_errors
from tenants.api.base import ApiView

STATUSES = ("ready", "migrated", "unchanged", "refused")


class MigrationInput(StrictSerializer):
    to = Text(max_length=32, help_text="The template's version to bring agents to.")
    agents = serializers.ListField(
        child=Text(max_length=63),
        required=False,
        min_length=1,
        max_length=MAX_AGENTS,
        help_text="Their slugs or ids; left out: all agents with a lower version.",
    )
    dry_run = Flag(required=False, default=True, help_text="true, the default: show what would change; write nothing.")

    def get_fields(self) -> dict[str, serializers.Field]:
        """`from`, a word of Python's, is a field as well."""
        version = Text(required=False, max_length=32, help_text="Only agents that have this version.")
        return {"from": version, **super().get_fields()}


class DifferenceOutput(serializers.Serializer[Any]):
    path = serializers.CharField()
    before = serializers.JSONField(required=False, help_text="Left out for what is added.")
    after = serializers.JSONField(required=False, help_text="Left out for what is taken away.")


class UpgradeOutput(serializers.Serializer[Any]):
    agent = serializers.CharField(help_text="Its slug.")
    status = serializers.ChoiceField(STATUSES)
    to = serializers.CharField()
    version = serializers.IntegerField(allow_null=True, help_text="The agent version that was made.")
    changes = DifferenceOutput(many=True)
    errors = ErrorDetail(many=True)  # type: ignore[assignment]
    warnings = ErrorDetail(many=True)

    def get_fields(self) -> dict[str, serializers.Field]:
        return {"from": serializers.CharField(allow_null=True, help_text="What it had."), **super().get_fields()}


class MigrationOutput(serializers.Serializer[Any]):
    template = serializers.CharField()
    to = serializers.CharField()
    dry_run = serializers.BooleanField()
    counts = serializers.DictField(child=serializers.IntegerField(), help_text="How many agents have which status.")
    results = UpgradeOutput(many=True)


def upgrade_json(upgrade: Upgrade) -> dict[str, Any]:
    return {
        "agent": upgrade.agent,
        "status": upgrade.status,
        "from": upgrade.before.get("template_version"),
        "to": upgrade.to,
        "version": upgrade.number,
        "changes": [difference.as_json() for difference in upgrade.changes],
        "errors": upgrade.errors,
        "warnings": upgrade.warnings,
    }


class MigrationsView(ApiView):
    @extend_schema(
        request=MigrationInput,
        responses={200: MigrationOutput, **body_errors(404)},
        operation_id="templates_migrations",
        tags=["templates"],
    )
    def post(self, request: Request, slug: str) -> Response:
        """Bring agents to another version of their template, each by itself: one that cannot holds up no other.

        With `dry_run` nothing is written, and the answer says what would change and why agents would be refused.
        """
        values = validated(MigrationInput, request.data)
        found = agents_migrate(
            actor=self.actor,
            template=slug,
            to=values["to"],
            from_version=values.get("from"),
            agents=values.get("agents"),
            dry_run=values["dry_run"],
        )
        counts = Counter(upgrade.status for upgrade in found)
        told = {"template": slug, "to": values["to"], "dry_run": values["dry_run"]}
        results = [upgrade_json(upgrade) for upgrade in found]
        return Response({**told, "counts": {status: counts[status] for status in STATUSES}, "results": results})
