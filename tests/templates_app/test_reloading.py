"""Templates that change while the server runs: each edit is used, or harms nothing and says why."""

import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from core.plugins import Candidate, load_anew
from templates_app import reloading
from templates_app.registry import registry
from tests.conftest import Actor
from tests.templates_app.conftest import AddTemplate, echo
from tests.templates_app.fakes import PlayedModel, answer, context

HELPED = """
    from templates_app.base import AgentTemplate
    from templates_app.events import Answer
    from .helper import word

    class Helped(AgentTemplate):
        slug, version, title = "helped", "1.0.0", "Helped"

        async def run(self, context):
            yield Answer({"role": "assistant", "content": word()}, "stop")
"""


class Folder:
    """One of settings.TEMPLATE_DIRS, and what an edit of a file in it leads to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, source: str) -> None:
        file = self.path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(dedent(source))
        registry.refresh([file.resolve()])


@pytest.fixture
def folder(add_template: AddTemplate, settings: Any) -> Folder:
    add_template("other", echo("1.0.0", slug="other"))
    folder = Folder(Path(settings.TEMPLATE_DIRS[0]))
    (folder.path / "helped").mkdir()
    (folder.path / "helped" / "helper.py").write_text("def word():\n    return 'one'\n")
    folder.write("helped/__init__.py", HELPED)
    return folder


async def said() -> Any:
    template = registry.get("helped")
    return (await answer(template, context(template, PlayedModel()))).message["content"]


def problems(slug: str) -> list[str]:
    return [fault.reason for health in registry.health() if health.slug == slug for fault in health.problems]


async def test_a_new_folder_and_an_edit_of_a_helper_are_seen(folder: Folder) -> None:
    assert await said() == "one"
    folder.write("helped/helper.py", "def word():\n    return 'two'\n")  # as long, and within the same second
    assert await said() == "two"


async def test_what_was_not_edited_stays_the_same_object(folder: Folder) -> None:
    others = {slug: registry.get(slug) for slug in ("other", "simple", "conversation")}
    before = registry.get("helped")
    folder.write("helped/helper.py", "def word():\n    return 'two'\n")
    assert {slug: registry.get(slug) for slug in others} == others
    assert registry.get("helped") is not before


async def test_a_run_ends_on_the_code_that_it_began_with(folder: Folder) -> None:
    held = registry.get("helped")
    run = held.run(context(held, PlayedModel()))
    folder.write("helped/helper.py", "def word():\n    return 'two'\n")
    event = await anext(run)
    assert event.message["content"] == "one"  # type: ignore[union-attr]
    assert await said() == "two"


@pytest.mark.parametrize(
    ("name", "source", "reason"),
    [
        ("helped/helper.py", "def word(:", "SyntaxError"),
        ("helped/helper.py", "import no_such_module", "no_such_module"),
        ("helped/helper.py", "raise SystemExit(3)", "SystemExit: 3"),
        ("helped/__init__.py", "value = 1", "It defines no AgentTemplate."),
        ("helped/__init__.py", HELPED.replace('"1.0.0"', '"one"'), "version must be semantic"),
        ("helped/__init__.py", HELPED.replace('"helped"', '"other"'), "Version 1.0.0 of 'other' exists already."),
    ],
)
def test_a_broken_edit_keeps_what_worked_and_says_why(
    folder: Folder, owner: Actor, name: str, source: str, reason: str
) -> None:
    good = (folder.path / name).read_text()
    held = registry.get("helped")
    folder.write(name, source)
    assert registry.get("helped") is held
    assert async_to_sync(said)() == "one"
    health = owner.get("templates/helped/health").json()
    assert (health["healthy"], health["versions"]) == (False, ["1.0.0"])
    assert reason in health["problems"][0]["reason"]
    assert "The code from before is in use." in health["problems"][0]["reason"]
    assert problems("other") == []
    folder.write(name, good)
    assert (problems("helped"), async_to_sync(said)()) == ([], "one")


async def test_after_a_broken_edit_old_code_finds_its_modules(folder: Folder) -> None:
    late = "from .helper import word\n            yield"
    folder.write("helped/__init__.py", HELPED.replace("from .helper import word", "").replace("yield", late))
    assert await said() == "one"
    folder.write("helped/helper.py", "def word(:")
    assert await said() == "one"


async def test_a_template_that_never_worked_is_mended(folder: Folder) -> None:
    folder.write("fresh/__init__.py", "import no_such_module")
    assert "no_such_module" in problems("fresh")[0]
    folder.write("fresh/__init__.py", echo("1.0.0", slug="fresh"))
    assert (problems("fresh"), registry.get("fresh").version) == ([], "1.0.0")


async def test_a_version_that_is_taken_away_is_gone(folder: Folder) -> None:
    folder.write("helped/__init__.py", HELPED.replace("1.0.0", "1.1.0"))
    assert [template.version for template in registry.versions("helped")] == ["1.1.0"]
    for file in ("__init__.py", "helper.py"):
        (folder.path / "helped" / file).unlink()
    registry.refresh([folder.path / "helped"])
    assert registry.versions("helped") == []


def test_an_edit_of_ours_is_seen_and_the_plugins_that_build_on_it_stay(folder: Folder) -> None:
    import templates_app.kinds.simple.template as module

    before, other = registry.get("simple"), registry.get("conversation")
    registry.refresh([Path(module.__file__)])
    after = registry.get("simple")
    assert after is not before
    assert type(after) is sys.modules["templates_app.kinds.simple.template"].SimpleTemplate
    assert registry.get("conversation") is other


def test_a_package_that_is_refused_leaves_its_parent_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outer_pkg" / "inner").mkdir(parents=True)
    for package in ("outer_pkg", "outer_pkg/inner"):
        (tmp_path / package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    candidate = Candidate("inner", "inner", partial(import_module, "outer_pkg.inner"), "outer_pkg.inner")
    held = candidate.load()
    refused = ZeroDivisionError()

    def refuse(value: object) -> None:
        assert value is not held
        raise refused

    with pytest.raises(ZeroDivisionError):
        load_anew(candidate, [], refuse)
    assert import_module("outer_pkg").inner is sys.modules["outer_pkg.inner"] is held
    for name in ("outer_pkg.inner", "outer_pkg"):
        del sys.modules[name]


def test_what_is_watched(folder: Folder) -> None:
    places = reloading.watched()
    assert folder.path.resolve() in places
    assert Path(__file__).parents[2] / "templates_app" / "kinds" in places
    assert not any("site-packages" in place.parts for place in places)


def test_nothing_is_watched_unless_it_is_asked_for(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.TEMPLATE_RELOAD is False
    monkeypatch.setattr(reloading, "_watch", lambda: pytest.fail("It watches."))
    reloading.start()
