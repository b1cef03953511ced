from django.urls import path

from runs.consumers import SessionConsumer

websocket_urlpatterns = [path("ws/v1/sessions/<path:ref>", SessionConsumer.as_asgi())]
