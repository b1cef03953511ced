from django.urls import path

from runs.consumers import SessionConsumer

websocket_urlpatterns = [path("ws/v1/sessions/<str:ref>", SessionConsumer.as_asgi())]
