"""llm-comply checks answers against OpenAI's own schema."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.outside.site import Server

PROGRAM = Path(sys.executable).with_name("llm-comply")


@pytest.mark.parametrize("model", ["mock/gpt-4o", "scripted/default", "assistant"])
def test_answers_comply_with_openais_schema(uvicorn: Server, mock_model: str, model: str) -> None:
    target = ["-u", uvicorn.api, "-k", uvicorn.site.key("acme"), "-m", model]
    command = [str(PROGRAM), *target, "--format", "openai-chat", "--json", "-v"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=110)
    suite = json.loads(result.stdout)
    faults = [test for test in suite["results"] if test["status"] not in ("passed", "skipped")]
    assert not faults, json.dumps(faults, indent=2)[:6000]
    assert result.returncode == 0
