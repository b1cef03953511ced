"""docs/models.md: the shipped catalog as tables."""

from collections.abc import Iterator
from datetime import UTC, datetime, time

from llm.catalog.lookup import Catalog, Entry, catalog, unversioned
from llm.catalog.matrix import FEATURES
from llm.catalog.prices import list_price

TITLES = {
    "openai": "OpenAI",
    "anthropic": "Anthropic",
    "google": "Google",
    "mistral": "Mistral",
    "deepseek": "DeepSeek",
    "x-ai": "xAI",
    "groq": "Groq",
}
NEWEST = 40  # models of a vendor that the page shows
COLUMNS = (
    "model",
    "tools",
    "parallel",
    "schema",
    "vision",
    "audio",
    "PDF",
    "reasons",
    "context",
    "output",
    "$ in",
    "$ out",
)
HEAD = """# Models

What the shipped catalog knows of the current models of each vendor. `manage.py model_matrix` writes this page.

A ✓ means that a model can, a – that it cannot, and an empty cell that it is not known. *schema* is an answer by a JSON
schema, *PDF* documents as input. Context is the most tokens that go in, output the longest answer in tokens; prices are
list prices in USD for a million tokens, the lowest where they depend on the length.

A tenant corrects what is wrong for its own models: [Models of a provider](operators.md#models-of-a-provider). What is
known decides what is refused before a provider is asked (`unsupported_by_model`) and what agents are warned of.
"""


def matrix_page() -> str:
    found = catalog()
    parts = [HEAD, *(_section(found, vendor, title) for vendor, title in TITLES.items()), _foot(found)]
    return "\n".join(parts)


def _section(found: Catalog, vendor: str, title: str) -> str:
    rows = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    rows += [_row(found, vendor, model, entry) for model, entry in _current(found.vendors[vendor])]
    return f"## {title}\n\n" + "\n".join(rows) + "\n"


def _current(models: dict[str, Entry]) -> list[tuple[str, Entry]]:
    """The newest that are not deprecated, without the dated versions of a model that is there without a date."""
    shown = [
        (model, entry)
        for model, entry in models.items()
        if not entry.deprecated and (unversioned(model) == model or unversioned(model) not in models)
    ]
    newest = sorted(shown, key=lambda item: item[1].released, reverse=True)[:NEWEST]
    return sorted(newest)


def _row(found: Catalog, vendor: str, model: str, entry: Entry) -> str:
    known = entry.known
    features = [{True: "✓", False: "–", None: ""}[getattr(known, name)] for name in FEATURES]
    limits = [f"{limit:,}" if limit else "" for limit in (known.context_tokens, known.output_tokens)]
    price = list_price(vendor, model, datetime.combine(found.as_of, time(12), UTC))
    return "| " + " | ".join([f"`{model}`", *features, *limits, *_prices(price)]) + " |"


def _prices(price: tuple[object, object] | None) -> Iterator[str]:
    yield from (f"{amount:f}" for amount in price) if price else ("", "")


def _foot(found: Catalog) -> str:
    others = {vendor: len(models) for vendor, models in found.vendors.items() if vendor not in TITLES}
    listed = ", ".join(f"{vendor} {count}" for vendor, count in sorted(others.items()))
    sources = "\n".join(f"- {line}" for line in found.attribution)
    return f"""## Not shown here

Older models of these vendors, and the models of others: {listed}.

## Sources

Data of {found.as_of:%Y-%m-%d}, from {", ".join(found.sources)}.

{sources}
"""
