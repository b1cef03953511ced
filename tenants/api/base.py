"""Base views: authenticate, enter the tenant, and let every error out by the one door."""

from inspect import isawaitable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from rest_framework.request import Request
from rest_framework.views import APIView

from core.aio import in_db_thread
from core.errors import InvalidRequest, NotAuthenticated, NotPermitted
from core.tenant import enter_tenant, tenant_context
from tenants.authentication import at_origin, authenticate_token, authenticate_user, cached_token, other_origin
from tenants.models import PublishableKey
from tenants.principal import Principal


def bearer_token(request: HttpRequest) -> str | None:
    """The token of the Authorization header; None without one. Raises NotAuthenticated for another scheme."""
    header = request.headers.get("Authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthenticated("Send `Authorization: Bearer <api key>`.")
    return token.strip()


def authenticate(request: HttpRequest) -> Principal:
    """The principal of a request's token, else the signed-in browser user in the tenant that `X-Tenant` names."""
    token = bearer_token(request)
    if token is not None:
        return _here(request, authenticate_token(token))
    user = browser_user(request)
    if user is None:
        raise NotAuthenticated("Send `Authorization: Bearer <api key>`, or sign in.")
    slug = request.headers.get("X-Tenant")
    if not slug:
        raise InvalidRequest("A signed-in user names the tenant with the X-Tenant header.", param="X-Tenant")
    return authenticate_user(user, slug)


def browser_user(request: HttpRequest) -> Any | None:
    """The user who has signed in; None for nobody. Raises NotPermitted where the CSRF token is missing."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return None
    _check_csrf(request)
    return user


def _here(request: HttpRequest, principal: Principal) -> Principal:
    return at_origin(principal, origin_of(request)) if principal.widget else principal


def origin_of(request: HttpRequest) -> str:
    """The origin of the page that asks; browsers leave it out only where a page reads from its own server."""
    return request.headers.get("Origin") or f"{request.scheme}://{request.get_host()}"


def refuse_other_origin(request: HttpRequest, key: PublishableKey | None) -> None:
    """Raises NotPermitted where a widget's key does not list the page that asks."""
    if key is not None and origin_of(request) not in key.origins:
        raise other_origin()


class _Csrf(CsrfViewMiddleware):
    def _reject(self, request: HttpRequest, reason: str) -> Any:
        return reason


def _check_csrf(request: HttpRequest) -> None:
    check = _Csrf(HttpResponse)
    check.process_request(request)
    if check.process_view(request, HttpResponse, (), {}):
        raise NotPermitted("The CSRF token is missing or wrong.", code="csrf_failed")


def refuse_nul(request: HttpRequest) -> None:
    """PostgreSQL takes no NUL, in a search no more than in a value."""
    if "\0" in request.path or "%00" in request.META.get("QUERY_STRING", ""):
        raise InvalidRequest("The address contains a NUL character.", code="invalid_character")


class PublicView(APIView):
    """A sync endpoint for anybody; it enters no tenant."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        with tenant_context(None):
            return super().dispatch(request, *args, **kwargs)

    def perform_authentication(self, request: Request) -> None:
        """Done by `ApiView.initial`, which must not let DRF replace the signed-in user by nobody."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        refuse_nul(request._request)


class ApiView(PublicView):
    """A sync endpoint. `self.actor` is the Principal; the database sees its tenant only."""

    actor: Principal

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.actor = authenticate(request._request)
        enter_tenant(self.actor.tenant_id)


class AsyncApiView(ApiView):
    """An async endpoint, for what waits on models; its database work goes through `core.aio.in_db_thread`."""

    async def dispatch(  # type: ignore[override]  # Django awaits what an async view answers
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> Any:
        self.args, self.kwargs = args, kwargs
        drf_request = self.initialize_request(request, *args, **kwargs)
        self.request = drf_request
        self.headers = self.default_response_headers
        with tenant_context(None):
            try:
                response = await self._handle(drf_request, *args, **kwargs)
            except Exception as error:
                response = self.handle_exception(error)
        self.response = self.finalize_response(drf_request, response, *args, **kwargs)
        return self.response

    async def _handle(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        self.format_kwarg = None
        request.accepted_renderer, request.accepted_media_type = self.perform_content_negotiation(request)
        refuse_nul(request._request)
        self.actor = await self._authenticate(request._request)
        enter_tenant(self.actor.tenant_id)
        method = (request.method or "").lower()
        name = method if method in self.http_method_names else "http_method_not_allowed"
        handler = getattr(self, name, self.http_method_not_allowed)
        response = handler(request, *args, **kwargs)
        return await response if isawaitable(response) else response

    async def _authenticate(self, request: HttpRequest) -> Principal:
        token = bearer_token(request)
        known = cached_token(token) if token is not None else None
        if known is not None:
            return _here(request, known)
        return await in_db_thread(authenticate, request)
