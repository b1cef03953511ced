"""The tools that Agentsite's own schema gives, called against a server of it."""

import json
import time
from typing import Any

import httpx
import pytest

from tests.outside.fleet import fleet
from tests.outside.site import Server, Site
from tests.toolsets.http_api import Http, reachable
from toolsets.kinds.http.operations import MAX_OPERATIONS

__all__ = ["reachable"]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("reachable")]


@pytest.fixture
def schema(uvicorn: Server) -> str:
    return httpx.get(f"{uvicorn.api}/openapi.json", follow_redirects=True, trust_env=False).text


def config_of(uvicorn: Server, schema: str) -> dict[str, Any]:
    """It has more operations than a toolset may have tools."""
    paths = json.loads(schema)["paths"].values()
    ids = sorted(operation["operationId"] for path in paths for operation in path.values())
    return {"document": schema, "base_url": uvicorn.base_url, "operations": ids[:MAX_OPERATIONS]}


@pytest.fixture
def tools(uvicorn: Server, schema: str) -> Http:
    return Http({**config_of(uvicorn, schema), "auth": "bearer"}, uvicorn.site.key("acme"))


async def test_as_many_operations_as_may_be_are_tools(tools: Http) -> None:
    names = [tool.name for tool in tools.tools]
    assert len(names) == len(set(names)) == MAX_OPERATIONS
    assert {"agents_list", "agents_create", "agents_delete"} <= set(names)
    assert '"$ref": ' not in json.dumps(tools.definitions)


async def test_an_object_is_made_read_changed_and_deleted(tools: Http) -> None:
    body = {"slug": "by-tool", "name": "By tool", "template": "simple", "model": "scripted/default"}
    made = await tools.done("agents_create", body=body)
    assert (made["status"], made["json"]["slug"]) == (201, "by-tool")
    changed = await tools.done("agents_update", ref=made["json"]["id"], body={"name": "Changed"})
    assert changed["json"]["name"] == "Changed"
    listed = await tools.done("agents_list", limit=100)
    assert "Changed" in [agent["name"] for agent in listed["json"]["data"]]
    assert await tools.done("agents_delete", ref="by-tool") == {"status": 204}
    assert "agent_not_found" in await tools.failed("agents_get", ref="by-tool")


async def test_who_has_no_key_is_told_so(uvicorn: Server, schema: str) -> None:
    stranger = Http(config_of(uvicorn, schema))
    assert "The server answered 401" in await stranger.failed("agents_list")


def test_the_worker_fetches_a_document_and_agents_have_its_tools(site: Site) -> None:
    """The site is both: the API that has the document, and the one that learns its tools."""
    open_site = Site(site.home, {**site.env, "ALLOW_PRIVATE_TOOLS": "true"})
    with fleet(open_site, servers=1) as running, running.servers[0].client() as client:
        server = running.servers[0]
        config = {"document_url": f"{server.api}/openapi.json", "base_url": server.base_url, "auth": "bearer"}
        body = {"slug": "itself", "name": "Itself", "kind": "http", "config": {**config, "operations": ["agents_list"]}}
        made = client.post("/toolsets", json={**body, "secrets": {"token": site.key("acme")}})
        assert (made.status_code, made.json()["learned_at"]) == (201, None), made.text
        try:
            assert _learned(client, running)["learn_error"] == ""
            called = client.post("/toolsets/itself/tools/agents_list/invoke", json={}).json()
            assert "assistant" in called["content"], called
            again = client.post("/toolsets/itself/refresh").json()
            assert (again["tools"], again["learn_error"]) == (["agents_list"], "")
        finally:
            assert client.delete("/toolsets/itself").status_code == 204


def _learned(client: httpx.Client, running: Any) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while not (found := client.get("/toolsets/itself").json())["learned_at"]:
        assert time.monotonic() < deadline, f"{found} {running.logs()[-4000:]}"
        time.sleep(0.1)
    return dict(found)
