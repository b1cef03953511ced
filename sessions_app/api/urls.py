from django.urls import path

from sessions_app.api import sharing_views as sharing
from sessions_app.api import views, widgets

urlpatterns = [
    path("publishable-keys", widgets.PublishableKeysView.as_view()),
    path("publishable-keys/<str:ref>", widgets.PublishableKeyView.as_view()),
    path("visitors", widgets.VisitorsView.as_view()),
    path("sessions", views.SessionsView.as_view()),
    path("sessions/<path:ref>/messages", views.MessagesView.as_view()),
    path("sessions/<path:ref>/participants", sharing.ParticipantsView.as_view()),
    path("sessions/<path:ref>/participants/<uuid:id>", sharing.ParticipantView.as_view()),
    path("sessions/<path:ref>/invitations", sharing.InvitationsView.as_view()),
    path("sessions/<path:ref>/invitations/<uuid:id>", sharing.InvitationView.as_view()),
    path("invitations/accept", sharing.AcceptView.as_view()),
    path("sessions/<path:ref>", views.SessionView.as_view()),
]
