from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView

from agentsite import views
from agentsite.admin.urls import urlpatterns as admin_urlpatterns
from agentsite.chat.urls import urlpatterns as chat_urlpatterns
from runs.api.mcp import McpView

handler400 = views.bad_request
handler403 = views.permission_denied
handler404 = views.not_found
handler500 = views.server_error

urlpatterns = [
    path("v1/health", views.HealthView.as_view()),
    path("v1/health/ready", views.ReadyView.as_view()),
    path("v1/openapi.json", SpectacularJSONAPIView.as_view(), name="openapi"),
    path("v1/docs", RedirectView.as_view(pattern_name="docs")),
    path("v1/docs/", SpectacularSwaggerSplitView.as_view(url_name="openapi"), name="docs"),
    path("v1/", include("tenants.api.urls")),
    path("v1/", include("audit.api.urls")),
    path("v1/", include("usage.api.urls")),
    path("v1/", include("llm.api.urls")),
    path("v1/", include("templates_app.api.urls")),
    path("v1/", include("agents.api.urls")),
    path("v1/", include("toolsets.api.urls")),
    path("v1/", include("runs.api.urls")),
    path("v1/", include("sessions_app.api.urls")),
    path("mcp", McpView.as_view()),
    *chat_urlpatterns,
    *admin_urlpatterns,
]
