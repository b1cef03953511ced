from django.urls import path

from agents.api import migration_views, views

urlpatterns = [
    path("agents", views.AgentsView.as_view()),
    path("templates/<str:slug>/migrations", migration_views.MigrationsView.as_view()),
    path("toolsets/compatibility", views.CompatibilityView.as_view()),
    path("agents/validate", views.AgentValidateView.as_view()),
    path("agents/<str:ref>", views.AgentView.as_view()),
    path("agents/<str:ref>/status", views.AgentStatusView.as_view()),
    path("agents/<str:ref>/versions", views.AgentVersionsView.as_view()),
    path("agents/<str:ref>/versions/<int:number>", views.AgentVersionView.as_view()),
    path("agents/<str:ref>/versions/<int:number>/restore", views.AgentRestoreView.as_view()),
]
