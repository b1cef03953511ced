import json
import stat
from pathlib import Path

import pytest

from agentsite.embedded.errors import StartError
from agentsite.embedded.home import Home, open_home


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_its_owner_may_enter(home: Home) -> None:
    assert mode(home.path) == 0o700
    assert mode(home.path / "secrets.json") == 0o600
    assert mode(home.log("server").parent) == 0o700


def test_secrets_are_long_distinct_and_made_once(home: Home) -> None:
    values = json.loads((home.path / "secrets.json").read_text())
    assert len(set(values.values())) == 4
    assert min(map(len, values.values())) >= 32
    assert open_home().secrets() == home.secrets()


def test_open_folder_is_closed(home: Home) -> None:
    home.path.chmod(0o755)
    assert mode(open_home().path) == 0o700


def test_folder_of_something_else_is_refused_and_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "thesis.txt").touch()
    folder.chmod(0o755)
    monkeypatch.setenv("AGENTSITE_HOME", str(folder))
    with pytest.raises(StartError, match=r"thesis\.txt but no secrets\.json"):
        open_home()
    assert mode(folder) == 0o755


def test_folder_that_cannot_be_made_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "file").touch()
    monkeypatch.setenv("AGENTSITE_HOME", str(folder / "file" / "home"))
    with pytest.raises(StartError, match="Not a directory"):
        open_home()


def test_long_log_is_set_aside(home: Home) -> None:
    home.log("server").write_bytes(b"x" * 10_000_001)
    assert not home.log("server").exists()
    assert (home.path / "logs" / "server.log.1").exists()
