from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema_field
from orjson import loads
from rest_framework import serializers

from runs.models import Run, ToolApproval


class RunOutput(serializers.Serializer[Run]):
    id = serializers.UUIDField()
    session_id = serializers.UUIDField(allow_null=True)
    agent = serializers.SerializerMethodField()
    agent_version = serializers.SerializerMethodField()
    model = serializers.CharField()
    status = serializers.ChoiceField(Run.Status.choices)
    source = serializers.CharField()  # type: ignore[assignment]
    user_id = serializers.CharField(source="end_user")
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    first_token_ms = serializers.IntegerField(allow_null=True)
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    finish_reason = serializers.CharField()
    last_seq = serializers.IntegerField(source="reached")
    error = serializers.SerializerMethodField()

    def get_agent(self, run: Run) -> str | None:
        return run.agent_version.agent.slug if run.agent_version else None

    def get_agent_version(self, run: Run) -> int | None:
        return run.agent_version.number if run.agent_version else None

    def get_error(self, run: Run) -> dict[str, str] | None:
        return {"code": run.error_code, "message": run.error_message} if run.error_code else None


def run_json(run: Run) -> Any:
    """Of a run that `selectors.run_list` has found."""
    return RunOutput(run).data


class DecidedBy(serializers.Serializer[Any]):
    kind = serializers.CharField()
    id = serializers.UUIDField(allow_null=True)
    label = serializers.CharField()  # type: ignore[assignment]


class ApprovalOutput(serializers.Serializer[ToolApproval]):
    id = serializers.UUIDField(help_text="The `interruptId` of AG-UI.")
    run_id = serializers.UUIDField()
    session_id = serializers.SerializerMethodField()
    status = serializers.ChoiceField(ToolApproval.Status.choices)
    reason = serializers.ChoiceField(ToolApproval.Reason.choices)
    agent = serializers.CharField(help_text="Who calls the tool.")
    toolset = serializers.CharField()
    tool = serializers.CharField()
    risk = serializers.CharField()
    role = serializers.CharField(help_text="The lowest role that may decide.")
    arguments = serializers.SerializerMethodField()
    edited_arguments = serializers.SerializerMethodField(help_text="What a person put in place of them.")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    decided_at = serializers.DateTimeField(allow_null=True)
    decided_by = serializers.SerializerMethodField()
    comment = serializers.CharField()

    def get_session_id(self, approval: ToolApproval) -> UUID | None:
        return approval.run.session_id

    @extend_schema_field(serializers.DictField())
    def get_arguments(self, approval: ToolApproval) -> Any:
        return loads(approval.arguments)

    @extend_schema_field(serializers.DictField(allow_null=True))
    def get_edited_arguments(self, approval: ToolApproval) -> Any:
        return loads(approval.edited) if approval.edited else None

    @extend_schema_field(DecidedBy(allow_null=True))
    def get_decided_by(self, approval: ToolApproval) -> dict[str, Any] | None:
        if not approval.decided_by_kind:
            return None
        return {name: getattr(approval, f"decided_by_{name}") for name in ("kind", "id", "label")}


def approval_json(approval: ToolApproval) -> Any:
    """Of an approval that `selectors.approval_list` has found."""
    return ApprovalOutput(approval).data


class RunEventOutput(serializers.Serializer[Any]):
    seq = serializers.IntegerField()
    at = serializers.DateTimeField()
    event = serializers.DictField(help_text="An AG-UI event.")


class RunEventList(serializers.Serializer[Any]):
    object = serializers.CharField()
    data = RunEventOutput(many=True)  # type: ignore[assignment]
    has_more = serializers.BooleanField()
    next_cursor = serializers.CharField(allow_null=True)


class ModelOutput(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.ChoiceField(["model"])
    created = serializers.IntegerField(help_text="Seconds since 1970.")
    owned_by = serializers.CharField()


class ModelListOutput(serializers.Serializer[Any]):
    object = serializers.ChoiceField(["list"])
    data = ModelOutput(many=True)  # type: ignore[assignment]


class ChatChoiceOutput(serializers.Serializer[Any]):
    index = serializers.IntegerField()
    message = serializers.DictField()
    finish_reason = serializers.CharField(allow_null=True)


class ChatOutput(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    created = serializers.IntegerField()
    model = serializers.CharField()
    choices = ChatChoiceOutput(many=True)
    usage = serializers.DictField()
    metadata = serializers.DictField(
        required=False, help_text="`session_id` and `run_id`; `answered_by` is the run that heard a steering message."
    )
