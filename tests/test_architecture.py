"""The import contracts of pyproject.toml: they hold, they cover every app, and each of them can fail."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from django.apps import apps

from agentsite.embedded.home import CHECKOUT

LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
CONFIG = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["importlinter"]
ROOMS: list[str] = CONFIG["root_packages"]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(LINT_IMPORTS), "--no-cache"]
    return subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True)


def test_the_contracts_hold() -> None:
    result = lint(CHECKOUT)
    assert result.returncode == 0, result.stdout


def test_every_app_of_ours_is_under_contract() -> None:
    ours = {config.name for config in apps.get_app_configs() if Path(config.path).parent == CHECKOUT}
    assert ours == set(ROOMS)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy")
    for room in ROOMS:
        shutil.copytree(CHECKOUT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__", "static"))
    shutil.copy(CHECKOUT / "pyproject.toml", folder)
    return folder


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("core/errors.py", "import tenants.models", "Apps import only downwards"),
        ("tenants/services.py", "import audit.services", "Apps import only downwards"),
        ("toolsets/services.py", "import llm.services.providers", "Apps import only downwards"),
        ("runs/runner.py", "import agentsite.demo", "Apps import only downwards"),
        ("agents/models.py", "import agents.services", "Inside an app"),
        ("templates_app/selectors.py", "import templates_app.api.views", "Inside an app"),
        ("llm/services/providers.py", "import rest_framework", "Services, selectors and models know no edge"),
        ("audit/selectors.py", "import channels.layers", "Services, selectors and models know no edge"),
    ],
)
def test_a_forbidden_import_breaks_its_contract(copy: Path, file: str, line: str, contract: str) -> None:
    source = (copy / file).read_text()
    (copy / file).write_text(f"{source}\n{line}\n")
    try:
        result = lint(copy)
    finally:
        (copy / file).write_text(source)
    assert result.returncode == 1
    assert [name for name in result.stdout.splitlines() if name.startswith(contract) and name.endswith("BROKEN")]
