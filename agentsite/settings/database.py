"""One PostgreSQL, three roles: `default` serves tenants, `owner` migrates, `ops` (BYPASSRLS) runs the platform.

Without URLs of their own, `owner` and `ops` log in as `DATABASE_URL` does and take their role by a connection option.
"""

from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from agentsite.settings.env import PRODUCTION, count, env

DATABASE_POOL_SIZE = count("DATABASE_POOL_SIZE", default=10, minimum=2)
TENANT_MODE: str = env.str("DATABASE_TENANT_MODE", default="session")
_URL: str = env.str("DATABASE_URL", default="")
if not _URL and PRODUCTION:
    raise ImproperlyConfigured("DATABASE_URL must be set, for example postgresql://user:password@host:5432/agentsite.")


def reset_tenant(connection: Any) -> None:
    """Run by the pool on a returned connection: no tenant outlives the work that set it."""
    connection.execute("SELECT set_config('app.tenant_id', '', false)")
    connection.commit()


def database(role: str, url: str, *, pooled: bool) -> dict[str, Any]:
    config: dict[str, Any] = environ.Env.db_url_config(url or "postgresql://localhost/agentsite")
    if config.get("ENGINE") not in ("django.db.backends.postgresql", "core.db"):
        raise ImproperlyConfigured("DATABASE_URL must be a postgresql:// URL.")
    options = dict(config.get("OPTIONS") or {})
    options["options"] = f"{options.get('options', '')} -c role=app_{role} -c lock_timeout=5s".strip()
    if pooled:
        options["pool"] = {"min_size": 1, "max_size": DATABASE_POOL_SIZE + 2, "timeout": 10, "reset": reset_tenant}
    return {
        **config,
        "ENGINE": "core.db",
        "OPTIONS": options,
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": True,
        "TENANT_MODE": TENANT_MODE,
    }


DATABASES = {
    "default": {**database("user", _URL, pooled=True), "TEST": {"MIRROR": "owner"}},
    "owner": database("owner", env.str("DATABASE_OWNER_URL", default=_URL), pooled=False),
    "ops": {**database("ops", env.str("DATABASE_OPS_URL", default=_URL), pooled=False), "TEST": {"MIRROR": "owner"}},
}
