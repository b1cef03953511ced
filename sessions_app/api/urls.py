from django.urls import path

from sessions_app.api import views

urlpatterns = [
    path("sessions", views.SessionsView.as_view()),
    path("sessions/<str:ref>", views.SessionView.as_view()),
    path("sessions/<str:ref>/messages", views.MessagesView.as_view()),
]
