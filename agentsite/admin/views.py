from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse

from agentsite.admin.middleware import LAST_TENANT
from agentsite.admin.sites import operator_site
from tenants.authentication import memberships_of


def landing(request: HttpRequest) -> HttpResponse:
    """`/`: to the tenant that was last worked in, else the first; platform staff without one to the platform's site."""
    if not request.user.is_authenticated:
        return HttpResponseRedirect(f"{reverse('admin:login')}?next=/")
    memberships = [m for m in memberships_of(request.user) if m.is_open]
    last = request.session.get(LAST_TENANT)
    chosen = next((m for m in memberships if m.tenant_slug == last), memberships[0] if memberships else None)
    if chosen:
        return HttpResponseRedirect(f"/t/{chosen.tenant_slug}/admin/")
    if request.user.is_superuser:
        return HttpResponseRedirect(reverse("platform:index"))
    return render(request, "operators/nowhere.html", operator_site.each_context(request), status=403)
