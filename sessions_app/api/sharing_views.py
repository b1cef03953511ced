"""Who takes part in a session, and the links by which others come."""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from core.api import paginate, validated
from core.api_schema import LIST_PARAMETERS, body_errors, errors_of, list_of
from core.errors import InvalidRequest
from core.tenant import tenant_context
from sessions_app.api import serializers as io
from sessions_app.selectors.participants import invitation_list, participant_list
from sessions_app.selectors.sessions import session_get
from sessions_app.services import invitations, participants
from tenants.api.base import ApiView, PublicView, authenticate, bearer_token, browser_user
from tenants.authentication import memberships_of, principal_among
from tenants.principal import Principal
from tenants.services.guests import guest_token

PEOPLE = OpenApiParameter("participants", OpenApiTypes.BOOL, description="`true`: those who came by it go too.")


class ParticipantsView(ApiView):
    @extend_schema(
        parameters=LIST_PARAMETERS,
        responses={200: list_of(io.ParticipantOutput), **errors_of(404)},
        operation_id="participants_list",
        tags=["sharing"],
    )
    def get(self, request: Request, ref: str) -> Response:
        """The people who take part in a session, in the order in which they came."""
        session = session_get(actor=self.actor, ref=ref)
        people = participant_list(actor=self.actor, session=session)
        return paginate(request, people, io.participant_json, key="id")

    @extend_schema(
        request=io.ParticipantInput,
        responses={201: io.ParticipantOutput, **body_errors(404, 409)},
        operation_id="participants_create",
        tags=["sharing"],
    )
    def post(self, request: Request, ref: str) -> Response:
        """Let a member of the tenant take part."""
        values = validated(io.ParticipantInput, request.data)
        added = participants.participant_add(actor=self.actor, ref=ref, **values)
        return Response(io.participant_json(added), status=201)


class ParticipantView(ApiView):
    @extend_schema(
        request=io.ParticipantPatch,
        responses={200: io.ParticipantOutput, **body_errors(404, 409)},
        operation_id="participants_update",
        tags=["sharing"],
    )
    def patch(self, request: Request, ref: str, id: UUID) -> Response:
        """Change the role; the person's sockets close within 5 seconds and are opened anew."""
        values = validated(io.ParticipantPatch, request.data)
        changed = participants.participant_update(actor=self.actor, ref=ref, participant=str(id), **values)
        return Response(io.participant_json(changed))

    @extend_schema(
        responses={204: OpenApiResponse(description="Removed."), **errors_of(404, 409)},
        operation_id="participants_delete",
        tags=["sharing"],
    )
    def delete(self, request: Request, ref: str, id: UUID) -> Response:
        """Take somebody out, or go yourself; the person's sockets close within 5 seconds."""
        participants.participant_remove(actor=self.actor, ref=ref, participant=str(id))
        return Response(status=204)


class InvitationsView(ApiView):
    @extend_schema(
        parameters=LIST_PARAMETERS,
        responses={200: list_of(io.InvitationOutput), **errors_of(404)},
        operation_id="invitations_list",
        tags=["sharing"],
    )
    def get(self, request: Request, ref: str) -> Response:
        """The invitations to a session, newest first, also those that are over."""
        session = session_get(actor=self.actor, ref=ref)
        return paginate(request, invitation_list(actor=self.actor, session=session), io.invitation_json)

    @extend_schema(
        request=io.InvitationInput,
        responses={201: io.NewInvitationOutput, **body_errors(404)},
        operation_id="invitations_create",
        tags=["sharing"],
    )
    def post(self, request: Request, ref: str) -> Response:
        """A link into the session; its token is in this answer only."""
        values = validated(io.InvitationInput, request.data)
        made, token = invitations.invitation_create(actor=self.actor, ref=ref, **values)
        url = f"{settings.BASE_URL}/chat/#invite={token}"
        return Response({**io.invitation_json(made), "token": token, "url": url}, status=201)


class InvitationView(ApiView):
    @extend_schema(
        parameters=[PEOPLE],
        responses={204: OpenApiResponse(description="Revoked."), **errors_of(404, 409)},
        operation_id="invitations_revoke",
        tags=["sharing"],
    )
    def delete(self, request: Request, ref: str, id: UUID) -> Response:
        """Nobody comes by it any more; `participants=true` takes out those who did."""
        people = request.GET.get("participants", "false")
        if people not in ("true", "false"):
            raise InvalidRequest("participants must be true or false.", param="participants")
        gone = people == "true"
        invitations.invitation_revoke(actor=self.actor, ref=ref, invitation=str(id), participants=gone)
        return Response(status=204)


class AcceptView(PublicView):
    @extend_schema(
        request=io.AcceptInput,
        responses={200: io.AcceptedOutput, **body_errors(404)},
        operation_id="invitations_accept",
        tags=["sharing"],
    )
    def post(self, request: Request) -> Response:
        """Take part in a session by an invitation: as the user who is signed in, as a guest by their token, or as a
        new guest. No X-Tenant is needed. Whatever is wrong with an invitation, the answer is the same 404.
        """
        values = validated(io.AcceptInput, request.data)
        tenant_id = invitations.tenant_of(values["token"])
        person = _person(request._request, tenant_id)
        with tenant_context(tenant_id):
            accepted = invitations.invitation_accept(person=person, **values)
        guest = _guest_json(accepted.guest) if accepted.guest else None
        return Response({"session_id": str(accepted.session_id), "role": accepted.role, "guest": guest})


def _person(request: HttpRequest, tenant_id: UUID) -> Principal | None:
    """Who accepts; None for somebody who is nobody in that tenant."""
    if bearer_token(request) is not None:
        return authenticate(request)
    user = browser_user(request)
    memberships = [found for found in memberships_of(user) if found.is_open] if user and user.is_active else []
    its = next((found for found in memberships if found.tenant_id == tenant_id), None)
    return principal_among(memberships, user, its.tenant_slug) if its else None


def _guest_json(new: invitations.NewGuest) -> dict[str, Any]:
    return {"secret": new.secret, "token": guest_token(new.guest), "expires_in": settings.GUEST_TOKEN_SECONDS}
