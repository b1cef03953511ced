from django.urls import path
from django.views.generic import RedirectView

from agentsite.chat import views

urlpatterns = [
    path("chat", RedirectView.as_view(pattern_name="chat")),
    path("chat/", views.chat, name="chat"),
    path("chat/s/<uuid:session>", views.chat, name="chat_session"),
    path("chat/login/", views.login, name="chat_login"),
    path("chat/logout/", views.logout, name="chat_logout"),
]
