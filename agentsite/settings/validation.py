"""Rules that span several settings."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured


def validate(settings: dict[str, Any]) -> None:
    if settings["PRODUCTION"] and not settings["ALLOWED_HOSTS"]:
        raise ImproperlyConfigured("ALLOWED_HOSTS must name the hosts that this server answers for.")
    if settings["PRODUCTION"] and settings["DEBUG"]:
        raise ImproperlyConfigured("DEBUG cannot be on when AGENTSITE_ENV is production.")
    if settings["PRODUCTION"] and settings["TEMPLATE_RELOAD"]:
        raise ImproperlyConfigured("TEMPLATE_RELOAD cannot be on when AGENTSITE_ENV is production.")
    if settings["LLM_TOTAL_TIMEOUT"] > settings["RUN_TIMEOUT"]:
        raise ImproperlyConfigured("LLM_TOTAL_TIMEOUT must not exceed RUN_TIMEOUT.")
