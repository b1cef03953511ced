from django.urls import path

from sessions_app.api import views

urlpatterns = [
    path("sessions", views.SessionsView.as_view()),
    path("sessions/<path:ref>/messages", views.MessagesView.as_view()),
    path("sessions/<path:ref>", views.SessionView.as_view()),
]
