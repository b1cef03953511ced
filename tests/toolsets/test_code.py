"""The tool `run_code`, as a model calls it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from core.ids import uuid7
from core.validation import config_faults
from sandbox import client
from toolsets.base import Risk, ToolCallContext
from toolsets.exceptions import ToolError
from toolsets.kinds.code.config import CodeConfig, RunCode
from toolsets.kinds.code.toolset import CodeToolset
from toolsets.registry import toolset_kinds

pytestmark = pytest.mark.asyncio


class Model:
    def __init__(self) -> None:
        self.context = ToolCallContext(uuid7(), session_id=uuid7())

    async def __call__(self, language: str, code: str, files: list[str] | None = None, **config: Any) -> dict[str, Any]:
        (tool,) = CodeToolset().tools(CodeConfig(**config))
        told: dict[str, Any] = await tool.call(RunCode(language=language, code=code, files=files or []), self.context)
        return told

    async def fails(self, *args: Any, **config: Any) -> str:
        with pytest.raises(ToolError) as failed:
            await self(*args, **config)
        return str(failed.value)


@pytest_asyncio.fixture
async def model(settings: Any, tmp_path: Path) -> AsyncIterator[Model]:
    settings.WORKSPACE_DIR = tmp_path
    yield Model()
    await client.shut_down()


async def test_what_is_offered() -> None:
    (tool,) = CodeToolset().tools(CodeConfig(timeout=10))
    assert (tool.name, tool.risk, tool.once, tool.untrusted, tool.timeout) == ("run_code", Risk.CODE, True, True, 40.0)
    assert "code" in toolset_kinds()


@pytest.mark.parametrize(
    "config",
    [{"timeout": 0}, {"timeout": 301}, {"memory_mb": 1}, {"languages": []}, {"languages": ["perl"]}, {"x": 1}],
)
async def test_a_wrong_config(config: dict[str, Any]) -> None:
    assert [fault["path"].split(".")[1] for fault in config_faults(CodeConfig, config)] == [next(iter(config))]


PLOT = """
import os, sys
print("hi")
print("bad", file=sys.stderr)
os.mkdir("a")
open("a/plot.png", "wb").write(b"\\x89PNG")
6 * 7
"""


async def test_output_result_and_files(model: Model) -> None:
    told = await model("python", PLOT)
    assert told.pop("ms") >= 0
    assert told == {"result": 42, "stdout": "hi\n", "stderr": "bad\n", "files": ["a/plot.png: 4 bytes, a PNG image"]}
    again = await model("typescript", "const n: number = Deno.readFileSync('a/plot.png').length; n", ["a/plot.png"])
    assert again["result"] == 4
    assert "files" not in again


async def test_what_cannot_be(model: Model) -> None:
    assert "runs python only" in await model.fails("javascript", "1", languages=["python"])
    assert "no 'missing.csv'" in await model.fails("python", "1", ["missing.csv"])
    await model("python", "open('x', 'w').write('x')")
    assert "relative" in await model.fails("python", "1", ["/etc/passwd"])
    failed = await model.fails("python", "print('before')\n1 / 0")
    assert failed.startswith("error: Traceback")
    assert "ZeroDivisionError" in failed
    assert failed.endswith("Printed before:\nbefore\n")
    assert "timeout raises this" in await model.fails("python", "while True: pass", timeout=1)


async def test_long_output_is_cut_in_the_middle(model: Model) -> None:
    told = await model("python", "print('a' * 30_000 + 'z')")
    assert len(told["stdout"]) < 21_000
    assert "characters left out" in told["stdout"]
    assert told["stdout"].endswith("z\n")


async def test_a_file_that_cannot_be_kept_is_said_and_the_others_are(model: Model) -> None:
    told = await model(
        "python", "open('big', 'wb').write(bytes(2_000_000))\nopen('small', 'w').write('x')", max_file_mb=1
    )
    assert told["files"][0].startswith("big: not kept. A file may have 1 MB")
    assert told["files"][1] == "small: 1 byte"


async def test_a_server_without_a_sandbox_says_so(model: Model, settings: Any) -> None:
    settings.SANDBOX_LEVEL = "off"
    assert "SANDBOX_LEVEL" in await model.fails("python", "1")
