from pathlib import Path

from agentsite.settings.env import (
    BASE_DIR,
    ENVIRONMENT,  # noqa: F401 a setting too
    PRODUCTION,  # noqa: F401 a setting too
    flag,
    text,
    web_address,
)

DEBUG = flag("DEBUG", default=False)
HOME_DIR = Path(text("AGENTSITE_HOME", str(BASE_DIR / ".agentsite")))
BASE_URL = web_address("BASE_URL", text("BASE_URL", "http://127.0.0.1:8000"))

INSTALLED_APPS = [
    "core",
    "sandbox",
    "agentsite.apps.AgentsiteConfig",
    "unfold",
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "django.contrib.admin.apps.SimpleAdminConfig",  # the sites of agentsite.admin register by name
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "procrastinate.contrib.django",
    "tenants",
    "audit",
    "usage",
    "llm",
    "toolsets",
    "templates_app",
    "agents",
    "sessions_app",
    "runs",
]

MIDDLEWARE = [
    "agentsite.middleware.RequestContextMiddleware",
    "agentsite.admin.middleware.PageMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "agentsite.admin.middleware.TenantPathMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "agentsite.urls"
ASGI_APPLICATION = "agentsite.asgi.application"
WSGI_APPLICATION = None
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "agentsite" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

AUTH_USER_MODEL = "tenants.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = Path(text("STATIC_ROOT", str(BASE_DIR / "staticfiles")))
