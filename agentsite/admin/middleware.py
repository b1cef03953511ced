"""The tenant in the URL of the operators' site, and the headers of every page."""

import re
from asyncio import to_thread
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware
from django.urls import get_script_prefix, set_script_prefix
from django.utils.decorators import sync_and_async_middleware

from agentsite.admin.refusals import refusal
from core.aio import in_db_thread
from core.errors import NotPermitted
from core.tenant import tenant_context
from tenants.authentication import memberships_of, principal_among

LAST_TENANT = "last_tenant"
_TENANT_PATH = re.compile(r"/t/(?P<slug>[a-z0-9][a-z0-9-]{0,62})(?P<rest>/admin/.*)\Z", re.DOTALL)
_TENANT_ROOT = re.compile(r"/t/[a-z0-9][a-z0-9-]{0,62}(/|/admin)?\Z")
_WITHOUT_TENANT = ("/admin/login/", "/admin/logout/", "/admin/jsi18n/")
View = Callable[[HttpRequest], Any]


def _is_ours(request: HttpRequest) -> bool:
    return request.path_info.startswith(("/t/", "/admin"))


def _arrive(request: Any) -> HttpResponseBase | None:
    """Set `request.tenant`, `.principal` and `.memberships`; a response when the request goes no further."""
    path = request.path_info
    if path.startswith("/admin"):
        return None if path in _WITHOUT_TENANT else HttpResponseRedirect("/")
    if _TENANT_ROOT.match(path):
        return HttpResponseRedirect(f"/t/{path.split('/')[2]}/admin/")
    match = _TENANT_PATH.match(path)
    if match is None:
        return None
    if not request.user.is_authenticated:
        return HttpResponseRedirect(f"{settings.LOGIN_URL}?{urlencode({'next': request.get_full_path()})}")
    return _enter(request, match["slug"])


def _enter(request: Any, slug: str) -> HttpResponseBase | None:
    memberships = memberships_of(request.user)
    try:
        request.principal = principal_among(memberships, request.user, slug)
    except NotPermitted as error:
        if error.code == "not_a_member":
            return refusal(request, 404, "Nothing is served at this path.")
        return refusal(request, 403, error.message)
    request.memberships = [m for m in memberships if m.is_open]
    request.tenant = next(m for m in memberships if m.tenant_slug == slug)
    if request.session.get(LAST_TENANT) != slug:
        request.session[LAST_TENANT] = slug
    return None


@contextmanager
def _inside(request: Any) -> Iterator[None]:
    """The tenant's context, with its prefix off the path and on every URL that is made."""
    before = get_script_prefix()
    prefix = f"t/{request.tenant.tenant_slug}/"
    request.path_info = request.path_info.removeprefix(f"/{prefix}".rstrip("/"))
    set_script_prefix(before + prefix)
    try:
        with tenant_context(request.tenant.tenant_id):
            yield
    finally:
        set_script_prefix(before)


@sync_and_async_middleware
def TenantPathMiddleware(get_response: View) -> View:  # noqa: N802 named like Django's
    """`/t/<tenant>/admin/…` is served as `/admin/…` in that tenant; who is no member gets 404."""
    if iscoroutinefunction(get_response):

        async def serve_async(request: Any) -> Any:
            if not _is_ours(request):
                return await get_response(request)
            if (refusal := await in_db_thread(_arrive, request)) is not None:
                return refusal
            if getattr(request, "tenant", None) is None:
                return await get_response(request)
            with _inside(request):
                return await get_response(request)

        return serve_async

    def serve(request: Any) -> Any:
        if not _is_ours(request):
            return get_response(request)
        if (refusal := _arrive(request)) is not None:
            return refusal
        if getattr(request, "tenant", None) is None:
            return get_response(request)
        with _inside(request):
            return get_response(request)

    return serve


def _unstorable(request: HttpRequest) -> HttpResponse | None:
    """Refuse NUL in the query of a page, which filters would hand to the database."""
    if "%00" not in request.META.get("QUERY_STRING", "") or not request.path_info.startswith(("/t/", "/platform/")):
        return None
    return HttpResponse("400 The address contains a NUL character.\n", status=400, content_type="text/plain")


def _is_page(response: HttpResponseBase) -> bool:
    return response.headers.get("Content-Type", "").startswith("text/html") and not response.streaming


@sync_and_async_middleware
def PageMiddleware(get_response: View) -> View:  # noqa: N802 named like Django's
    """HTML gets the content-security policy and is compressed; everything else passes untouched."""
    gzip = GZipMiddleware(lambda request: HttpResponse())

    def finish(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        response.headers.setdefault("Content-Security-Policy", settings.CONTENT_SECURITY_POLICY)
        return gzip.process_response(request, response)

    if iscoroutinefunction(get_response):

        async def serve_async(request: HttpRequest) -> Any:
            response = _unstorable(request) or await get_response(request)
            return await to_thread(finish, request, response) if _is_page(response) else response

        return serve_async

    def serve(request: HttpRequest) -> Any:
        response = _unstorable(request) or get_response(request)
        return finish(request, response) if _is_page(response) else response

    return serve
