"""Makes the catalog from what packages ship: LangChain's model profiles (data of models.dev) and genai-prices.

The packages are read, not imported: they need not be able to run here.
"""

import ast
import tomllib
from collections.abc import Iterator
from datetime import date
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

from llm.catalog.lookup import Catalog, Entry
from llm.catalog.matrix import Capabilities

PACKAGES = {
    "openai": "langchain_openai",
    "anthropic": "langchain_anthropic",
    "google": "langchain_google_genai",
    "mistral": "langchain_mistralai",
    "groq": "langchain_groq",
    "deepseek": "langchain_deepseek",
    "x-ai": "langchain_xai",
    "perplexity": "langchain_perplexity",
    "fireworks": "langchain_fireworks",
    "huggingface": "langchain_huggingface",
    "openrouter": "langchain_openrouter",
}
WITHOUT_PROFILES = ("cohere", "together")  # of these genai-prices knows at least names and context windows
# Field of the matrix → of a profile.
FEATURES = {
    "tools": "tool_calling",
    "json_schema": "structured_output",
    "vision": "image_inputs",
    "audio": "audio_inputs",
    "documents": "pdf_inputs",
    "reasoning": "reasoning_output",
}
# No profile says this. The vendors' own references do: of OpenAI's all but the o-series take `parallel_tool_calls`.
PARALLEL_TOOLS = frozenset({"openai", "anthropic", "google", "mistral", "x-ai"})
O_SERIES = ("o1", "o3", "o4")
ATTRIBUTION = [
    "Capabilities and limits: models.dev (https://github.com/sst/models.dev, MIT License), by way of the model "
    "profiles in LangChain's provider packages (MIT License, Copyright LangChain, Inc.).",
    "Missing limits, and all prices: genai-prices (https://github.com/pydantic/genai-prices, MIT License, Copyright "
    "Pydantic Services Inc.).",
]


def make_catalog(folder: Path, today: date) -> Catalog:
    """From the packages that were installed into `folder`; raises FileNotFoundError where one is missing."""
    vendors = {vendor: dict(_profiled(vendor, folder / package)) for vendor, package in PACKAGES.items()}
    vendors |= {vendor: dict(_priced(vendor)) for vendor in WITHOUT_PROFILES}
    return Catalog(today, _sources(folder), ATTRIBUTION, vendors)


def _sources(folder: Path) -> list[str]:
    found = {item.name.replace("-", "_"): item.version for item in distributions(path=[str(folder)])}
    packages = [f"{package.replace('_', '-')} {found[package]}" for package in PACKAGES.values()]
    return [*packages, f"genai-prices {version('genai-prices')}"]


def _profiled(vendor: str, package: Path) -> Iterator[tuple[str, Entry]]:
    additions = package / "data" / "profile_augmentations.toml"
    assumed = tomllib.loads(additions.read_text()).get("overrides", {}) if additions.exists() else {}
    for model, profile in sorted(_read_profiles(package / "data" / "_profiles.py").items()):
        if _answers_in_text(profile):
            entry = Entry(
                title=profile.get("name") or model,
                released=profile.get("release_date") or "",
                deprecated=profile.get("status") == "deprecated",
                known=_known(vendor, model, profile, assumed),
            )
            yield model, entry


def _read_profiles(path: Path) -> dict[str, dict[str, Any]]:
    tree = ast.parse(path.read_text())
    values = [node.value for node in tree.body if isinstance(node, ast.AnnAssign) and node.value is not None]
    found: dict[str, dict[str, Any]] = ast.literal_eval(values[0])
    return found


def _answers_in_text(profile: dict[str, Any]) -> bool:
    """Leaves out what draws, speaks or embeds, and what the package's authors only assume things about."""
    longest = profile.get("max_output_tokens") or 0
    return bool(profile.get("text_outputs")) and longest > 1 and "embed" not in (profile.get("name") or "").lower()


def _known(vendor: str, model: str, profile: dict[str, Any], assumed: dict[str, Any]) -> Capabilities:
    facts = {field: profile.get(key) for field, key in FEATURES.items()}
    for field, key in FEATURES.items():
        if facts[field] is False and assumed.get(key) is False:  # assumed of every model of the package
            facts[field] = None
    if facts["documents"] and not facts["vision"]:  # the same, the other way round: pages are read as images
        facts["documents"] = None
    facts["parallel_tools"] = _parallel(vendor, model, facts["tools"])
    given, taken = profile.get("max_input_tokens") or None, profile.get("max_output_tokens") or None
    return Capabilities(context_tokens=given or _context(vendor, model), output_tokens=taken, **facts)


def _parallel(vendor: str, model: str, tools: bool | None) -> bool | None:
    if not tools:
        return tools
    return not model.startswith(O_SERIES) if vendor == "openai" else True if vendor in PARALLEL_TOOLS else None


def _context(vendor: str, model: str) -> int | None:
    found = next((found for found in _provider(vendor).models if found.is_match(model)), None)
    return found.context_window if found else None


def _priced(vendor: str) -> Iterator[tuple[str, Entry]]:
    for model in sorted(_provider(vendor).models, key=lambda model: model.id):
        if model.context_window:
            known = Capabilities(context_tokens=model.context_window)
            yield model.id, Entry(model.name or model.id, deprecated=bool(model.deprecated), known=known)


def _provider(vendor: str) -> Any:
    from genai_prices.data_snapshot import get_snapshot

    return next(provider for provider in get_snapshot().providers if provider.id == vendor)
