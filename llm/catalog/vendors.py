"""Whose models a provider row gives access to, in the words of the catalog and of genai-prices."""

from urllib.parse import urlsplit

from llm.providers import provider_kind

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
KINDS = {"anthropic", "google", "mistral", "cohere", "huggingface"}  # each speaks to one vendor, through a proxy too


def vendor_of(kind: str, base_url: str = "") -> str:
    """The vendor by the address, which is the kind's own when none is given; "" for one that the catalog lacks."""
    installed = provider_kind(kind)
    host = _host(base_url or (installed.default_base_url if installed else ""))
    if host.endswith(AZURE):
        return "azure"
    return HOSTS.get(host) or (kind if kind in KINDS else "")


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # the row's own validation speaks of it
        return ""
