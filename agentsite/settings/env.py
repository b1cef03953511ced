"""The one reader of environment variables."""

from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ("development", "test", "production")

env = environ.Env()
ENVIRONMENT: str = env.str("AGENTSITE_ENV", default="development")
if ENVIRONMENT not in ENVIRONMENTS:
    raise ImproperlyConfigured(f"AGENTSITE_ENV must be one of {', '.join(ENVIRONMENTS)}, not {ENVIRONMENT!r}.")
PRODUCTION = ENVIRONMENT == "production"


def secret(name: str) -> str:
    """A secret of at least 32 characters; only development and tests may leave it out."""
    value: str = env.str(name, default="")
    if not value and not PRODUCTION:
        return f"development-only-{name.lower()}-never-used-in-production"
    if len(value) < 32:
        raise ImproperlyConfigured(f"{name} must be set to at least 32 random characters.")
    return value


def at_least(name: str, default: float, minimum: float) -> float:
    """A number in the unit that the setting's comment says."""
    value: float = env.float(name, default=default)
    if value < minimum:
        raise ImproperlyConfigured(f"{name} must be at least {minimum:g}, not {value:g}.")
    return value


def count(name: str, default: int, minimum: int = 1) -> int:
    value: int = env.int(name, default=default)
    if value < minimum:
        raise ImproperlyConfigured(f"{name} must be at least {minimum}, not {value}.")
    return value
