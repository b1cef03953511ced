from django.urls import path

from sessions_app.api import views, widgets

urlpatterns = [
    path("publishable-keys", widgets.PublishableKeysView.as_view()),
    path("publishable-keys/<str:ref>", widgets.PublishableKeyView.as_view()),
    path("visitors", widgets.VisitorsView.as_view()),
    path("sessions", views.SessionsView.as_view()),
    path("sessions/<path:ref>/messages", views.MessagesView.as_view()),
    path("sessions/<path:ref>", views.SessionView.as_view()),
]
