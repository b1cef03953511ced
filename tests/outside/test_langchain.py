"""LangChain's standard suite passes through the platform as it passes with the provider alone."""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from tests.outside.site import CHECKOUT, Server

SUITE = Path(__file__).with_name("lc_standard.py")
LOOPS = "asyncio_default_test_loop_scope=session", "asyncio_default_fixture_loop_scope=session"
PASSES = 43  # with the mock provider alone, too


def run_suite(base_url: str, api_key: str, model: str, report: Path) -> dict[str, str]:
    """The outcome of each test: passed, skipped, failed or error."""
    options = [option for value in ("asyncio_mode=auto", *LOOPS) for option in ("-o", value)]
    alone = ["--noconftest", "-c", os.devnull, "--rootdir", str(CHECKOUT), "-p", "no:cacheprovider", "-p", "no:django"]
    command = [sys.executable, "-m", "pytest", "-q", *alone, *options, f"--junit-xml={report}", str(SUITE)]
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    env = {**kept, "BASE_URL": base_url, "API_KEY": api_key, "MODEL": model, "NO_PROXY": "127.0.0.1"}
    result = subprocess.run(command, env=env, cwd=report.parent, capture_output=True, text=True, timeout=110)
    assert report.exists(), result.stdout + result.stderr
    return {case.get("name", ""): _outcome(case) for case in ElementTree.parse(report).iter("testcase")}


def _outcome(case: ElementTree.Element) -> str:
    marks = {"failure": "failed", "error": "error", "skipped": "skipped"}
    kind, text = next(((marks[child.tag], child.text) for child in case if child.tag in marks), ("passed", None))
    return f"failed: {text}" if kind in ("failed", "error") else kind


def test_langchains_standard_suite(uvicorn: Server, mock_model: str, tmp_path: Path) -> None:
    outcomes = run_suite(uvicorn.api, uvicorn.site.key("acme"), mock_model, tmp_path / "report.xml")
    faults = [outcome for outcome in outcomes.values() if outcome.startswith("failed")]
    assert not faults, "\n\n".join(faults)
    assert list(outcomes.values()).count("passed") == PASSES
