"""One PostgreSQL, four roles: `default` serves tenants, `owner` migrates, `ops` (BYPASSRLS) runs the platform, and the
event log has connections of its own as `stream`, which is no alias of Django's.

Without URLs of their own, they log in as `DATABASE_URL` does and take their role by a connection option.
"""

from contextlib import suppress
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from agentsite.settings.env import PRODUCTION, choice, count, text

DATABASE_POOL_SIZE = count("DATABASE_POOL_SIZE", default=10, minimum=2)
TENANT_MODE = choice("DATABASE_TENANT_MODE", "session", ("session", "local"))
_URL = text("DATABASE_URL")
_EXAMPLE = "postgresql://user:password@host:5432/agentsite"
if not _URL and PRODUCTION:
    raise ImproperlyConfigured(f"DATABASE_URL must be set, for example {_EXAMPLE}.")


def parse_url(name: str, url: str) -> dict[str, Any]:
    """Django's settings of a database; the error names the variable and never shows its password."""
    config: dict[str, Any] = {}
    with suppress(ValueError):
        config = environ.Env.db_url_config(url) if url.startswith(("postgresql://", "postgres://")) else {}
    if not config.get("NAME"):
        raise ImproperlyConfigured(f"{name} must look like {_EXAMPLE}.")
    return config


def database(role: str, name: str, *, pooled: bool) -> dict[str, Any]:
    name = name if text(name) else "DATABASE_URL"
    config = parse_url(name, text(name) or "postgresql://localhost/agentsite")
    options = dict(config.get("OPTIONS") or {})
    options["options"] = f"{options.get('options', '')} -c role=app_{role} -c lock_timeout=5s".strip()
    if pooled:
        options["pool"] = {"min_size": 1, "max_size": DATABASE_POOL_SIZE + 2, "timeout": 10}
    return {
        **config,
        "ENGINE": "core.db",
        "OPTIONS": options,
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": not pooled,  # core.db asks no connection that nothing speaks against
        "TENANT_MODE": TENANT_MODE,
        "DISABLE_SERVER_SIDE_CURSORS": TENANT_MODE == "local",  # they outlive their transaction, and the tenant with it
    }


STREAM_DATABASE = database("stream", "DATABASE_STREAM_URL", pooled=False)
DATABASES = {
    "default": {**database("user", "DATABASE_URL", pooled=True), "SERVES_TENANTS": True, "TEST": {"MIRROR": "owner"}},
    "owner": database("owner", "DATABASE_OWNER_URL", pooled=False),
    "ops": {**database("ops", "DATABASE_OPS_URL", pooled=False), "TEST": {"MIRROR": "owner"}},
}
