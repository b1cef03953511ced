"""Where the pages are. `/t/<tenant>/admin/…` arrives here as `/admin/…`: the middleware takes the tenant off."""

from django.urls import path

from agentsite.admin.platform import platform_site
from agentsite.admin.sites import operator_site
from agentsite.admin.views import landing

urlpatterns = [
    path("", landing, name="landing"),
    path("admin/", operator_site.urls),
    path("platform/", platform_site.urls),
]
