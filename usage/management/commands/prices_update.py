"""Write the list prices that we ship anew, from the installed package `genai-prices`."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from usage.list_prices import DATA, KINDS_OF_TOKENS


class Command(BaseCommand):
    help = "Write usage/data/prices.json from the installed genai-prices (pip install --upgrade genai-prices)."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            from genai_prices import __version__
            from genai_prices.data import providers
        except ImportError:
            raise CommandError("Install the package first: pip install genai-prices") from None
        vendors = {provider.id: _vendor(provider) for provider in providers}
        text = json.dumps({"version": __version__, "vendors": vendors}, separators=(",", ":"), ensure_ascii=False)
        DATA.write_text(text.replace('{"id":', '\n{"id":') + "\n")
        models = sum(len(vendor["models"]) for vendor in vendors.values())
        self.stdout.write(f"Prices of {models} models of {len(vendors)} vendors, genai-prices {__version__}.")


def _vendor(provider: Any) -> dict[str, Any]:
    models = [_model(model) for model in provider.models]
    return {
        "api": provider.api_pattern,
        "falls_back_to": provider.fallback_model_providers or [],
        "models": [model for model in models if model["prices"]],
    }


def _model(model: Any) -> dict[str, Any]:
    listed = model.prices if isinstance(model.prices, list) else [None]
    prices = [
        _price(model.prices, None) if entry is None else _price(entry.prices, entry.constraint) for entry in listed
    ]
    return {"id": model.id, "match": _clause(model.match), "prices": [price for price in prices if price]}


def _clause(clause: Any) -> dict[str, Any]:
    (name, value), *_ = vars(clause).items()
    name = name.rstrip("_")
    return {name: [_clause(part) for part in value] if isinstance(value, list) else value}


def _price(price: Any, constraint: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, key in KINDS_OF_TOKENS.items():
        value = vars(price).get(key)
        if value is None:
            continue
        tiers = [[tier.start, str(tier.price)] for tier in getattr(value, "tiers", ())]
        found[name] = [str(getattr(value, "base", value)), *tiers]
    if found and constraint is not None:
        found |= {name: str(value) for name, value in vars(constraint).items()}
    return found
