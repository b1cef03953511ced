"""What becomes of sessions: titles, forks, feedback and files."""

from typing import Any

from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api import Choice, Integer, StrictSerializer, Text, validated
from core.api_schema import body_errors, errors_of
from core.errors import InvalidRequest
from sessions_app.api.export import FORMATS, session_file
from sessions_app.api.serializers import SessionOutput, session_json
from sessions_app.models import MessageFeedback
from sessions_app.services.feedback import feedback_give, feedback_withdraw
from sessions_app.services.forks import session_fork
from sessions_app.services.titles import session_title
from tenants.api.base import ApiView

USER = OpenApiParameter("user_id", str, description="Your end user, for whom the API key speaks.")
REPLACED = OpenApiParameter("replaced", bool, description="With the messages that others have replaced.")


class TitleView(ApiView):
    @extend_schema(
        request=None,
        responses={202: SessionOutput, **errors_of(404, 409)},
        operation_id="sessions_title",
        tags=["chat"],
    )
    def post(self, request: Request, ref: str) -> Response:
        """Have the agent's model make a title, in the background; repeated meanwhile, it is made once.

        409 where a person gave the title, or nothing was answered yet.
        """
        return Response(session_json(session_title(actor=self.actor, ref=ref)), status=202)


class ForkInput(StrictSerializer):
    message_id = Text(required=False, max_length=36, help_text="The last message to take along; without it all are.")
    seq = Integer(required=False, min_value=1, max_value=2**31 - 1, help_text="The same, by its place.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if len(attrs) > 1:
            raise serializers.ValidationError("Give message_id or seq.", code="too_many")
        return attrs


class ForkView(ApiView):
    @extend_schema(
        request=ForkInput,
        responses={201: SessionOutput, **body_errors(404, 409)},
        operation_id="sessions_fork",
        tags=["chat"],
    )
    def post(self, request: Request, ref: str) -> Response:
        """A new session of yours that begins with this one's messages, results of tools included."""
        values = validated(ForkInput, request.data)
        return Response(session_json(session_fork(actor=self.actor, ref=ref, **values)), status=201)


class FeedbackInput(StrictSerializer):
    rating = Choice(MessageFeedback.Rating.choices)
    comment = Text(required=False, default="", max_length=2000, allow_blank=True)
    user_id = Text(required=False, default="", max_length=128, allow_blank=True, help_text=USER.description)


class FeedbackOutput(serializers.Serializer[MessageFeedback]):
    message_id = serializers.UUIDField()
    rating = serializers.ChoiceField(MessageFeedback.Rating.choices)
    comment = serializers.CharField()
    by = serializers.CharField(source="label")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class FeedbackView(ApiView):
    @extend_schema(
        request=FeedbackInput,
        responses={200: FeedbackOutput, **body_errors(404)},
        operation_id="sessions_feedback",
        tags=["chat"],
    )
    def put(self, request: Request, ref: str, message_id: str) -> Response:
        """Your opinion of an answer, or your end user's; it takes the place of an earlier one."""
        values = validated(FeedbackInput, request.data)
        values["end_user"] = values.pop("user_id")
        feedback = feedback_give(actor=self.actor, ref=ref, message_id=message_id, **values)
        return Response(FeedbackOutput(feedback).data)

    @extend_schema(
        parameters=[USER],
        responses={204: OpenApiResponse(description="Withdrawn."), **errors_of(404)},
        operation_id="sessions_feedback_withdraw",
        tags=["chat"],
    )
    def delete(self, request: Request, ref: str, message_id: str) -> Response:
        """Withdraw it."""
        end_user = request.GET.get("user_id", "")
        feedback_withdraw(actor=self.actor, ref=ref, message_id=message_id, end_user=end_user)
        return Response(status=204)


class ExportView(ApiView):
    @extend_schema(
        parameters=[OpenApiParameter("format", str, enum=FORMATS, default="json"), REPLACED],
        responses={(200, "application/json"): OpenApiTypes.OBJECT, (200, "text/markdown"): str, **errors_of(404)},
        operation_id="sessions_export",
        tags=["chat"],
    )
    def get(self, request: Request, ref: str) -> HttpResponseBase:
        """The session as a file: with everything as JSON, or to read as Markdown."""
        form, replaced = request.GET.get("format", "json"), request.GET.get("replaced", "false")
        if replaced not in ("true", "false"):
            raise InvalidRequest("replaced must be true or false.", param="replaced")
        return session_file(actor=self.actor, ref=ref, form=form, replaced=replaced == "true")
