"""A template package as an author would ship it: found by its entry point, without being installed from anywhere."""

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from templates_app.events import Answer, StepFinished, StepStarted
from templates_app.registry import ENTRY_POINT_GROUP, registry
from tests.conftest import Actor
from tests.templates_app.fakes import PlayedModel, context, play, say

EXAMPLE = Path(__file__).parents[2] / "examples" / "agentsite-translator"


def install(site: Path, name: str, version: str, points: dict[str, str]) -> None:
    """What an installer leaves of a distribution: its metadata and its entry points."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = "".join(f"{key} = {value}\n" for key, value in points.items())
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{lines}")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    install(tmp_path, project["name"], project["version"], project["entry-points"][ENTRY_POINT_GROUP])
    install(tmp_path, "broken-plugin", "0.1.0", {"broken_plugin": "no_such_package:Template"})
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(EXAMPLE))
    registry.reload()
    yield
    monkeypatch.undo()
    for name in [key for key in sys.modules if key.split(".")[0] == "agentsite_translator"]:
        del sys.modules[name]
    registry.reload()


async def test_the_example_is_found_and_answers(installed: None) -> None:
    template = registry.get("translator")
    model = PlayedModel(say("Bonjour"))
    config = {"language": "French", "tone": "formal"}
    events = await play(template, context(template, model, config=config, instructions="Be exact."))
    assert events == [
        StepStarted("translate"),
        StepFinished("translate"),
        Answer({"role": "assistant", "content": "Bonjour"}, "stop"),
    ]
    assert model.requests[0]["messages"][0]["content"].startswith(
        "Be exact.\n\nTranslate the user's message into French"
    )


def test_a_plugin_that_does_not_load_is_reported_by_its_name(installed: None, owner: Actor) -> None:
    health = owner.get("templates/broken-plugin/health").json()
    assert health["problems"] == [
        {"source": "broken-plugin 0.1.0", "reason": "ModuleNotFoundError: No module named 'no_such_package'"}
    ]
    assert owner.get("templates/translator/health").json()["healthy"] is True


def test_its_config_is_checked_like_any_other(installed: None, owner: Actor) -> None:
    report = owner.post("templates/translator/validate", {"config": {"tone": "rude"}}).json()
    assert {fault["path"] for fault in report["errors"]} == {"config.language", "config.tone"}
