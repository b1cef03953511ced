from django.urls import path

from toolsets.api import views

urlpatterns = [
    path("toolsets", views.ToolsetsView.as_view()),
    path("toolsets/kinds", views.ToolsetKindsView.as_view()),
    path("toolsets/validate", views.NewToolsetValidateView.as_view()),
    path("toolsets/<str:ref>", views.ToolsetView.as_view()),
    path("toolsets/<str:ref>/tools", views.ToolsetToolsView.as_view()),
    path("toolsets/<str:ref>/tools/<str:name>/invoke", views.ToolInvokeView.as_view()),
    path("toolsets/<str:ref>/refresh", views.ToolsetRefreshView.as_view()),
    path("toolsets/<str:ref>/credentials", views.ToolsetCredentialsView.as_view()),
    path("toolsets/<str:ref>/validate", views.ToolsetValidateView.as_view()),
]
