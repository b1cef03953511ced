from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from core.api import Choice, Integer, JSONObject, StrictSerializer, Text
from sessions_app.models import ChatSession, Invitation, Message, MessageFeedback, Participant


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
    titled_by = serializers.ChoiceField(
        ChatSession.TitledBy.choices, help_text="Who gave the title; empty: it is the first words."
    )
    forked_from = serializers.UUIDField(allow_null=True)
    forked_seq = serializers.IntegerField(allow_null=True, help_text="The last message that it has from there.")
    status = serializers.ChoiceField(ChatSession.Status.choices)
    user_id = serializers.CharField(source="end_user")
    metadata = serializers.DictField()
    messages = serializers.IntegerField(source="last_seq", help_text="How many messages it has.")
    role = serializers.CharField(source="my_role", help_text="Yours in it: owner, member or viewer.")
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    last_message_at = serializers.DateTimeField(allow_null=True)


class AuthorOutput(serializers.Serializer[Any]):
    kind = serializers.CharField(help_text="`user`, `guest`, `api_key` or `system`.")
    id = serializers.UUIDField(allow_null=True)
    label = serializers.CharField()  # type: ignore[assignment]


class FeedbackCounts(serializers.Serializer[Message]):
    up = serializers.IntegerField()
    down = serializers.IntegerField()
    mine = serializers.ChoiceField(MessageFeedback.Rating.choices, allow_null=True)


class MessageOutput(serializers.Serializer[Message]):
    id = serializers.UUIDField()
    seq = serializers.IntegerField()
    role = serializers.ChoiceField(Message.Role.choices)
    content = serializers.JSONField(allow_null=True)
    tool_calls = serializers.ListField(child=serializers.DictField(), allow_null=True)
    tool_call_id = serializers.CharField()
    name = serializers.CharField()
    status = serializers.ChoiceField(
        Message.Status.choices, help_text="`cancelled` or `failed`: cut short. A tool's result that failed is `failed`."
    )
    user_id = serializers.CharField(source="end_user")
    run_id = serializers.UUIDField(allow_null=True)
    agent = serializers.SerializerMethodField()
    agent_version = serializers.SerializerMethodField()
    author = serializers.SerializerMethodField()
    client_id = serializers.CharField(help_text="The id by which AG-UI events name it; empty: `id`.")
    replaced_by = serializers.UUIDField(allow_null=True, help_text="The run that was asked to answer anew.")
    feedback = FeedbackCounts(source="*")
    created_at = serializers.DateTimeField()

    def get_agent(self, message: Message) -> str | None:
        return message.agent_version.agent.slug if message.agent_version else None

    @extend_schema_field(AuthorOutput(allow_null=True))
    def get_author(self, message: Message) -> dict[str, Any] | None:
        if not message.author_kind:
            return None
        return {"kind": message.author_kind, "id": message.author_id, "label": message.author}

    def get_agent_version(self, message: Message) -> int | None:
        return message.agent_version.number if message.agent_version else None


class ParticipantInput(StrictSerializer):
    user = Text(max_length=150, help_text="The username of a member of the tenant.")
    role = Choice(Participant.Role.choices)


class ParticipantPatch(StrictSerializer):
    role = Choice(Participant.Role.choices)


class ParticipantOutput(serializers.Serializer[Participant]):
    id = serializers.UUIDField()
    kind = serializers.ChoiceField(["user", "guest"], source="person_kind")
    person_id = serializers.UUIDField()
    label = serializers.CharField()  # type: ignore[assignment]
    role = serializers.ChoiceField(Participant.Role.choices)
    invitation_id = serializers.UUIDField(allow_null=True, help_text="The invitation by which they came.")
    joined_at = serializers.DateTimeField(source="created_at")


class InvitationInput(StrictSerializer):
    role = Choice(Invitation.Role.choices)
    audience = Choice(Invitation.Audience.choices)
    expires_in = Integer(required=False, default=604_800, min_value=60, max_value=2_592_000, help_text="Seconds.")
    max_uses = Integer(required=False, allow_null=True, default=None, min_value=1, max_value=1_000_000)


class InvitationOutput(serializers.Serializer[Invitation]):
    id = serializers.UUIDField()
    role = serializers.ChoiceField(Invitation.Role.choices)
    audience = serializers.ChoiceField(Invitation.Audience.choices)
    expires_at = serializers.DateTimeField()
    max_uses = serializers.IntegerField(allow_null=True)
    uses = serializers.IntegerField()
    revoked_at = serializers.DateTimeField(allow_null=True)
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()


class NewInvitationOutput(InvitationOutput):
    token = serializers.CharField(help_text="In this answer only.")
    url = serializers.CharField(help_text="The chat page, which accepts it.")


class AcceptInput(StrictSerializer):
    token = Text(max_length=200)
    name = Text(required=False, default="", max_length=80, allow_blank=True, help_text="What a new guest is called.")


class GuestOutput(serializers.Serializer[Any]):
    secret = serializers.CharField(help_text="Keep it: it gets tokens from `POST /v1/guest-tokens`.")
    token = serializers.CharField(help_text="For `Authorization: Bearer`.")
    expires_in = serializers.IntegerField(help_text="Seconds that the token lives.")


class AcceptedOutput(serializers.Serializer[Any]):
    session_id = serializers.UUIDField()
    role = serializers.ChoiceField(Participant.Role.choices)
    guest = GuestOutput(allow_null=True, help_text="New, for somebody who has not signed in.")


def participant_json(participant: Participant) -> Any:
    return ParticipantOutput(participant).data


def invitation_json(invitation: Invitation) -> Any:
    return InvitationOutput(invitation).data


def session_json(session: ChatSession) -> Any:
    return SessionOutput(session).data


def message_json(message: Message) -> Any:
    return MessageOutput(message).data
