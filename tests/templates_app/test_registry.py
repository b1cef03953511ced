import os
import subprocess
import sys
from pathlib import Path

import pytest

from templates_app.exceptions import TemplateInvalid, TemplateNotFound
from templates_app.registry import registry
from templates_app.versions import parse_version
from tests.templates_app.conftest import AddTemplate, echo


def problems(slug: str) -> list[str]:
    return [fault.reason for health in registry.health() if health.slug == slug for fault in health.problems]


def test_our_kinds_are_found_and_healthy() -> None:
    health = {item.slug: item for item in registry.health()}
    assert {"simple", "conversation"} <= health.keys()
    assert all(item.healthy for item in health.values())
    assert registry.get("conversation").config_schema()["properties"]["max_steps"]["maximum"] == 50


COLD = """
import sys, django
django.setup()
from templates_app.registry import registry
slugs = [health.slug for health in registry.health()]
heavy = sorted(m for m in sys.modules if m.split(".")[0] in ("langgraph", "langchain", "langchain_core"))
assert "simple" in slugs and not heavy, (slugs, heavy)
"""


def test_cold_discovery_imports_no_langgraph() -> None:
    """How long it takes is printed by `make bench`."""
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "agentsite.settings"}
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", COLD], cwd=root, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr


def test_versions_live_side_by_side_and_the_highest_is_the_default(add_template: AddTemplate) -> None:
    for version in ("1.2.0", "1.10.0", "2.0.0-rc.1"):
        add_template(f"echo_{version.replace('.', '_').replace('-', '_')}", echo(version))
    assert [template.version for template in registry.versions("echo")] == ["1.10.0", "1.2.0", "2.0.0-rc.1"]
    assert registry.get("echo").version == "1.10.0"
    assert registry.get("echo", "1.2.0").title == "Echo 1.2.0"


def test_a_missing_slug_and_a_missing_version_are_told_apart(add_template: AddTemplate) -> None:
    add_template("echo", echo("1.0.0"))
    with pytest.raises(TemplateNotFound) as missing:
        registry.get("nothing")
    assert (missing.value.code, missing.value.param) == ("template_not_found", "template")
    with pytest.raises(TemplateNotFound) as old:
        registry.get("echo", "0.9.0")
    assert (old.value.code, old.value.param) == ("template_version_not_found", "template_version")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("value = 1", "It defines no AgentTemplate."),
        (echo("one", slug="bad"), "version must be semantic"),
        (echo("1.0.0", slug="bad", extra="capabilities = {'flying'}"), "Unknown capability flying"),
        (echo("1.0.0", slug="bad", extra="capabilities = None"), "TypeError"),
        (echo("1.0.0", slug="bad", extra="Config = dict"), "Config must be a pydantic model."),
        (echo("1.0.0", slug="bad", extra="title = ''").replace('title = "Echo 1.0.0"', ""), "title is missing."),
        (echo("1.0.0", slug="bad", extra="def __init__(self): 1 / 0"), "ZeroDivisionError"),
    ],
)
def test_a_broken_template_is_reported_and_hides_no_other(add_template: AddTemplate, source: str, reason: str) -> None:
    add_template("bad", source)
    add_template("echo", echo("1.0.0"))
    assert reason in problems("bad")[0]
    assert "Traceback" not in problems("bad")[0]
    assert registry.get("echo").version == "1.0.0"
    assert registry.get("simple").slug == "simple"


def test_the_config_must_forbid_unknown_fields(add_template: AddTemplate) -> None:
    config = "\n    from pydantic import BaseModel\n    class Config(BaseModel):\n        name: str = ''\n"
    add_template("loose", echo("1.0.0", slug="loose", extra=config))
    assert "forbid unknown fields" in problems("loose")[0]


def test_the_same_version_twice_is_a_fault_of_the_second(add_template: AddTemplate) -> None:
    add_template("a_first", echo("1.0.0"))
    add_template("b_second", echo("1.0.0"))
    assert registry.get("echo").version == "1.0.0"
    assert "exists already" in problems("echo")[0]


def test_a_broken_version_leaves_the_others_of_its_slug_usable(add_template: AddTemplate) -> None:
    add_template("echo", echo("1.0.0"))
    add_template("echo_next", echo("2", slug="echo"))
    health = next(item for item in registry.health() if item.slug == "echo")
    assert (health.versions, health.healthy) == (["1.0.0"], False)


def test_modules_of_a_folder_may_import_each_other(add_template: AddTemplate, settings: object) -> None:
    add_template("parts", "from .template import Echo")
    folder = Path(settings.TEMPLATE_DIRS[0]) / "parts"  # type: ignore[attr-defined]
    (folder / "template.py").write_text(echo("1.0.0", slug="parts"))
    registry.reload()
    assert registry.get("parts").title == "Echo 1.0.0"
    assert problems("parts") == []


def test_reload_sees_a_changed_file(add_template: AddTemplate) -> None:
    add_template("echo", echo("1.0.0"))
    held = registry.get("echo")
    add_template("echo", echo("1.1.0"))
    assert registry.get("echo").version == "1.1.0"
    assert held.version == "1.0.0"


def test_a_missing_template_folder_is_reported(settings: object, tmp_path: Path) -> None:
    settings.TEMPLATE_DIRS = [str(tmp_path / "nowhere")]  # type: ignore[attr-defined]
    try:
        registry.reload()
        assert "FileNotFoundError" in problems("nowhere")[0]
    finally:
        settings.TEMPLATE_DIRS = []  # type: ignore[attr-defined]
        registry.reload()


def test_precedence_is_that_of_semver() -> None:
    ordered = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"]
    ordered += ["1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0"]
    shuffled = ordered[::2] + ordered[1::2]
    assert sorted(shuffled, key=parse_version) == ordered


@pytest.mark.parametrize("text", ["1.0", "v1.0.0", "01.0.0", "1.0.0-", "1.0.0-01", "", None, 1, "1.0.0\n", "1" * 40])
def test_what_is_no_semantic_version_is_refused(text: object) -> None:
    with pytest.raises(TemplateInvalid):
        parse_version(text)
