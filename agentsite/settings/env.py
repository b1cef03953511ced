"""The one reader of environment variables. An empty value counts as unset; a wrong one names its variable."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ("development", "test", "production")
SECRET_LENGTH = 32
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")

env = environ.Env()


def text(name: str, default: str = "") -> str:
    value: str = env.str(name, default="")
    return value or default


def choice(name: str, default: str, allowed: Sequence[str]) -> str:
    value = text(name, default)
    if value not in allowed:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(allowed)}, not {value!r}.")
    return value


def flag(name: str, *, default: bool) -> bool:
    value = text(name, "true" if default else "false").lower()
    if value not in (*_TRUE, *_FALSE):
        raise ImproperlyConfigured(f"{name} must be true or false, not {value!r}.")
    return value in _TRUE


def count(name: str, default: int, minimum: int = 1) -> int:
    value = text(name, str(default))
    if not (value.isascii() and value.isdecimal()) or int(value) < minimum:
        raise ImproperlyConfigured(f"{name} must be a whole number of at least {minimum}, not {value!r}.")
    return int(value)


def at_least(name: str, default: float, minimum: float) -> float:
    """A number in the unit that the setting's comment says."""
    value = text(name, str(default))
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not minimum <= number < math.inf:
        raise ImproperlyConfigured(f"{name} must be a number of at least {minimum:g}, not {value!r}.")
    return number


def words(name: str, default: Iterable[str] = ()) -> list[str]:
    """A list separated by commas."""
    value = text(name)
    return [word.strip() for word in value.split(",") if word.strip()] if value else list(default)


def web_address(name: str, value: str) -> str:
    """`value` without a trailing slash; `name` is the variable to blame when it is no http:// or https:// address."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ImproperlyConfigured(f"{name} must look like https://agents.example.com, not {value!r}.")
    return value.rstrip("/")


def origins(name: str) -> list[str]:
    return [web_address(name, word) for word in words(name)]


def secret(name: str) -> str:
    """A secret of at least 32 characters; only development and tests may leave it out."""
    value: str = env.ENVIRON.get(name, "")  # as it is: Env.str takes a leading $ for a reference
    if not value and not PRODUCTION:
        return f"development-only-{name.lower()}-never-used-in-production"
    if len(value) < SECRET_LENGTH:
        raise ImproperlyConfigured(f"{name} must be set to at least {SECRET_LENGTH} random characters.")
    return value


ENVIRONMENT = choice("AGENTSITE_ENV", "development", ENVIRONMENTS)
PRODUCTION = ENVIRONMENT == "production"
