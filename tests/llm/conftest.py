from collections.abc import Iterator

import pytest

from llm.door import cache, circuits, health
from llm.providers.base import ProviderConnection
from llm.targets import ModelTarget
from tests.llm.metering import RecordingMeter, metered
from tests.llm.playing import Player, playing
from tests.llm.upstream import Upstream, running_upstream


@pytest.fixture(scope="session")
def _upstream() -> Iterator[Upstream]:
    with running_upstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(_upstream: Upstream) -> Upstream:
    _upstream.reset()
    return _upstream


@pytest.fixture(scope="session")
def _player() -> Iterator[Player]:
    with playing() as player:
        yield player


@pytest.fixture
def player(_player: Player) -> Player:
    _player.reset()
    return _player


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
    monkeypatch.setattr("llm.door.retry.BACKOFF", 0.01)
    settings.ALLOW_PRIVATE_PROVIDERS = True


@pytest.fixture(autouse=True)
def meter() -> Iterator[RecordingMeter]:
    """Who pays for the calls of a test; each is closed once."""
    with metered() as meter:
        yield meter
    meter.check()


@pytest.fixture(autouse=True)
def _nothing_known() -> Iterator[None]:
    yield
    circuits.forget_all()
    health.forget_all()
    cache.forget_recent()


# LangChain's standard tests that fetch files from the internet, need its recordings, or time the machine.
NOT_HERE = (
    "test_pdf_inputs",
    "test_audio_inputs",
    "test_image_inputs",
    "test_image_tool_message",
    "test_pdf_tool_message",
    "test_anthropic_inputs",
    "test_stream_time",
    "test_init_from_env",
    "test_serdes",
    "test_init_time",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    away = [item for item in items if "test_chat_model_standard" in item.nodeid and item.name in NOT_HERE]
    if away:
        config.hook.pytest_deselected(items=away)
        items[:] = [item for item in items if item not in away]
