"""The files of `<agent-chat>`: what it weighs, that it parses no HTML, and its own tests in Node."""

import gzip
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.outside.site import CHECKOUT

CHAT = CHECKOUT / "agentsite" / "static" / "chat"
LIMIT = 60 * 1024  # bytes, compressed as the site sends them
MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|setHTML|srcdoc"
    r"|\beval\b|new Function|javascript:"
)
IMPORT = re.compile(r"^(?:import|export)\b[^;]*?from \"(\./[^\"]+)\";", re.MULTILINE)


def modules(path: Path, found: dict[Path, str]) -> dict[Path, str]:
    """A module and all that it imports, with their texts."""
    if path not in found:
        found[path] = path.read_text()
        for name in IMPORT.findall(found[path]):
            modules((path.parent / name).resolve(), found)
    return found


@pytest.fixture(scope="module")
def component() -> dict[Path, str]:
    return modules(CHAT / "agent-chat.js", {})


def test_it_weighs_little(component: dict[Path, str]) -> None:
    weights = {path.name: len(gzip.compress(text.encode(), 6)) for path, text in component.items()}
    assert len(weights) > 10
    assert sum(weights.values()) < LIMIT, weights


def test_every_file_of_it_is_used(component: dict[Path, str]) -> None:
    assert {path.name for path in component} == {path.name for path in [*CHAT.glob("*.js"), *CHAT.glob("vendor/*.js")]}


def test_it_makes_no_markup_of_text(component: dict[Path, str]) -> None:
    own = [path for path in component if path.parent == CHAT]
    assert [f"{path.name}: {line}" for path in own for line in lines_with_markup(component[path])] == []


def lines_with_markup(text: str) -> Iterator[str]:
    return (line for line in text.splitlines() if MARKUP.search(line))


def test_what_it_brings_along_has_its_licence(component: dict[Path, str]) -> None:
    for path in component:
        if path.parent != CHAT:
            assert re.search(r"v\d+\.\d+\.\d+", component[path][:200])
            assert "MIT" in (path.parent / f"{path.name.split('.')[0]}.LICENSE").read_text()


@pytest.mark.parametrize("name", ["chat-api", "chat-list", "chat-markdown", "chat-state", "chat-talk"])
def test_in_node(name: str) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.fail("Install Node.js 20 or newer: start.py test needs it for the tests of JavaScript.")
    command = [node, "--test", str(CHECKOUT / "tests" / "js" / f"{name}.test.mjs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-8000:]
