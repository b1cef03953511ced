"""Toolset kinds of other packages, installed as an operator would and found by a server at its start."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.outside.site import CHECKOUT, Server, Site, serving

pytestmark = pytest.mark.slow
EXAMPLE = CHECKOUT / "examples" / "agentsite-seal-toolset"
PROJECT = """
[build-system]
requires = ["uv_build>=0.9,<1"]
build-backend = "uv_build"

[project]
name = "{name}"
version = "0.1.0"

[project.entry-points."agentsite.toolsets"]
{name} = "{module}"

[tool.uv.build-backend]
module-root = ""
"""
BAD_CLASS = """
from toolsets.base import ToolsetKind


class Bad(ToolsetKind):
    slug = "No slug!"
    title = "Bad"

    def tools(self, config):
        return []
"""
BROKEN = {
    "broken-import": "import no_such_module\n",
    "bad-class": BAD_CLASS,
    "no-kind": "value = 1\n",
}
SEALS = {"slug": "seals", "name": "Seals", "kind": "seal", "config": {"length": 32}, "secrets": {"key": "open sesame"}}


def install(folder: Path, project: Path) -> None:
    """Without a network: uv builds by itself."""
    command = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--offline", "--no-deps", "--no-cache"]
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    arguments = ["--python", sys.executable, "--target", str(folder), str(project)]
    done = subprocess.run([*command, *arguments], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def server(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One with the example and three packages that cannot be used."""
    folder, projects = tmp_path_factory.mktemp("installed"), tmp_path_factory.mktemp("projects")
    install(folder, EXAMPLE)
    for name, source in BROKEN.items():
        module = name.replace("-", "_")
        (projects / name / module).mkdir(parents=True)
        (projects / name / "pyproject.toml").write_text(PROJECT.format(name=name, module=module))
        (projects / name / module / "__init__.py").write_text(source)
        install(folder, projects / name)
    with serving(Site(site.home, {**site.env, "PYTHONPATH": str(folder)})) as server:
        yield server


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture
def seals(http: httpx.Client) -> Iterator[str]:
    http.post("toolsets", json=SEALS).raise_for_status()
    yield "seals"
    http.delete("agents/sealer")  # where a test made it
    http.delete("toolsets/seals").raise_for_status()


def invoke(http: httpx.Client, tool: str, **arguments: Any) -> str:
    called = http.post(f"toolsets/seals/tools/{tool}/invoke", json={"arguments": arguments}).raise_for_status().json()
    assert not called["is_error"], called
    return str(called["content"])


def test_the_example_is_listed_and_its_configs_are_checked(http: httpx.Client) -> None:
    kinds = {kind["kind"]: kind for kind in http.get("toolsets/kinds").json()["data"]}
    assert {"time", "http"} <= kinds.keys()
    assert (kinds["seal"]["title"], kinds["seal"]["secrets"]) == ("Seals (an example)", {"key": "Key"})
    assert kinds["seal"]["config_schema"]["properties"]["length"]["maximum"] == 64
    wrong = http.post("toolsets", json={**SEALS, "config": {"length": 7}, "secrets": {"kee": "x"}}).json()["error"]
    assert {fault["path"] for fault in wrong["details"]} == {"config.length", "secrets.kee"}


def test_the_tools_of_the_example_work(http: httpx.Client, seals: str) -> None:
    assert [tool["name"] for tool in http.get("toolsets/seals/tools").json()["data"]] == ["check_seal", "seal"]
    seal = invoke(http, "seal", text="Hello")
    assert len(seal) == 32
    assert json.loads(invoke(http, "check_seal", text="Hello", seal=seal)) == {"unchanged": True}
    assert json.loads(invoke(http, "check_seal", text="Hello!", seal=seal)) == {"unchanged": False}
    http.patch("toolsets/seals", json={"secrets": {"key": None}}).raise_for_status()
    called = http.post("toolsets/seals/tools/seal/invoke", json={"arguments": {"text": "Hello"}}).json()
    assert (called["is_error"], called["content"]) == (True, "The toolset has no key: give it the secret 'key'.")


def test_an_agent_uses_the_example(http: httpx.Client, seals: str) -> None:
    agent = {"slug": "sealer", "name": "Sealer", "template": "conversation", "model": "scripted/default"}
    http.post("agents", json={**agent, "toolsets": ["seals"]}).raise_for_status()
    script = "#script " + json.dumps([{"tool": "seal", "args": {"text": "Hello"}}, {"say": "sealed"}])
    body = {"model": "sealer", "messages": [{"role": "user", "content": script}]}
    answer = http.post("chat/completions", json=body).raise_for_status().json()
    session = answer["metadata"]["session_id"]
    messages = http.get(f"sessions/{session}/messages").json()["data"]
    assert [message["content"] for message in messages][2:] == [invoke(http, "seal", text="Hello"), "sealed"]


def test_what_cannot_be_used_is_told_and_hides_no_other(server: Server, http: httpx.Client) -> None:
    ready = http.get("health/ready").json()
    (toolsets,) = [each for each in ready["components"] if each["name"] == "toolsets"]
    assert (ready["status"], toolsets["status"]) == ("degraded", "degraded")
    assert all(name in toolsets["detail"] for name in BROKEN)
    log = server.log.read_text()
    assert "No module named 'no_such_module'" in log
    assert "slug must be 1 to 32 of a-z, 0-9, '-' and '_'." in log
    assert "It defines no ToolsetKind." in log
