"""The shipped catalog: what it finds under which name, whose model that is, and the page made of it."""

import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from llm.catalog import lookup
from llm.catalog.lookup import catalog, catalog_entry
from llm.catalog.prices import list_price
from llm.catalog.profiles import PACKAGES
from llm.catalog.vendors import vendor_of
from llm.management.commands import model_matrix
from tests.outside.site import CHECKOUT


@pytest.mark.parametrize(
    ("kind", "base_url", "vendor"),
    [
        ("openai", "", "openai"),
        ("openai", "https://api.openai.com/v1", "openai"),
        ("openai", "https://api.groq.com/openai/v1", "groq"),
        ("openai", "https://api.deepseek.com", "deepseek"),
        ("openai", "https://openrouter.ai/api/v1", "openrouter"),
        ("openai", "https://acme.openai.azure.com/openai/v1", "azure"),
        ("openai", "https://api.openai.com.example.com/v1", ""),
        ("openai", "http://127.0.0.1:11434/v1", ""),
        ("openai", "http://[", ""),
        ("anthropic", "", "anthropic"),
        ("anthropic", "https://proxy.example.com", "anthropic"),
        ("scripted", "", "free"),
        ("gone", "", ""),
    ],
)
def test_the_vendor_follows_from_the_kind_and_the_address(kind: str, base_url: str, vendor: str) -> None:
    assert vendor_of(kind, base_url) == vendor


@pytest.mark.parametrize(
    ("vendor", "model", "title"),
    [
        ("openai", "gpt-4o", "GPT-4o"),
        ("openai", "gpt-4o-2024-08-06", "GPT-4o (2024-08-06)"),
        ("openai", "gpt-4o-2031-01-31", "GPT-4o"),
        ("openai", "gpt-4.1-mini-2025-04-14", "GPT-4.1 mini"),
        ("openai", "ft:gpt-4.1-mini-2025-04-14:acme::abc", "GPT-4.1 mini"),
        ("azure", "gpt-4o", "GPT-4o"),
        ("anthropic", "claude-sonnet-4-5-20991231", "Claude Sonnet 4.5 (latest)"),
        ("google", "models/gemini-2.5-flash", "Gemini 2.5 Flash"),
        ("google", "gemini-2.5-flash-001", "Gemini 2.5 Flash"),
        ("google", "gemini-2.5-flash-preview-09-2025", "Gemini 2.5 Flash"),
        ("openrouter", "openai/gpt-4o:nitro", "GPT-4o"),
    ],
)
def test_a_version_finds_its_model(vendor: str, model: str, title: str) -> None:
    entry = catalog_entry(vendor, model)
    assert entry is not None
    assert entry.title == title


@pytest.mark.parametrize(
    ("vendor", "model"),
    [("openai", "gpt-4o-audio-preview"), ("openai", "gpt-4"[:3]), ("openai", "ft:"), ("openai", ""), ("", "gpt-4o")],
)
def test_another_model_of_a_similar_name_is_not_known(vendor: str, model: str) -> None:
    assert catalog_entry(vendor, model) is None


def test_of_several_versions_an_unknown_one_is_taken_for_the_newest() -> None:
    versions = [name for name in catalog().vendors["mistral"] if name.startswith("mistral-medium-2")]
    newest = catalog().vendors["mistral"][max(versions)]
    found = catalog_entry("mistral", "mistral-medium-2999")
    assert found is not None
    assert found.released == newest.released
    assert catalog_entry("mistral", min(versions)) == catalog().vendors["mistral"][min(versions)]


def test_what_is_known_of_a_model() -> None:
    entry = catalog_entry("openai", "gpt-4o")
    assert entry is not None
    known = entry.known
    assert (known.tools, known.parallel_tools, known.json_schema, known.vision) == (True, True, True, True)
    assert (known.audio, known.reasoning) == (False, False)
    assert (known.context_tokens, known.output_tokens) == (128_000, 16_384)
    with pytest.raises(AttributeError):
        known.tools = False  # type: ignore[misc]


def test_what_a_package_only_assumes_of_all_its_models_is_not_known() -> None:
    """LangChain assumes of Claude models that they have no structured output, where nobody has said more."""
    dated = catalog_entry("anthropic", "claude-haiku-4-5-20251001")
    assert dated is not None
    assert dated.known.json_schema is None


def test_prices_have_a_date() -> None:
    assert list_price("openai", "gpt-4o") == (Decimal("2.5"), Decimal(10))
    assert list_price("openai", "gpt-4o-2024-08-06") == (Decimal("2.5"), Decimal(10))
    assert list_price("google", "gemini-2.5-pro") == (Decimal("1.25"), Decimal(10))  # the lower of two tiers
    before, after = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    assert list_price("openai", "o3", before) != list_price("openai", "o3", after)
    for vendor, model in (("", "gpt-4o"), ("openai", "none"), ("nobody", "gpt-4o"), ("openai", "")):
        assert list_price(vendor, model) is None


def test_the_package_of_prices_is_not_imported() -> None:
    """It would take as much memory as the rest of the server."""
    code = (
        "import django, sys; django.setup(); from llm.catalog.prices import list_price; "
        "assert list_price('openai', 'gpt-4o'); assert 'genai_prices' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=True, timeout=60)


def test_the_page_is_made_from_the_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When this fails, docs/models.md is stale: run manage.py model_matrix."""
    call_command("model_matrix", check=True)
    page = model_matrix.PAGE.read_text()
    assert "| `gpt-4o` | ✓ | ✓ | ✓ | ✓ | – | ✓ | – | 128,000 | 16,384 | 2.5 | 10 |" in page
    assert "models.dev" in page
    monkeypatch.setattr(model_matrix, "PAGE", tmp_path / "models.md")
    with pytest.raises(CommandError, match="stale"):
        call_command("model_matrix", check=True)
    call_command("model_matrix")
    assert (tmp_path / "models.md").read_text() == page


PROFILES = '''"""Profiles."""
from typing import Any
_PROFILES: dict[str, dict[str, Any]] = {
    "talker-1": {"name": "Talker", "release_date": "2026-01-02", "max_input_tokens": 1000, "max_output_tokens": 100,
        "text_outputs": True, "tool_calling": True, "structured_output": False, "image_inputs": False,
        "pdf_inputs": True, "reasoning_output": True},
    "painter-1": {"name": "Painter", "max_output_tokens": 100, "text_outputs": False},
    "embed-1": {"name": "Some Embedding", "max_output_tokens": 100, "text_outputs": True},
    "hearsay-1": {"structured_output": False},
}
'''


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """What pip would install: every package with the same few profiles."""
    for package in PACKAGES.values():
        data = tmp_path / package / "data"
        data.mkdir(parents=True)
        (data / "_profiles.py").write_text(PROFILES)
        info = tmp_path / f"{package}-1.2.3.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package.replace('_', '-')}\nVersion: 1.2.3\n")
    assumed = "[overrides]\nstructured_output = false\n"
    (tmp_path / "langchain_anthropic" / "data" / "profile_augmentations.toml").write_text(assumed)
    return tmp_path


def test_the_catalog_is_made_from_installed_packages(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "FILE", packages / "models.json")
    call_command("catalog_update", packages)
    lookup.catalog.cache_clear()
    try:
        made = catalog()
    finally:
        lookup.catalog.cache_clear()
    assert "langchain-openai 1.2.3" in made.sources
    assert made.as_of >= date(2026, 1, 1)
    assert list(made.vendors["openai"]) == list(made.vendors["anthropic"]) == ["talker-1"]
    known = made.vendors["openai"]["talker-1"].known
    assert (known.tools, known.parallel_tools, known.json_schema, known.vision) == (True, True, False, False)
    assert (known.documents, known.audio, known.context_tokens, known.output_tokens) == (None, None, 1000, 100)
    assert made.vendors["anthropic"]["talker-1"].known.json_schema is None
    assert made.vendors["groq"]["talker-1"].known.parallel_tools is None


def test_a_missing_package_is_named_and_nothing_is_written(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "FILE", packages / "models.json")
    (packages / "langchain_groq" / "data" / "_profiles.py").unlink()
    with pytest.raises(CommandError, match="langchain_groq"):
        call_command("catalog_update", packages)
    assert not lookup.FILE.exists()
