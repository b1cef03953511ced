import base64
import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from agentsite.embedded import console, install
from agentsite.embedded.errors import StartError
from agentsite.embedded.home import Home
from tests.start.conftest import processes_of


def make_wheel(folder: Path, name: str) -> str:
    """A package of one line, and its lock."""
    folder.mkdir(exist_ok=True)
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "ANSWER = 42\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{path},sha256={_digest(text)},{len(text)}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""])
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture
def checkout(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkout whose only package index is a folder of wheels, without uv."""
    path = folder / "checkout"
    (path / "requirements").mkdir(parents=True)
    (path / "requirements" / "installer.txt").write_text(f"uv==0.1 --hash=sha256:{'0' * 64}\n")
    monkeypatch.setattr(install, "CHECKOUT", path)
    for name, value in {"VENV": "", "PYTHON": "bin/python", "UV": "bin/uv", "STAMPS": "installed"}.items():
        monkeypatch.setattr(install, name, path / ".venv" / value)
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder.parent / "wheels"))
    return path


@pytest.mark.slow
def test_installs_with_pip_where_uv_is_not_to_be_had_and_again_only_for_a_new_lock(
    checkout: Path, home: Home, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # An interrupted attempt left an environment without its last file.
    install.PYTHON.parent.mkdir(parents=True)
    install.PYTHON.symlink_to("/gone/python3.11")
    lock = checkout / "requirements.txt"
    lock.write_text(make_wheel(folder.parent / "wheels", "first"))
    install.install(home, install.RUNTIME)
    assert "trying pip" in capsys.readouterr().out
    assert list(checkout.glob(".venv/lib/*/site-packages/first.py"))

    install.install(home, install.RUNTIME)
    assert capsys.readouterr().out == ""

    lock.write_text(lock.read_text() + make_wheel(folder.parent / "wheels", "second"))
    install.install(home, install.RUNTIME)
    assert list(checkout.glob(".venv/lib/*/site-packages/second.py"))
    assert "virtual environment" not in capsys.readouterr().out

    # An attempt that was interrupted half-way through a package.
    (module,) = checkout.glob(".venv/lib/*/site-packages/first.py")
    module.unlink()
    (checkout / ".venv" / "installed" / "requirements.txt").write_text(f"begun {install.PYTHON.resolve()}")
    install.install(home, install.RUNTIME)
    assert module.exists()

    make_wheel(folder.parent / "wheels", "third")
    lock.write_text(f"third==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(StartError, match=r"The installation failed: .*(hash|HASH|Got).*\(log: .*install\.log\)"):
        install.install(home, install.RUNTIME)
    assert not install._installed(install.RUNTIME)


def test_no_local_model_is_only_a_warning(
    checkout: Path, home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise StartError("The installation failed: no such index")

    monkeypatch.setattr(install, "install", refuse)
    assert install.install_local_model(home) is False
    assert "Warning: no local model. The installation failed: no such index" in capsys.readouterr().out


def test_python_without_venv_is_told(checkout: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "requirements.txt").touch()
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StartError, match=r"no venv module; on Debian and Ubuntu: apt install python3\.\d+-venv"):
        install.install(home, install.RUNTIME)


def test_full_disk_is_told_before_anything_is_written(
    checkout: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / "requirements.txt").touch()
    monkeypatch.setattr(install, "FREE_BYTES", 10**18)
    with pytest.raises(StartError, match=r"GB free, the packages need 1\.5 GB: free some space"):
        install.install(home, install.RUNTIME)
    assert not (checkout / ".venv").exists()


def test_uv_is_told_what_pip_knows(home: Home, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = folder / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://pypi.example/simple\nextra-index-url = https://a.example/ https://b.example/\n"
        "[install]\nfind-links = /wheels/a\n  /wheels/b\n"
    )
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "7")
    env = install.uv_environment(home)
    assert env["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert env["UV_INDEX"] == "https://a.example/ https://b.example/"
    assert env["UV_FIND_LINKS"] == "/wheels/a,/wheels/b"
    assert env["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert env["UV_HTTP_TIMEOUT"] == "7"
    assert env["UV_CACHE_DIR"].startswith(str(home.path))


def test_interrupted_step_ends_with_all_its_processes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(console, "say", lambda text, end="": interrupt() if text == "." else None)
    with pytest.raises(KeyboardInterrupt):
        console.step("Waiting", ["sh", "-c", "sleep 60 & sleep 60"], home.log("step"), {"HOME": str(home.path)})
    assert processes_of(home.path) == []
