from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from templates_app.registry import registry

AddTemplate = Callable[[str, str], None]


@pytest.fixture
def add_template(tmp_path: Path, settings: Any) -> Iterator[AddTemplate]:
    """Writes `folder/__init__.py` with this source into a folder of settings.TEMPLATE_DIRS, and discovers anew."""
    directory = tmp_path / "templates"
    directory.mkdir()
    settings.TEMPLATE_DIRS = [str(directory)]

    def add(folder: str, source: str) -> None:
        (directory / folder).mkdir(exist_ok=True)
        (directory / folder / "__init__.py").write_text(dedent(source))
        registry.reload()

    yield add
    settings.TEMPLATE_DIRS = []
    registry.reload()


def echo(version: str, *, slug: str = "echo", extra: str = "") -> str:
    """The source of a template that needs no model."""
    return f'''
from templates_app.base import AgentTemplate
from templates_app.events import Answer

class Echo(AgentTemplate):
    slug = "{slug}"
    version = "{version}"
    title = "Echo {version}"
    {extra}

    async def run(self, context):
        yield Answer({{"role": "assistant", "content": context.messages[-1]["content"]}}, "stop")
'''
