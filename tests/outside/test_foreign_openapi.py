"""OpenAPI documents that others wrote: each operation is a tool, and a server that holds requests to the document takes
what it sends.
"""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llm.providers.json_sample import sample
from tests.outside.processes import free_port, running
from tests.outside.site import CHECKOUT
from tests.toolsets.http_api import Http, reachable

__all__ = ["reachable"]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("reachable")]
MODULES = CHECKOUT / "tests" / "js" / "node_modules"
EXAMPLES = MODULES / "@readme" / "oas-examples"
PRISM = MODULES / "@stoplight" / "prism-cli" / "dist" / "index.js"
METHODS = frozenset({"get", "put", "post", "patch", "delete"})


@contextmanager
def prism(node: str, document: Path, log: Path) -> Iterator[str]:
    """Prism answers by the document, and refuses what the document does not allow."""
    port = free_port()
    command = [node, str(PRISM), "mock", "-p", str(port), "-m", "false", str(document)]
    with running(command, log=log, ready=lambda: is_open(port)):
        yield f"http://127.0.0.1:{port}"


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def filled(value: Any) -> Any:
    """No text is empty: the server takes an empty parameter for a missing one."""
    if isinstance(value, dict):
        return {name: filled(item) for name, item in value.items()}
    return "x" if value == "" else value


async def test_a_hundred_operations_of_an_encyclopaedia(node: str, tmp_path: Path) -> None:
    document = EXAMPLES / "3.0" / "json" / "star-trek.json"
    paths = json.loads(document.read_text())["paths"]
    found = [f"{method} {path}" for path, item in paths.items() for method in item if method in METHODS]
    names = sorted(re.sub(r"[^a-zA-Z0-9]+", "_", name).strip("_") for name in found)[:100]
    with prism(node, document, tmp_path / "log") as url:
        api = Http({"document": document.read_text(), "base_url": url, "operations": names})
        assert [tool.name for tool in api.tools] != []
        refused = {}
        for tool in api.tools:
            answer = await api.ask(tool.name, json.dumps(filled(sample(tool.parameters()))))
            if api.results[-1].is_error:
                refused[tool.name] = answer
    assert (refused, len(api.tools)) == ({}, 100)


PET = {"name": "Rex", "photoUrls": ["https://example.com/rex.png"], "status": "available"}
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("findPetsByStatus", {"status": ["available", "sold"]}),
    ("findPetsByTags", {"tags": ["a b", "c&d"]}),
    ("uploadFile", {"petId": 7}),
    ("placeOrder", {"body": {"petId": 7, "quantity": 1, "shipDate": "2026-01-02T03:04:05Z", "status": "placed"}}),
    ("getOrderById", {"orderId": 2}),
    ("createUser", {"body": {"username": "ann", "email": "ann@example.com"}}),
    ("createUsersWithListInput", {"body": [{"username": "ann"}, {"username": "bob"}]}),
    ("loginUser", {"username": "ann", "password": "a/b?c=d&e"}),
    ("getUserByName", {"username": "ann/../bob"}),
]


@pytest.mark.parametrize("version", ["3.0", "3.1"])
async def test_a_shop_with_authentication(node: str, tmp_path: Path, version: str) -> None:
    document = EXAMPLES / version / "json" / "petstore.json"
    with prism(node, document, tmp_path / "log") as url:
        config = {"document": document.read_text(), "base_url": url}
        api = Http({**config, "auth": "bearer"}, "token")
        for name, arguments in CALLS:
            assert (await api.done(name, **arguments))["status"] == 200, name
        assert "'lost' is not one of" in await api.failed("findPetsByStatus", status=["lost"])
        assert "401" in await Http(config).failed("uploadFile", petId=7)  # the server does look
        by_key = Http({**config, "auth": "header", "auth_name": "api_key"}, "key")
        assert (await by_key.done("getPetById", petId=7))["status"] == 200
        assert (await by_key.done("getInventory"))["status"] == 200
