"""A template package as an author ships it: installed by pip, and found by its entry point."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from templates_app import reloading
from templates_app.events import Answer, StepFinished, StepStarted
from templates_app.registry import ENTRY_POINT_GROUP, registry
from tests.agents.conftest import scripted as scripted
from tests.conftest import Actor
from tests.templates_app.conftest import AddTemplate
from tests.templates_app.fakes import PlayedModel, context, play, say

EXAMPLE = Path(__file__).parents[2] / "examples" / "agentsite-translator"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index"]


def pip_install(package: Path, site: Path) -> None:
    done = subprocess.run(
        [*PIP, "--no-build-isolation", "--target", str(site), str(package)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def claim(site: Path, name: str, version: str, points: dict[str, str]) -> None:
    """What an installer leaves of a distribution: its metadata and its entry points."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = "".join(f"{key} = {value}\n" for key, value in points.items())
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{lines}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages: the example's, built from a copy, and one that does not load."""
    folder = tmp_path_factory.mktemp("plugins")
    shutil.copytree(EXAMPLE, folder / "source")
    pip_install(folder / "source", folder / "site")
    claim(folder / "site", "broken-plugin", "0.1.0", {"broken_plugin": "no_such_package:Template"})
    return folder / "site"


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(site))
    registry.reload()
    yield
    monkeypatch.undo()
    for name in [key for key in sys.modules if key.split(".")[0] == "agentsite_translator"]:
        del sys.modules[name]
    registry.reload()


async def test_the_example_is_found_and_answers(installed: None) -> None:
    configs = {"1.0.0": {"language": "French", "tone": "casual"}, "2.0.0": {"languages": ["French", "Dutch"]}}
    orders = {"1.0.0": "into French, in a casual tone", "2.0.0": "into French and into Dutch, in a neutral tone"}
    for version, config in configs.items():
        template, model = registry.get("translator", version), PlayedModel(say("Bonjour"))
        events = await play(template, context(template, model, config=config, instructions="Be exact."))
        answered = Answer({"role": "assistant", "content": "Bonjour"}, "stop")
        assert events == [StepStarted("translate"), StepFinished("translate"), answered]
        order = model.requests[0]["messages"][0]["content"]
        assert order.startswith(f"Be exact.\n\nTranslate the user's message {orders[version]}")


def test_a_plugin_that_does_not_load_is_reported_by_its_name(installed: None, owner: Actor) -> None:
    health = owner.get("templates/broken-plugin/health").json()
    assert health["problems"] == [
        {"source": "broken-plugin 0.1.0", "reason": "ModuleNotFoundError: No module named 'no_such_package'"}
    ]
    translator = owner.get("templates/translator/health").json()
    assert (translator["healthy"], translator["versions"]) == (True, ["2.0.0", "1.0.0"])
    assert [each["version"] for each in translator["deprecated"]] == ["1.0.0"]


def test_its_config_is_checked_like_any_other(installed: None, owner: Actor) -> None:
    report = owner.post("templates/translator/validate", {"config": {"tone": "rude"}}).json()
    assert {fault["path"] for fault in report["errors"]} == {"config.languages", "config.tone"}
    needs = owner.post("templates/translator/validate", {"config": {"languages": ["French"], "pictures": True}}).json()
    assert needs["requirements"]["model"] == ["vision"]


def test_its_agents_are_migrated(installed: None, owner: Actor, scripted: Any) -> None:
    for slug, tone in {"formal": "formal", "casual": "casual"}.items():
        config = {"language": "French", "tone": tone}
        pinned = {"template": "translator", "template_version": "1.0.0", "config": config}
        made = owner.post("agents", {"slug": slug, "name": slug, "model": "scripted/default", **pinned})
        assert made.status_code == 201, made.content
    answer = owner.post("templates/translator/migrations", {"to": "2.0.0", "dry_run": False}).json()
    casual, formal = answer["results"]
    assert (formal["status"], casual["status"]) == ("migrated", "refused")
    assert "no casual tone any more" in casual["errors"][0]["message"]
    assert owner.get("agents/formal").json()["config"] == {"languages": ["French"], "tone": "formal"}


def test_the_same_package_in_a_folder_of_templates(add_template: AddTemplate, settings: Any) -> None:
    shutil.copytree(EXAMPLE / "agentsite_translator", Path(settings.TEMPLATE_DIRS[0]) / "translating")
    registry.reload()
    assert [template.version for template in registry.versions("translator")] == ["2.0.0", "1.0.0"]


def test_an_editable_installation_is_loaded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code is where somebody edits it, and its metadata elsewhere."""
    shutil.copytree(EXAMPLE, tmp_path / "source")
    claim(
        tmp_path / "site", "agentsite-translator", "2.0.0", {"translator": "agentsite_translator.version_2:Translator2"}
    )
    for folder in ("site", "source"):
        monkeypatch.syspath_prepend(str(tmp_path / folder))
    try:
        registry.reload()
        package = tmp_path / "source" / "agentsite_translator"
        assert registry.get("translator").title == "Translator"
        assert package.resolve() in reloading.watched()
        file = package / "version_2.py"
        file.write_text(file.read_text().replace('title = "Translator"', 'title = "Interpreter"'))
        registry.refresh([file.resolve()])
        assert registry.get("translator").title == "Interpreter"
    finally:
        monkeypatch.undo()
        for name in [key for key in sys.modules if key.split(".")[0] == "agentsite_translator"]:
            del sys.modules[name]
        registry.reload()
