from django.urls import path

from sessions_app.api import lifecycle_views, search_views, views, widgets
from sessions_app.api import sharing_views as sharing

urlpatterns = [
    path("publishable-keys", widgets.PublishableKeysView.as_view()),
    path("publishable-keys/<str:ref>", widgets.PublishableKeyView.as_view()),
    path("visitors", widgets.VisitorsView.as_view()),
    path("search", search_views.SearchView.as_view()),
    path("sessions", views.SessionsView.as_view()),
    path("sessions/<path:ref>/title", lifecycle_views.TitleView.as_view()),
    path("sessions/<path:ref>/fork", lifecycle_views.ForkView.as_view()),
    path("sessions/<path:ref>/export", lifecycle_views.ExportView.as_view()),
    path("sessions/<path:ref>/messages/<str:message_id>/feedback", lifecycle_views.FeedbackView.as_view()),
    path("sessions/<path:ref>/messages", views.MessagesView.as_view()),
    path("sessions/<path:ref>/participants", sharing.ParticipantsView.as_view()),
    path("sessions/<path:ref>/participants/<uuid:id>", sharing.ParticipantView.as_view()),
    path("sessions/<path:ref>/invitations", sharing.InvitationsView.as_view()),
    path("sessions/<path:ref>/invitations/<uuid:id>", sharing.InvitationView.as_view()),
    path("invitations/accept", sharing.AcceptView.as_view()),
    path("sessions/<path:ref>", views.SessionView.as_view()),
]
