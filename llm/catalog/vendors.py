"""Whose models a provider row gives access to, in the words of the catalog and of `usage.list_prices`."""

from urllib.parse import urlsplit

from llm.providers import provider_kind
from usage.list_prices import vendor_of_url

HOSTS = {
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "google",
    "api.mistral.ai": "mistral",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.groq.com": "groq",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "x-ai",
    "api.perplexity.ai": "perplexity",
    "api.fireworks.ai": "fireworks",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "openrouter.ai": "openrouter",
    "router.huggingface.co": "huggingface",
}
AZURE = (".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com")


def vendor_of(kind: str, base_url: str = "") -> str:
    """The kind's own, else that of the address; "" for one that neither the catalog nor a price list knows."""
    installed = provider_kind(kind)
    if installed is not None and installed.vendor:
        return installed.vendor
    url = base_url or (installed.default_base_url if installed else "")
    host = _host(url)
    if host.endswith(AZURE):
        return "azure"
    return HOSTS.get(host) or vendor_of_url(url)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # the row's own validation speaks of it
        return ""
