import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentsite.embedded import command
from agentsite.embedded.home import CHECKOUT, Home
from agentsite.embedded.postgres import ensure, read_postmaster
from tests.start.conftest import processes_of
from tests.start.test_start import environment


def manage(home: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    full = [sys.executable, str(CHECKOUT / "manage.py"), *arguments]
    return subprocess.run(full, env=environment(home, **env), cwd="/", capture_output=True, text=True, timeout=90)


CODE = "from django.db import connection as c; k = c.cursor(); k.execute('SELECT current_user'); print(k.fetchone())"


@pytest.mark.slow
def test_starts_the_database_for_one_command(home: Home) -> None:
    done = manage(home.path, "shell", "--no-imports", "-c", CODE)
    assert "('app_user',)" in done.stdout, done.stderr
    assert processes_of(home.path) == []


@pytest.mark.slow
def test_uses_a_running_database_and_leaves_it(home: Home) -> None:
    cluster = ensure(home)
    before = read_postmaster(home.path / "postgres")
    done = manage(home.path, "shell", "--no-imports", "-c", CODE)
    assert "('app_user',)" in done.stdout, done.stderr
    assert read_postmaster(home.path / "postgres") == before
    cluster.stop()


@pytest.mark.slow
def test_failure_to_start_is_one_line(folder: Path) -> None:
    (folder / "thesis.txt").touch()
    done = manage(folder, "migrate")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"{folder} holds thesis.txt but no secrets.json: restore it, or set AGENTSITE_HOME to a new folder."
    ]


@pytest.mark.parametrize("arguments", [[], ["help"], ["check"], ["migrate", "--help"], ["collectstatic", "--noinput"]])
def test_commands_without_a_database_start_none(
    arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTSITE_HOME", str(folder / "home"))
    monkeypatch.delenv("DATABASE_URL")
    with command.services(arguments):
        assert "DATABASE_URL" not in os.environ
    assert not (folder / "home").exists()


def test_production_gets_nothing_added(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTSITE_HOME", str(folder / "home"))
    monkeypatch.setenv("AGENTSITE_ENV", "production")
    monkeypatch.delenv("DATABASE_URL")
    with command.services(["migrate"]):
        assert "DATABASE_URL" not in os.environ
    assert not (folder / "home").exists()


def test_what_is_set_stays(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/site")
    monkeypatch.setenv("SECRET_KEY", "mine")
    monkeypatch.delenv("MASTER_KEY", raising=False)
    assert command.environment(home, None) == {"MASTER_KEY": home.secrets().master_key}
