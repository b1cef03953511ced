"""Where mail goes: without EMAIL_URL to the log of the process that sends it."""

from contextlib import suppress
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from agentsite.settings.env import text

_SCHEMES = ("smtp", "smtp+tls", "smtp+ssl", "consolemail")
MAIL_IS_LOGGED = not text("EMAIL_URL")  # which production is warned of
EMAIL_TIMEOUT = 10  # seconds, of each answer that a mail server owes
DEFAULT_FROM_EMAIL = text("DEFAULT_FROM_EMAIL", "agentsite@localhost")


def mail_server(url: str) -> dict[str, Any]:
    """Django's settings of a mail server; the error never shows its password."""
    config: dict[str, Any] = {}
    if url.partition("://")[0] in _SCHEMES:
        with suppress(ValueError):
            config = environ.Env.email_url_config(url)
    if not config or (url.startswith("smtp") and not config.get("EMAIL_HOST")):
        raise ImproperlyConfigured("EMAIL_URL must look like smtp+tls://user:password@mail.example.com:587.")
    return config


if "@" not in DEFAULT_FROM_EMAIL:
    raise ImproperlyConfigured(f"DEFAULT_FROM_EMAIL must be an e-mail address, not {DEFAULT_FROM_EMAIL!r}.")
vars().update(mail_server(text("EMAIL_URL", "consolemail://")))
