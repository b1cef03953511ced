"""LangChain's standard suite passes through the platform, with each kind behind it, as with the provider alone."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.outside.site import CHECKOUT, Server

SUITE = Path(__file__).with_name("lc_standard.py")
LOOPS = "asyncio_default_test_loop_scope=session", "asyncio_default_fixture_loop_scope=session"
PASSES = 43  # with the mock provider alone, too


def run_suite(base_url: str, api_key: str, models: list[str], report: Path) -> dict[tuple[str, str], str]:
    """The outcome of each test of each model: passed, skipped, failed or error."""
    options = [option for value in ("asyncio_mode=auto", *LOOPS) for option in ("-o", value)]
    alone = ["--noconftest", "-c", os.devnull, "--rootdir", str(CHECKOUT), "-p", "no:cacheprovider", "-p", "no:django"]
    command = [sys.executable, "-m", "pytest", "-q", *alone, *options, f"--junit-xml={report}", str(SUITE)]
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    env = {**kept, "BASE_URL": base_url, "API_KEY": api_key, "MODELS": " ".join(models), "NO_PROXY": "127.0.0.1"}
    result = subprocess.run(command, env=env, cwd=report.parent, capture_output=True, text=True, timeout=110)
    assert report.exists(), result.stdout + result.stderr
    cases = ElementTree.parse(report).iter("testcase")
    return {(_model(case, models), case.get("name", "")): _outcome(case) for case in cases}


def _model(case: ElementTree.Element, models: list[str]) -> str:
    return models[int(case.get("classname", "").rpartition("TestChat")[2])]


def _outcome(case: ElementTree.Element) -> str:
    marks = {"failure": "failed", "error": "error", "skipped": "skipped"}
    kind, text = next(((marks[child.tag], child.text) for child in case if child.tag in marks), ("passed", None))
    return f"failed: {text}" if kind in ("failed", "error") else kind


@pytest.mark.parametrize("slugs", [("openai", "anthropic", "google", "cohere"), ("mistral", "huggingface", "ollama")])
def test_langchains_standard_suite(
    uvicorn: Server, kinds: dict[str, str], tmp_path: Path, slugs: tuple[str, ...]
) -> None:
    models = [kinds[slug] for slug in slugs]
    outcomes = run_suite(uvicorn.api, uvicorn.site.key("acme"), models, tmp_path / "report.xml")
    faults = [f"{case}: {outcome}" for case, outcome in outcomes.items() if outcome.startswith("failed")]
    assert not faults, "\n\n".join(faults)
    passed = Counter(model for (model, _), outcome in outcomes.items() if outcome == "passed")
    assert passed == dict.fromkeys(models, PASSES)
