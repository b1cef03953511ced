"""The ASGI application that uvicorn (default) and daphne serve."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentsite.settings")

from django.core.asgi import get_asgi_application

import agentsite.lean  # noqa: F401

django_app = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

from agentsite.body_limit import BodyLimit  # noqa: E402
from agentsite.cross_origin import CrossOrigin  # noqa: E402
from agentsite.keyed import KeyedRequests  # noqa: E402
from agentsite.lifespan import Lifespan  # noqa: E402
from agentsite.staticfiles import StaticFiles  # noqa: E402
from runs.routing import websocket_urlpatterns  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": CrossOrigin(StaticFiles(BodyLimit(KeyedRequests(django_app)))),
        "websocket": URLRouter(websocket_urlpatterns),
        "lifespan": Lifespan(),
    }
)
