"""The operators' pages: unfold's frame of both sites, and what the pages cache."""

from typing import Any

from django.templatetags.static import static

LOGIN_URL = "/admin/login/"
LOGIN_REDIRECT_URL = "/"
FORMAT_MODULE_PATH = "agentsite.formats"

# Keys carry the tenant: unfold caches its search results under user and term alone.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "KEY_FUNCTION": "agentsite.admin.cache.tenant_key",
    },
}

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "agentsite.staticfiles.VersionedStorage"},
}


def _static(path: str) -> Any:
    return lambda request: static(path)


_COLORS = {
    "primary": {  # blue
        "50": "oklch(97% .014 254.6)",
        "100": "oklch(93.2% .032 255.6)",
        "200": "oklch(88.2% .059 254.1)",
        "300": "oklch(80.9% .105 251.8)",
        "400": "oklch(70.7% .165 254.6)",
        "500": "oklch(62.3% .214 259.8)",
        "600": "oklch(54.6% .245 262.9)",
        "700": "oklch(48.8% .243 264.4)",
        "800": "oklch(42.4% .199 265.6)",
        "900": "oklch(37.9% .146 265.5)",
        "950": "oklch(28.2% .091 267.9)",
    },
}

_FRAME: dict[str, Any] = {
    "SITE_TITLE": "Agentsite",
    "SITE_HEADER": "Agentsite",
    "SITE_URL": None,
    "SITE_SYMBOL": "hub",
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    "BORDER_RADIUS": "6px",
    "COLORS": _COLORS,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": _static("agentsite/favicon.svg")}],
    "STYLES": [_static("agentsite/admin.css")],
    "SCRIPTS": [_static("agentsite/admin.js")],
}

UNFOLD: dict[str, Any] = {
    **_FRAME,
    "SITE_SUBHEADER": "agentsite.admin.navigation.subheader",
    "DASHBOARD_CALLBACK": "agentsite.admin.overview.dashboard",
    "COMMAND": {"search_models": False, "search_callback": "agentsite.admin.palette.search", "show_history": False},
    "SIDEBAR": {
        "show_search": True,
        "command_search": True,
        "show_all_applications": False,
        "navigation": "agentsite.admin.navigation.sidebar",
    },
    "TABS": "agentsite.admin.navigation.tabs",
}

UNFOLD_PLATFORM: dict[str, Any] = {
    **_FRAME,
    "SITE_SUBHEADER": "Platform",
    "SIDEBAR": {
        "show_search": False,
        "command_search": False,
        "show_all_applications": False,
        "navigation": "agentsite.admin.navigation.platform_sidebar",
    },
}
