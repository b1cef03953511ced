from collections.abc import Iterator
from typing import Any

import pytest

from llm.models import Provider
from llm.services.providers import provider_create
from tests.conftest import Actor
from tests.llm.metering import RecordingMeter, metered
from tests.templates_app.conftest import add_template as add_template
from toolsets.models import Toolset
from toolsets.services import toolset_create


@pytest.fixture(autouse=True)
def meter() -> Iterator[RecordingMeter]:
    """Who pays where a test asks a model outside a run."""
    with metered() as meter:
        yield meter
    meter.check()


@pytest.fixture
def scripted(in_acme: Any, owner: Actor) -> Provider:
    return provider_create(actor=owner.principal, slug="scripted", kind="scripted")


@pytest.fixture
def clock(in_acme: Any, owner: Actor) -> Toolset:
    return toolset_create(actor=owner.principal, slug="clock", name="Clock", kind="time")


@pytest.fixture
def body(scripted: Provider) -> dict[str, Any]:
    """A valid agent."""
    return {
        "slug": "helper",
        "name": "Helper",
        "template": "conversation",
        "model": "scripted/default",
        "instructions": "Be brief.",
        "config": {"max_steps": 3},
        "metadata": {"team": "support"},
    }
