import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.llm.upstream import Upstream, running_upstream
from tests.outside.kinds import KINDS
from tests.outside.processes import free_port, running
from tests.outside.site import CHECKOUT, Server, Site, new_database, new_site, serving

JAVASCRIPT = CHECKOUT / "tests" / "js"
FIXTURES = Path(__file__).with_name("provider-fixtures.json")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here starts servers."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def node() -> str:
    found = shutil.which("node")
    if found is None or not (JAVASCRIPT / "node_modules").is_dir():
        pytest.fail("Install Node.js 20 or newer, then run `npm ci` in tests/js (start.py test does it).")
    return found


@pytest.fixture(scope="session")
def aimock(node: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a mock provider that answers by `provider-fixtures.json`."""
    with mock_provider(node, FIXTURES, tmp_path_factory.mktemp("aimock")) as base_url:
        yield base_url


@contextmanager
def mock_provider(node: str, fixtures: Path, folder: Path) -> Iterator[str]:
    """The base URL of an aimock with these fixtures; its log goes into the folder."""
    port = free_port()
    program = JAVASCRIPT / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"
    command = [node, str(program), "-p", str(port), "-f", str(fixtures)]
    env = {**os.environ, "AIMOCK_STRICT_TURN_INDEX": "1"}
    with running(command, log=folder / "aimock.log", ready=lambda: _listens(port), env=env):
        yield f"http://127.0.0.1:{port}/v1"


def _listens(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=2, trust_env=False)
    except httpx.TransportError:
        return False
    return True


@pytest.fixture(scope="session")
def provider() -> Iterator[Upstream]:
    """A mock provider of this process, which sees when its clients go away."""
    with running_upstream() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    url = os.environ["DATABASE_URL"]
    name = f"outside_{os.getpid()}_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    with new_database(url, name) as database_url:
        # Providers are made to fail here, and asked again at once.
        made = new_site(tmp_path_factory.mktemp("site"), database_url, LLM_BREAKER_FAILURES="1000")
        yield made
        made.verify_usage()  # whatever was cancelled, killed, paused and crashed meanwhile


@pytest.fixture(scope="session")
def uvicorn(site: Site) -> Iterator[Server]:
    with serving(site, "uvicorn") as server:
        yield server


@pytest.fixture(scope="session")
def daphne(site: Site) -> Iterator[Server]:
    with serving(site, "daphne") as server:
        yield server


@pytest.fixture(scope="session", params=["uvicorn", "daphne"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each of the two servers, over the same database."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def mock_model(uvicorn: Server, aimock: str) -> str:
    """A model of acme that aimock answers for."""
    return make_provider(uvicorn, "mock", aimock) + "/gpt-4o"


@pytest.fixture(scope="session")
def kinds(uvicorn: Server, aimock: str) -> dict[str, str]:
    """The names of models of acme that aimock answers for, each through another kind of provider."""
    root = aimock.removesuffix("/v1")
    with uvicorn.client() as http:
        for slug, kind in KINDS.items():
            response = http.post("providers", json={**kind.provider(root), "slug": f"kind-{slug}"})
            assert response.status_code == 201, response.text
    return {slug: f"kind-{slug}/{kind.model}" for slug, kind in KINDS.items()}


@pytest.fixture(scope="session")
def watched(uvicorn: Server, provider: Upstream) -> Upstream:
    """`provider` as acme's provider `watched`."""
    make_provider(uvicorn, "watched", provider.url)
    return provider


def make_provider(server: Server, slug: str, base_url: str) -> str:
    body: dict[str, Any] = {"slug": slug, "kind": "openai", "base_url": base_url, "api_key": "mock-key"}
    with server.client() as http:
        response = http.post("providers", json=body)
    assert response.status_code == 201, response.text
    return slug
