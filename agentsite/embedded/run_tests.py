"""`start.py test`: what the suite needs beyond the packages, and the suite."""

import os
import shutil
import subprocess
from collections.abc import Sequence

from agentsite.embedded.console import CommandError, say, step
from agentsite.embedded.errors import StartError
from agentsite.embedded.home import CHECKOUT, Home
from agentsite.embedded.install import PYTHON

JAVASCRIPT = CHECKOUT / "tests" / "js"


def run_tests(home: Home, arguments: Sequence[str]) -> int:
    """pytest's exit code."""
    env = {**os.environ, "AGENTSITE_HOME": str(home.path)}
    _install_javascript(home, env)
    if not shutil.which("chromium"):
        say("No chromium on PATH: the browser tests are left out. On Debian and Ubuntu: apt install chromium")
    if not shutil.which("dovecot"):
        say("No dovecot on PATH: tests of reading mail are left out. On Debian and Ubuntu: apt install dovecot-imapd")
    return subprocess.run([str(PYTHON), "-m", "pytest", "-n", "2", *arguments], cwd=CHECKOUT, env=env).returncode


def _install_javascript(home: Home, env: dict[str, str]) -> None:
    lock = JAVASCRIPT / "package-lock.json"
    installed = JAVASCRIPT / "node_modules" / ".package-lock.json"
    if not lock.exists() or (installed.exists() and installed.stat().st_mtime > lock.stat().st_mtime):
        return
    npm = shutil.which("npm")
    if not npm:
        say("No npm on PATH: the tests of JavaScript clients are left out. On Debian and Ubuntu: apt install npm")
        return
    command = [npm, "ci", "--prefix", str(JAVASCRIPT), "--no-audit", "--no-fund"]
    try:
        step(
            "Installing the JavaScript clients",
            command,
            home.log("npm"),
            {**env, "npm_config_cache": str(home.path / "cache" / "npm")},
        )
    except CommandError as error:
        raise StartError(f"npm failed: {error} (log: {home.log('npm')})") from error
