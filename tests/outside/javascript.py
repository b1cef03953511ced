"""Runs the programs of tests/js."""

import json
import os
import subprocess
from typing import Any

from tests.outside.site import CHECKOUT


def run_program(node: str, name: str, **env: str) -> dict[str, Any]:
    """What the program prints; its error output is the failure's message."""
    path = {"PATH": os.environ["PATH"]}
    command = [node, str(CHECKOUT / "tests" / "js" / name)]
    result = subprocess.run(command, env={**path, **env}, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    printed: dict[str, Any] = json.loads(result.stdout)
    return printed
