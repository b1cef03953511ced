import pkgutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import agents.tools
from toolsets import kinds, registry


def _packages(package: ModuleType) -> list[str]:
    return [module.name for module in pkgutil.iter_modules(package.__path__) if module.ispkg]


OURS = sorted(_packages(kinds) + _packages(agents.tools))
KIND = """
from toolsets.base import Tool, ToolArguments, ToolsetConfig, ToolsetKind

class Ping(ToolArguments):
    pass

async def ping(arguments, context):
    return "pong"

class PingKind(ToolsetKind):
    slug = "ping"
    title = "Ping"

    def tools(self, config):
        return [Tool("ping", "Answers pong.", Ping, ping)]
"""

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """A distribution with one module in the entry-point group, as an installer would leave it."""
    names = []

    def add(name: str, source: str) -> None:
        names.append(name)
        (tmp_path / f"{name}.py").write_text(source)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{registry.ENTRY_POINT_GROUP}]\n{name} = {name}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        registry.forget()

    yield add
    monkeypatch.undo()
    for name in names:
        sys.modules.pop(name, None)
    registry.forget()


def reasons() -> list[str]:
    return [fault.reason for fault in registry.toolset_kind_faults()]


def test_our_kinds_are_there() -> None:
    assert list(registry.toolset_kinds()) == OURS
    assert {"time", "web"} <= {*OURS}
    assert reasons() == []


def test_an_app_above_adds_a_package_of_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "above" / "ping").mkdir(parents=True)
    (tmp_path / "above" / "__init__.py").touch()
    (tmp_path / "above" / "ping" / "__init__.py").write_text(KIND)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_packages", ["toolsets.kinds"])
    try:
        assert list(registry.toolset_kinds()) == OURS
        for _ in range(2):
            registry.add_package("above")
        assert list(registry.toolset_kinds()) == sorted([*_packages(kinds), "ping"])
        assert reasons() == []
    finally:
        for name in ("above", "above.ping"):
            sys.modules.pop(name, None)
        registry.forget()


def test_a_plugins_kind_is_found(install: Install) -> None:
    install("ping_plugin", KIND)
    kind = registry.toolset_kinds()["ping"]
    assert [tool.name for tool in kind.tools(kind.Config())] == ["ping"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('no')", "RuntimeError: no"),
        ("value = 1", "It defines no ToolsetKind."),
        (KIND.replace('"ping"\n', '"Ping!"\n'), "slug must be"),
        (KIND.replace('"Ping"', '""'), "title is missing."),
        (KIND.replace('title = "Ping"', 'title = "Ping"\n    Config = dict'), "Config must be a pydantic model."),
        (KIND.replace('slug = "ping"', 'slug = "time"'), "exists already"),
        (
            KIND.replace("class PingKind", "from pydantic import BaseModel\n\nclass PingKind").replace(
                'title = "Ping"', 'title = "Ping"\n    Config = BaseModel'
            ),
            "forbid unknown fields",
        ),
    ],
)
def test_a_broken_kind_hides_no_other(install: Install, source: str, reason: str) -> None:
    install("bad_plugin", source)
    assert list(registry.toolset_kinds()) == OURS
    assert reason in reasons()[0]
