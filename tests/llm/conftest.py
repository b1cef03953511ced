from collections.abc import Iterator

import pytest

from llm.providers.base import ProviderConnection
from llm.targets import ModelTarget
from tests.llm.upstream import Upstream, running_upstream


@pytest.fixture(scope="session")
def _upstream() -> Iterator[Upstream]:
    with running_upstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(_upstream: Upstream) -> Upstream:
    _upstream.reset()
    return _upstream


@pytest.fixture
def target(upstream: Upstream):
    """Makes the target of a model of the upstream."""

    def make(model: str, **settings: object) -> ModelTarget:
        connection = ProviderConnection("mock", "openai", upstream.url, "sk-test-key", dict(settings))
        return ModelTarget(connection, model)

    return make


@pytest.fixture
def scripted() -> ModelTarget:
    return ModelTarget(ProviderConnection("scripted", "scripted"), "default")


@pytest.fixture(autouse=True)
def _quick_retries(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm.gateway.BACKOFF", 0.01)
    settings.ALLOW_PRIVATE_PROVIDERS = True
