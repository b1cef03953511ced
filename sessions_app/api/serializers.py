from typing import Any

from rest_framework import serializers

from core.api import Choice, JSONObject, StrictSerializer, Text
from sessions_app.models import ChatSession, Message


class SessionInput(StrictSerializer):
    agent = Text(required=False, allow_null=True, default=None, max_length=63, help_text="An agent's slug or id.")
    external_id = Text(required=False, allow_null=True, default=None, max_length=128, help_text="Your own id for it.")
    title = Text(required=False, default="", max_length=200, allow_blank=True)
    user_id = Text(required=False, default="", max_length=128, allow_blank=True, help_text="Your end user.")
    metadata = JSONObject(required=False, default=dict)


class SessionPatch(StrictSerializer):
    title = Text(required=False, max_length=200, allow_blank=True)
    status = Choice(ChatSession.Status.choices, required=False)
    metadata = JSONObject(required=False)


class SessionOutput(serializers.Serializer[ChatSession]):
    id = serializers.UUIDField()
    external_id = serializers.CharField(allow_null=True)
    agent = serializers.CharField(source="agent.slug", allow_null=True, default=None)
    title = serializers.CharField()
    status = serializers.ChoiceField(ChatSession.Status.choices)
    user_id = serializers.CharField(source="end_user")
    metadata = serializers.DictField()
    messages = serializers.IntegerField(source="last_seq", help_text="How many messages it has.")
    role = serializers.CharField(source="my_role", help_text="Yours in it: owner, member or viewer.")
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    last_message_at = serializers.DateTimeField(allow_null=True)


class MessageOutput(serializers.Serializer[Message]):
    id = serializers.UUIDField()
    seq = serializers.IntegerField()
    role = serializers.ChoiceField(Message.Role.choices)
    content = serializers.JSONField(allow_null=True)
    tool_calls = serializers.ListField(child=serializers.DictField(), allow_null=True)
    tool_call_id = serializers.CharField()
    name = serializers.CharField()
    status = serializers.ChoiceField(Message.Status.choices)
    user_id = serializers.CharField(source="end_user")
    run_id = serializers.UUIDField(allow_null=True)
    agent = serializers.SerializerMethodField()
    agent_version = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()

    def get_agent(self, message: Message) -> str | None:
        return message.agent_version.agent.slug if message.agent_version else None

    def get_agent_version(self, message: Message) -> int | None:
        return message.agent_version.number if message.agent_version else None


def session_json(session: ChatSession) -> Any:
    return SessionOutput(session).data


def message_json(message: Message) -> Any:
    return MessageOutput(message).data
