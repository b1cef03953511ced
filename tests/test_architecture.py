"""The import contracts and the ban on connections of pyproject.toml: they hold, cover every app, and each can fail."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from django.apps import apps

from agentsite.embedded.home import CHECKOUT

RUFF = Path(sys.executable).with_name("ruff")
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
CONFIG = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["importlinter"]
ROOMS: list[str] = CONFIG["root_packages"]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(LINT_IMPORTS), "--no-cache"]
    return subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True)


def test_the_contracts_hold() -> None:
    result = lint(CHECKOUT)
    assert result.returncode == 0, result.stdout


def test_every_app_of_ours_is_under_contract() -> None:
    ours = {config.name for config in apps.get_app_configs() if Path(config.path).parent == CHECKOUT}
    assert ours == set(ROOMS)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy")
    for room in ROOMS:
        shutil.copytree(CHECKOUT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__", "static"))
    shutil.copy(CHECKOUT / "pyproject.toml", folder)
    return folder


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("core/errors.py", "import tenants.models", "Apps import only downwards"),
        ("tenants/services/guests.py", "import audit.services", "Apps import only downwards"),
        ("toolsets/services.py", "import llm.services.providers", "Apps import only downwards"),
        ("runs/runner.py", "import agentsite.demo", "Apps import only downwards"),
        ("agents/models.py", "import agents.services", "Inside an app"),
        ("templates_app/selectors.py", "import templates_app.api.views", "Inside an app"),
        ("llm/services/providers.py", "import rest_framework", "Services, selectors and models know no edge"),
        ("audit/selectors.py", "import channels.layers", "Services, selectors and models know no edge"),
    ],
)
def test_a_forbidden_import_breaks_its_contract(copy: Path, file: str, line: str, contract: str) -> None:
    source = (copy / file).read_text()
    (copy / file).write_text(f"{source}\n{line}\n")
    try:
        result = lint(copy)
    finally:
        (copy / file).write_text(source)
    assert result.returncode == 1
    assert [name for name in result.stdout.splitlines() if name.startswith(contract) and name.endswith("BROKEN")]


def connections(*arguments: str, source: str | None = None) -> subprocess.CompletedProcess[str]:
    """What ruff says of modules that can connect to somewhere; no comment in the source excuses one."""
    command = [str(RUFF), "check", "--no-cache", "--ignore-noqa", "--select", "TID251", *arguments]
    return subprocess.run(command, cwd=CHECKOUT, input=source, capture_output=True, text=True)


def test_only_the_guard_and_the_providers_connect_to_somewhere() -> None:
    result = connections(".")
    assert result.returncode == 0, result.stdout


def test_only_toolsets_of_other_protocols_are_excepted_from_the_ban() -> None:
    ignored = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]["per-file-ignores"]
    excepted = {pattern for pattern, rules in ignored.items() if "TID251" in rules}
    ours = {"core/{net,http,fetch}.py", "llm/providers/http.py", "agentsite/demo.py", "agentsite/embedded/**"}
    others = {"toolsets/kinds/database/connection.py", "toolsets/kinds/email/{connection,imap,smtp,reader}.py"}
    sandbox = {"sandbox/pool/uids.py", "sandbox/probe.py"}  # listen, and connect to nothing
    assert excepted == ours | others | sandbox | {"start.py", "tests/**", "bench/**"}


@pytest.mark.parametrize(
    "line",
    [
        "import socket",
        "import aiohttp",
        "from aiohttp import ClientSession",
        "import httpx",
        "import requests as r",
        "import urllib.request",
        "from urllib import request",
        "from urllib.request import urlopen",
        "import http.client",
        "from http import client",
        "import smtplib",
        "import imaplib",
        "import poplib",
        "import ftplib",
        "import xmlrpc.client",
        "import urllib3",
        "import websockets",
        "from mcp.client.streamable_http import streamable_http_client",
        "from asyncio import open_connection",
        "import asyncio\n\n\nasync def dial():\n    await asyncio.open_connection('example.com', 80)",
        "def dial():\n    import socket\n\n    return socket.socket()  # noqa: TID251",
    ],
)
@pytest.mark.parametrize(
    "file",
    [
        "toolsets/kinds/time/clock.py",
        "toolsets/kinds/mcp/conversation.py",
        "runs/runner.py",
        "llm/providers/openai.py",
    ],
)
def test_a_connection_elsewhere_is_found(file: str, line: str) -> None:
    source = (CHECKOUT / file).read_text()
    assert connections("--stdin-filename", file, "-", source=source).returncode == 0
    planted = connections("--stdin-filename", file, "-", source=f"{source}\n{line}\n")
    assert planted.returncode == 1
    assert "core.fetch" in planted.stdout
