from typing import Any

from rest_framework import serializers

from runs.models import Run


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
