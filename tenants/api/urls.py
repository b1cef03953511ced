from django.urls import path

from tenants.api import views

urlpatterns = [
    path("me", views.MeView.as_view()),
    path("api-keys", views.ApiKeysView.as_view()),
    path("api-keys/<str:ref>", views.ApiKeyView.as_view()),
    path("api-keys/<str:ref>/rotate", views.ApiKeyRotateView.as_view()),
    path("members", views.MembersView.as_view()),
    path("members/<str:ref>", views.MemberView.as_view()),
    path("ws-tickets", views.TicketView.as_view()),
    path("guest-tokens", views.GuestTokenView.as_view()),
]
