"""Pages that are kept as they came, where tools that read files find them."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest

from core.ids import uuid7
from tests.toolsets.tools import Recorded
from tests.toolsets.web_site import ARTICLE, pdf, site
from tests.toolsets.workplace import Agent, base
from toolsets.base import ToolCallContext
from toolsets.kinds.web import keeping
from toolsets.kinds.web.config import WebConfig
from toolsets.registry import toolset_kinds
from toolsets.toolbox import GrantedToolset

__all__ = ["base"]
pytestmark = pytest.mark.usefixtures("base")


@pytest.fixture(autouse=True)
def _loopback_is_allowed(settings: Any) -> None:
    settings.ALLOW_PRIVATE_TOOLS = True


def session() -> ToolCallContext:
    return ToolCallContext(uuid7(), run_id=uuid7(), session_id=uuid7())


async def read(url: str, context: ToolCallContext, **config: Any) -> dict[str, Any]:
    box = Recorded(GrantedToolset("web", "1", toolset_kinds()["web"].tools(WebConfig(**config))))
    box._context = context
    text = await box.ask("fetch_url", json.dumps({"url": url}))
    assert not box.results[-1].is_error, text
    found: dict[str, Any] = json.loads(text)
    return found


async def test_the_files_tools_read_what_was_fetched() -> None:
    context = session()
    agent = Agent(context)
    async with site() as held:
        page = await read(held.put("/mills/", ARTICLE), context)
        again = await read(held.put("/mills/", ARTICLE), context)
        table = await read(held.put("/table", "a,b\n1,2", "text/csv"), context)
    assert page["file"] == again["file"]
    assert (page["file"].startswith(".tmp/127.0.0.1-"), page["file"].endswith(".html")) == (True, True)
    assert "never shown" in await agent.ok("grep_file", filename=page["file"], regex="<script>")
    assert "1,2" in await agent.ok("read_lines", filename=table["file"], start=1, end=2)
    assert sorted(await agent.names()) == sorted({page["file"], table["file"]})


async def test_the_bytes_are_those_of_the_server(base: Path) -> None:
    body, context = pdf("The sea goes out."), session()
    async with site() as held:
        page = await read(held.put("/tides.pdf", body, "application/pdf"), context)
    folder = base / str(context.tenant_id) / f"session-{context.session_id}"
    assert (folder / page["file"]).read_bytes() == body


async def test_whose_workspace_it_is(base: Path) -> None:
    nobody, run = ToolCallContext(uuid7()), ToolCallContext(uuid7(), run_id=uuid7())
    async with site() as held:
        url = held.put("/mills/", ARTICLE)
        for context, config, folder in [
            (nobody, {}, None),
            (session(), {"keep": "no"}, None),
            (run, {}, f"run-{run.run_id}"),
            (nobody, {"keep": "tenant"}, "shared"),
            (session(), {"keep": "tenant"}, "shared"),
        ]:
            page = await read(url, context, **config)
            assert ("file" in page) == (folder is not None)
            assert "not_kept" not in page
            kept = [path.parent.parent.name for path in (base / str(context.tenant_id)).glob("*/.tmp/*")]
            assert kept == ([folder] if folder else []), context
            for path in (base / str(context.tenant_id)).glob("*/.tmp/*"):
                path.unlink()


async def test_a_full_workspace_fails_no_fetch() -> None:
    context = session()
    agent = Agent(context)
    await agent.ok("create_file", filename="big.txt", content="x" * 1_000_000)
    async with site() as held:
        page = await read(held.put("/mills/", ARTICLE), context, quota_mb=1)
    assert "mill of the 40th bay" in page["text"]
    assert "file" not in page
    assert "quota_mb raises it" in page["not_kept"]
    assert await agent.names() == ["big.txt"]


async def test_other_writers_fail_no_fetch(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "KEEP_SECONDS", 0.2)
    context = session()
    await Agent(context).ok("create_file", filename="a.txt", content="x")
    lock = os.open(base / str(context.tenant_id) / f"session-{context.session_id}.lock", os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        async with site() as held:
            page = await read(held.put("/mills/", ARTICLE), context)
    finally:
        os.close(lock)
    assert page["not_kept"] == "Others were writing to the workspace."


async def test_a_disk_that_fails_fails_no_fetch(settings: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    settings.WORKSPACE_DIR = tmp_path / "file"
    async with site() as held:
        page = await read(held.put("/mills/", ARTICLE), session())
    assert page["not_kept"] == "The server could not write it."
    assert str(tmp_path) not in json.dumps(page)
