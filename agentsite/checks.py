"""What `manage.py check --deploy` says of a site beside Django's own checks."""

from typing import Any

from django.conf import settings
from django.core.checks import Tags, Warning, register


@register(Tags.compatibility, deploy=True)
def mail_has_a_server(**kwargs: Any) -> list[Warning]:
    """agentsite.W001: nobody gets the mail that budgets send."""
    if not settings.MAIL_IS_LOGGED:
        return []
    hint = "Set it to smtp+tls://user:password@mail.example.com:587, or to consolemail:// to have it so."
    return [Warning("EMAIL_URL is not set: mail goes to the worker's log.", hint=hint, id="agentsite.W001")]
