"""LangChain's own standard suite, over our gateway and a real HTTP provider."""

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from llm.chat_model import RoutedChatModel
from llm.providers.base import ProviderConnection
from llm.targets import ModelTarget
from tests.llm.upstream import running_upstream


@pytest.fixture(scope="module")
def _provider(request: pytest.FixtureRequest) -> Iterator[None]:
    with running_upstream() as upstream:
        target = ModelTarget(ProviderConnection("mock", "openai", upstream.url), "clever")
        TestIntegration.target = TestUnit.target = target
        yield


class Ours:
    target: ModelTarget | None = None
    chat_model_class = property(lambda self: RoutedChatModel)
    supports_json_mode = property(lambda self: True)
    supports_image_inputs = property(lambda self: False)
    model_override_value = property(lambda self: "clever:other")

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"target": self.target, "model": "clever"}


@pytest.mark.usefixtures("_provider")
class TestIntegration(Ours, ChatModelIntegrationTests):
    pass


@pytest.mark.usefixtures("_provider")
class TestUnit(Ours, ChatModelUnitTests):
    pass
