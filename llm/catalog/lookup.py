"""The catalog of known models that is shipped in `models.json`; `manage.py catalog_update` makes it anew."""

import re
from datetime import date
from functools import cache
from pathlib import Path

import msgspec

from llm.catalog.matrix import Capabilities

FILE = Path(__file__).with_name("models.json")
SAME_MODELS = {"azure": "openai"}  # whose models a vendor sells under the same names
WITH_VARIANTS = frozenset({"openrouter", "huggingface"})  # `model:free`, `model:fastest`
# What follows a model's name in the names of its versions: -2024-08-06, -20251001, @20251001, -2512, -001, -08-2024,
# -preview-09-2025, -latest
VERSION = re.compile(
    r"(-preview)?[-@](\d{4}-\d{2}-\d{2}|\d{8}|\d{4}|\d{3}|\d{2}-\d{4}|latest|default)(-preview)?$|-preview$"
)


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """`released` as the vendor says it, to the day or the month; "" where nobody does."""

    title: str
    released: str = ""
    deprecated: bool = False
    known: Capabilities = Capabilities()


class Catalog(msgspec.Struct, frozen=True):
    """`as_of` is the day of the data, and `sources` are the packages that it was read from."""

    as_of: date
    sources: list[str]
    attribution: list[str]
    vendors: dict[str, dict[str, Entry]]


# Made here: msgspec crashes where two threads are the first to decode a type.
_decode = msgspec.json.Decoder(Catalog).decode


@cache
def catalog() -> Catalog:
    return _decode(FILE.read_bytes())


@cache
def _by_name(vendor: str) -> dict[str, Entry]:
    """The models by the name without a version: of several versions the undated one, else the newest."""
    found = catalog().vendors.get(vendor, {})
    oldest_first = sorted(found.items(), key=lambda item: (unversioned(item[0]) == item[0], item[1].released))
    return {unversioned(model): entry for model, entry in oldest_first}


def catalog_entry(vendor: str, model: str) -> Entry | None:
    """By the exact name, else by the name without its version or variant: `gpt-4o-2024-08-06` is a gpt-4o."""
    vendor = SAME_MODELS.get(vendor, vendor)
    found = catalog().vendors.get(vendor, {})
    model = _plain(vendor, model)
    if model in found:
        return found[model]
    if vendor in WITH_VARIANTS:
        model = model.partition(":")[0]
    return found.get(model) or _by_name(vendor).get(unversioned(model))


def unversioned(model: str) -> str:
    return VERSION.sub("", model)


def _plain(vendor: str, model: str) -> str:
    """Without what stands before the name: Google's `models/`, OpenAI's `ft:…:organization::id` around it."""
    if vendor == "google":
        return model.removeprefix("models/")
    if vendor == "openai" and model.startswith("ft:"):
        return model.split(":")[1]
    return model
