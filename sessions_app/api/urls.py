from django.urls import path

from sessions_app.api import search_views, views

urlpatterns = [
    path("search", search_views.SearchView.as_view()),
    path("sessions", views.SessionsView.as_view()),
    path("sessions/<path:ref>/messages", views.MessagesView.as_view()),
    path("sessions/<path:ref>", views.SessionView.as_view()),
]
