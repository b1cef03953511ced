from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from core.api import paginate, paginate_latest, validated
from core.api_schema import LIST_PARAMETERS, SEARCH, body_errors, errors_of, list_of
from core.errors import InvalidRequest
from sessions_app.api.serializers import (
    MessageOutput,
    SessionInput,
    SessionOutput,
    SessionPatch,
    message_json,
    session_json,
)
from sessions_app.models import ChatSession
from sessions_app.selectors import sessions as selectors
from sessions_app.selectors.feedback import with_feedback
from sessions_app.services import sessions as services
from tenants.api.base import ApiView

MINE = OpenApiParameter("mine", bool, description="`true`: those that you take part in, the last active first.")


class SessionsView(ApiView):
    @extend_schema(
        parameters=[
            *LIST_PARAMETERS,
            SEARCH,
            OpenApiParameter("agent", str, description="An agent's slug."),
            OpenApiParameter("user_id", str),
            MINE,
            OpenApiParameter("status", str, enum=ChatSession.Status.values),
        ],
        responses={200: list_of(SessionOutput), **errors_of()},
        operation_id="sessions_list",
        tags=["chat"],
    )
    def get(self, request: Request) -> Response:
        """Sessions, newest first; those that are archived only where `status` asks for them."""
        wanted = {name: request.GET.get(name, "") for name in ("q", "agent", "status")}
        if wanted["status"] not in ("", *ChatSession.Status.values):
            raise InvalidRequest(f"status must be one of {', '.join(ChatSession.Status.values)}.", param="status")
        mine, end_user = _flag(request, "mine"), request.GET.get("user_id", "")
        sessions = selectors.session_list(actor=self.actor, end_user=end_user, archived=False, **wanted)
        if mine:
            sessions = selectors.my_sessions(sessions, actor=self.actor)
            return paginate_latest(request, sessions, session_json, time="active_at")
        return paginate(request, sessions, session_json)

    @extend_schema(
        request=SessionInput,
        responses={201: SessionOutput, **body_errors(404, 409)},
        operation_id="sessions_create",
        tags=["chat"],
    )
    def post(self, request: Request) -> Response:
        """A new, empty session."""
        values = validated(SessionInput, request.data)
        values["end_user"] = values.pop("user_id")
        return Response(session_json(services.session_create(actor=self.actor, **values)), status=201)


class SessionView(ApiView):
    @extend_schema(responses={200: SessionOutput, **errors_of(404)}, operation_id="sessions_get", tags=["chat"])
    def get(self, request: Request, ref: str) -> Response:
        """One session, by our id or yours."""
        return Response(session_json(selectors.session_get(actor=self.actor, ref=ref)))

    @extend_schema(
        request=SessionPatch,
        responses={200: SessionOutput, **body_errors(404)},
        operation_id="sessions_update",
        tags=["chat"],
    )
    def patch(self, request: Request, ref: str) -> Response:
        """Change title, metadata or status."""
        changes = validated(SessionPatch, request.data)
        return Response(session_json(services.session_update(actor=self.actor, ref=ref, **changes)))

    @extend_schema(
        responses={204: OpenApiResponse(description="Deleted."), **errors_of(404)},
        operation_id="sessions_delete",
        tags=["chat"],
    )
    def delete(self, request: Request, ref: str) -> Response:
        """Delete a session with its messages and runs."""
        services.session_delete(actor=self.actor, ref=ref)
        return Response(status=204)


class MessagesView(ApiView):
    @extend_schema(
        parameters=[
            *LIST_PARAMETERS,
            OpenApiParameter("replaced", bool, description="With those that were edited or answered anew."),
            OpenApiParameter("user_id", str, description="Your end user, whose feedback is then `mine`."),
        ],
        responses={200: list_of(MessageOutput), **errors_of(404)},
        operation_id="sessions_messages",
        tags=["chat"],
    )
    def get(self, request: Request, ref: str) -> Response:
        """What was said, oldest first."""
        session = selectors.session_get(actor=self.actor, ref=ref)
        replaced = _flag(request, "replaced")
        messages = selectors.message_list(actor=self.actor, session=session, replaced=replaced)
        messages = with_feedback(messages, actor=self.actor, end_user=request.GET.get("user_id", ""))
        return paginate(request, messages, message_json, key="seq")


def _flag(request: Request, name: str) -> bool:
    given = request.GET.get(name, "false")
    if given not in ("true", "false"):
        raise InvalidRequest(f"{name} must be true or false.", param=name)
    return given == "true"
