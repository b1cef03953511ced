"""A provider kind's package as an author would ship it: found by its entry point, configured and asked over the API."""

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm import providers
from tests.conftest import Actor

EXAMPLE = Path(__file__).parents[2] / "examples" / "agentsite-echo-provider"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What an installer leaves of a distribution: its metadata and its entry points."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    info = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = project["entry-points"][providers.ENTRY_POINTS]
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    (info / "entry_points.txt").write_text(f"[{providers.ENTRY_POINTS}]\n{lines}")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(EXAMPLE))
    providers._kinds.cache_clear()
    yield
    monkeypatch.undo()
    for name in [key for key in sys.modules if key.split(".")[0] == "agentsite_echo"]:
        del sys.modules[name]
    providers._kinds.cache_clear()


def test_the_example_is_listed_configured_and_tested(installed: None, owner: Actor) -> None:
    kinds = {kind["slug"]: kind for kind in owner.get("providers/kinds").json()["data"]}
    assert (kinds["echo"]["models"], kinds["echo"]["base_url"]) == (["plain", "loud"], "none")
    assert "agentsite_echo.adapter" not in sys.modules
    wrong = owner.post("providers", {"slug": "echo", "kind": "echo", "settings": {"prefix": 7}})
    assert wrong.json()["error"]["details"][0]["path"] == "settings.prefix"
    assert owner.post("providers", {"slug": "echo", "kind": "echo"}).status_code == 201
    assert owner.post("providers/echo/test").json()["models"] == ["plain", "loud"]


def test_the_example_answers(installed: None, owner: Actor) -> None:
    owner.post("providers", {"slug": "echo", "kind": "echo", "settings": {"prefix": "You said: "}})
    body = {"model": "echo/loud", "messages": [{"role": "user", "content": "Hello there"}]}
    answer = owner.post("chat/completions", body).json()
    assert answer["choices"][0]["message"]["content"] == "You said: HELLO THERE"
    assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}


def test_the_example_refuses_as_a_provider_does(installed: None, owner: Actor) -> None:
    owner.post("providers", {"slug": "echo", "kind": "echo"})
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    body = {"model": "echo/plain", "messages": [{"role": "user", "content": [image]}]}
    refused = owner.post("chat/completions", body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "provider_rejected")
