"""The chat page: a frame around `<agent-chat>`, whose scripts ask the API as whoever signed in.

It is served to everybody: an invitation's secret and that of a guest are known to the browser only. A browser that has
neither goes on to the sign-in by itself.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, LogoutView, redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from agentsite.admin.middleware import LAST_TENANT
from tenants.authentication import UserMembership, memberships_of

CHAT, LOGIN = reverse_lazy("chat"), reverse_lazy("chat_login")


def strict(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Kept by nobody, and with the policy of pages that have no inline style or script."""

    @wraps(view)
    def serve(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        response.headers["Content-Security-Policy"] = settings.CHAT_CONTENT_SECURITY_POLICY
        return response

    return never_cache(serve)


@strict
@require_safe
def chat(request: HttpRequest, session: UUID | None = None) -> HttpResponse:
    """`?tenant=` chooses among the tenants of the person, for this time and the next ones."""
    memberships = _memberships(request)
    wanted = request.GET.get("tenant")
    if wanted is not None:
        return _choose(request, memberships, wanted)
    known = {"person": _person(request), "tenants": [_tenant(m) for m in memberships]}
    chosen = _chosen(request, memberships)
    known["tenant"] = _tenant(chosen) if chosen else None
    return render(request, "chat/page.html", {"known": known, "memberships": memberships, "tenant": chosen})


def _memberships(request: HttpRequest) -> list[UserMembership]:
    if not request.user.is_authenticated:
        return []
    return [membership for membership in memberships_of(request.user) if membership.is_open]


def _choose(request: HttpRequest, memberships: list[UserMembership], wanted: str) -> HttpResponse:
    """Back to the page, which knows the choice from the session; after the sign-in for who has to do that first."""
    if not request.user.is_authenticated:
        return redirect_to_login(request.get_full_path(), str(LOGIN))
    if wanted not in {membership.tenant_slug for membership in memberships}:
        raise Http404
    request.session[LAST_TENANT] = wanted
    return HttpResponseRedirect(request.path)


def _chosen(request: HttpRequest, memberships: list[UserMembership]) -> UserMembership | None:
    last = request.session.get(LAST_TENANT) if memberships else None
    return next((m for m in memberships if m.tenant_slug == last), memberships[0] if memberships else None)


def _person(request: HttpRequest) -> dict[str, str] | None:
    if not request.user.is_authenticated:
        return None
    return {"id": str(request.user.pk), "name": request.user.get_username()}


def _tenant(membership: UserMembership) -> dict[str, str]:
    return {
        "id": str(membership.tenant_id),
        "slug": membership.tenant_slug,
        "name": membership.tenant_name,
        "role": membership.role,
    }


class LoginForm(AuthenticationForm):
    """Any member may sign in here; the admin's form wants its staff."""

    error_messages = {
        **AuthenticationForm.error_messages,
        "invalid_login": "Your username and password did not match.",
    }


login = strict(
    LoginView.as_view(
        template_name="chat/login.html",
        authentication_form=LoginForm,
        next_page=CHAT,
        redirect_authenticated_user=True,
    )
)
logout = strict(LogoutView.as_view(next_page=LOGIN))
