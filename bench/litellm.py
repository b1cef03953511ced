"""LiteLLM's proxy, in an environment of its own in the state folder, as its documentation has it run in production.

One worker, one model, one master key; no database, so that it stores nothing of what it does.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

from agentsite.embedded.console import step
from agentsite.embedded.home import Home
from agentsite.embedded.install import UV, uv_environment

LOCK = Path(__file__).with_suffix(".txt")
KEY = "sk-bench"
ENV = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"}


def install(home: Home) -> Path:
    """Its environment, made again when LOCK has changed. Raises CommandError."""
    environment = home.path / "litellm"
    stamp, wanted = environment / "installed", hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        make = [str(UV), "venv", "--clear", "--python", sys.executable, str(environment)]
        fill = [str(UV), "pip", "install", "--python", str(environment / "bin/python"), "--require-hashes"]
        step("Making LiteLLM's environment", make, home.log("litellm"), uv_environment(home))
        step("Installing LiteLLM", [*fill, "-r", str(LOCK)], home.log("litellm"), uv_environment(home))
        stamp.write_text(wanted)
    return environment


def version() -> str:
    lines = LOCK.read_text().splitlines()
    return next(line.removeprefix("litellm==").split()[0] for line in lines if line.startswith("litellm=="))


def command(environment: Path, folder: Path, upstream: str, port: int) -> tuple[list[str], dict[str, str]]:
    """How it is started, and with which variables; its configuration is written to `folder`."""
    model = {"model": "openai/m", "api_base": upstream, "api_key": "none"}
    settings = {
        "model_list": [{"model_name": "m", "litellm_params": model}],
        "general_settings": {"master_key": KEY},
        "litellm_settings": {"telemetry": False},
    }
    config = folder / "litellm.yaml"
    config.write_text(json.dumps(settings))  # which is YAML
    address = ["--host", "127.0.0.1", "--port", str(port)]
    options = ["--config", str(config), *address, "--num_workers", "1", "--telemetry", "False"]
    return [str(environment / "bin/litellm"), *options], {"PATH": os.environ["PATH"], "HOME": str(folder), **ENV}
