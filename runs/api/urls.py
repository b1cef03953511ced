from django.urls import path

from runs.api import approval_views, template_views, ui_stream_views, views

urlpatterns = [
    path("chat/completions", views.ChatCompletionsView.as_view()),
    path("models", views.ModelsView.as_view()),
    path("agents/<str:ref>/ag-ui", views.AgentRunView.as_view()),
    path("agents/<str:ref>/ui-stream", ui_stream_views.UiStreamView.as_view()),
    path("agents/<str:ref>/ui-stream/<path:session>/stream", ui_stream_views.UiStreamResumeView.as_view()),
    path("sessions/<path:ref>/runs", views.SessionRunsView.as_view()),
    path("runs/<str:ref>", views.RunView.as_view()),
    path("runs/<str:ref>/events", views.RunEventsView.as_view()),
    path("runs/<str:ref>/cancel", views.RunCancelView.as_view()),
    path("runs/<str:ref>/resume", approval_views.RunResumeView.as_view()),
    path("templates/<str:slug>/statistics", template_views.TemplateStatisticsView.as_view()),
    path("approvals", approval_views.ApprovalsView.as_view()),
    path("approvals/<str:ref>", approval_views.ApprovalView.as_view()),
]
