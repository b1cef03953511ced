"""The tools of the kind `files`, as a model calls them."""

import asyncio
import os
import re as backtracking
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from core.ids import uuid7
from core.validation import config_faults
from tests.toolsets.workplace import Agent, base, folder_of, in_session, way
from toolsets.base import Risk
from toolsets.kinds.files import reading
from toolsets.kinds.files.toolset import FilesConfig, FilesToolset

__all__ = ["base", "way"]


@pytest.fixture
def agent(base: Path) -> Agent:
    return in_session()


def stored(agent: Agent, base: Path, name: str, content: bytes) -> None:
    """Written as another kind may: past the tools and their limits."""
    path = folder_of(agent, base) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_what_is_offered() -> None:
    tools = {tool.name: tool for tool in FilesToolset().tools(FilesConfig())}
    assert {name for name, tool in tools.items() if tool.risk == Risk.READ} == {"read_lines", "grep_file", "list_files"}
    changing = {name for name, tool in tools.items() if tool.risk == Risk.WRITE}
    assert changing == {"create_file", "edit_file", "append_file", "delete_file"}
    assert {name for name, tool in tools.items() if not tool.parallel} == changing
    offered = {tool.name for tool in FilesToolset().tools(FilesConfig(read_only=True))}
    assert offered == set(tools) - changing


@pytest.mark.parametrize(
    "config",
    [{"scope": "world"}, {"quota_mb": 0}, {"quota_mb": 10_001}, {"max_file_mb": 51}, {"max_file_mb": "1"}, {"x": 1}],
)
def test_a_wrong_config(config: dict[str, Any]) -> None:
    assert [fault["path"] for fault in config_faults(FilesConfig, config)] == [f"config.{next(iter(config))}"]


async def test_the_life_of_a_file(agent: Agent, way: str) -> None:
    assert await agent.names() == []
    assert await agent.ok("create_file", filename="notes/a.md", content="Grüße\n") == "'notes/a.md' has 8 bytes now."
    assert "exists already" in await agent.no("create_file", filename="notes/a.md", content="x")
    await agent.ok("append_file", filename="notes/a.md", content="two\n")
    await agent.ok("append_file", filename="log", content="first\n")
    await agent.ok("edit_file", filename="notes/a.md", old="Grüße", new="Salut")
    assert await agent.ok("read_lines", filename="notes/a.md") == "Salut\ntwo\n"
    assert await agent.ok("list_files") == ('{"files":[{"name":"log","bytes":6},{"name":"notes/a.md","bytes":10}]}')
    assert await agent.names("notes") == ["notes/a.md"]
    await agent.ok("delete_file", filename="notes/a.md")
    assert "has no 'notes/a.md'" in await agent.no("delete_file", filename="notes/a.md")
    assert "has no 'notes'" in await agent.no("list_files", folder="notes")
    assert await agent.names() == ["log"]


async def test_an_edit_is_of_one_place(agent: Agent) -> None:
    await agent.ok("create_file", filename="f", content="a b a\r\naXaXa")
    assert "more than once" in await agent.no("edit_file", filename="f", old="a", new="c")
    assert "more than once" in await agent.no("edit_file", filename="f", old="aXa", new="c")  # they overlap
    assert "is not in the file" in await agent.no("edit_file", filename="f", old="A B", new="c")
    assert "has no 'g'" in await agent.no("edit_file", filename="g", old="a", new="c")
    assert "old" in await agent.no("edit_file", filename="f", old="", new="c")
    await agent.ok("edit_file", filename="f", old=" b a\r\n", new="\\1 $1")
    assert await agent.ok("read_lines", filename="f") == "a\\1 $1aXaXa"


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\0", b"text\n" * 3 + b"\0", b"\xff\xfe", b"caf\xe9\n", b"\xc3"])
async def test_a_binary_file_is_refused(agent: Agent, base: Path, content: bytes) -> None:
    stored(agent, base, "f", content)
    for tool, arguments in (
        ("read_lines", {}),
        ("grep_file", {"regex": "t"}),
        ("append_file", {"content": "x"}),
        ("edit_file", {"old": "t", "new": "x"}),
    ):
        assert "is binary" in await agent.no(tool, filename="f", **arguments)
    assert (folder_of(agent, base) / "f").read_bytes() == content
    await agent.ok("delete_file", filename="f")


async def test_no_binary_file_is_made(agent: Agent) -> None:
    assert "NUL" in await agent.no("create_file", filename="f", content="a\0b")
    await agent.ok("create_file", filename="f", content="a")
    assert "NUL" in await agent.no("append_file", filename="f", content="\0")
    assert "NUL" in await agent.no("edit_file", filename="f", old="a", new="\0")
    assert "arguments are wrong" in await agent.ask("create_file", '{"filename": "g", "content": "\\ud800"}')
    assert await agent.names() == ["f"]


async def test_lines_by_their_numbers(agent: Agent) -> None:
    await agent.ok("create_file", filename="f", content="one\r\ntwo\n\nfour")
    for start, end, expected in [
        (1, None, "one\r\ntwo\n\nfour"),
        (2, 3, "two\n\n"),
        (4, 4, "four"),
        (4, 99, "four"),
        (1, 1, "one\r\n"),
    ]:
        assert await agent.ok("read_lines", filename="f", start=start, end=end) == expected
    assert await agent.no("read_lines", filename="f", start=5) == "The file has 4 lines."
    assert "before" in await agent.no("read_lines", filename="f", start=3, end=2)
    assert "start" in await agent.no("read_lines", filename="f", start=0)
    await agent.ok("create_file", filename="empty", content="")
    assert await agent.ok("read_lines", filename="empty") == "[The file is empty.]"
    assert await agent.no("read_lines", filename="empty", start=2) == "The file has 0 lines."


async def read_on(agent: Agent, **arguments: Any) -> tuple[str, int]:
    """The whole file, by doing what the answers say, and how many calls it took."""
    text, calls = "", 0
    while True:
        answer, calls = await agent.ok("read_lines", filename="f", **arguments), calls + 1
        more = backtracking.fullmatch(r"(.*)\[More follows: read on with start=(\d+)\.\]", answer, backtracking.DOTALL)
        if more is None:
            return text + answer, calls
        text, arguments["start"] = text + more[1], int(more[2])


@pytest.mark.parametrize(
    ("line", "count", "calls"), [("x", 5000, 3), ("é" * 100, 1000, 3), ("x" * 49_999, 4, 2), ("x" * 60_000, 3, 3)]
)
async def test_a_long_file_is_read_on(agent: Agent, base: Path, line: str, count: int, calls: int) -> None:
    content = "".join(f"{line}\n" for _ in range(count))
    stored(agent, base, "f", content.encode())
    assert await read_on(agent) == (content, calls)
    assert await read_on(agent, end=count) == (content, calls)


async def test_an_endless_line_is_cut(agent: Agent, base: Path) -> None:
    stored(agent, base, "f", b"one\n" + "é".encode() * 300_000 + b"\nthree\n")
    assert await agent.ok("read_lines", filename="f", end=1) == "one\n"
    assert (await agent.ok("read_lines", filename="f")).endswith("start=2.]")
    cut = await agent.ok("read_lines", filename="f", start=2)
    assert cut.startswith("é" * 50_000 + "\n[Line 2 is longer than 100,000 bytes")
    assert cut.endswith("read on with start=3.]")
    assert await agent.ok("read_lines", filename="f", start=3) == "three\n"
    stored(agent, base, "f", b"x" + "é".encode() * 300_000)  # cut within a character
    assert (await agent.ok("read_lines", filename="f")).startswith("x" + "é" * 49_999 + "\n[Line 1")


async def test_grep(agent: Agent) -> None:
    await agent.ok("create_file", filename="f", content="Alpha\r\nbeta\ngamma 12\n\nalphabet")
    for regex, expected in [
        ("alpha", "5: alphabet"),
        ("(?i)^alpha$", "1: Alpha"),
        (r"\d{2}$", "3: gamma 12"),
        ("^$", "4: "),
        ("(a)(l)?", "1: Alpha\n2: beta\n3: gamma 12\n5: alphabet"),
        ("delta", "[No line matches.]"),
        ("beta\ngamma", "[No line matches.]"),
    ]:
        assert await agent.ok("grep_file", filename="f", regex=regex) == expected
    assert await agent.ok("grep_file", filename="f", regex="a", start=4) == "5: alphabet"


@pytest.mark.parametrize("regex", ["(", "a(?=b)", r"(a)\1", "(?<!x)y", "a{1001}", "[z-a]", r"\p{Klingon}", "*"])
async def test_what_re2_refuses_is_explained(agent: Agent, regex: str) -> None:
    await agent.ok("create_file", filename="f", content="a")
    assert "no backreferences, refuses this regex" in await agent.no("grep_file", filename="f", regex=regex)


@pytest.mark.parametrize(
    "regex", [r"(\pL{1,90}){1,9}", r"(?i)\pL{1,1000}", r"\pL{1,30}", "(.{1,100}a){1,9}b{1,1000}c{1,1000}"]
)
async def test_a_huge_regex_is_refused(agent: Agent, regex: str) -> None:
    await agent.ok("create_file", filename="f", content="a")
    assert "too large" in await agent.no("grep_file", filename="f", regex=regex)


async def test_hits_are_bounded(agent: Agent, base: Path) -> None:
    stored(agent, base, "f", b"hit\n" * 450)
    found: list[str] = []
    start = 1
    for expected in (201, 401):
        *lines, last = (await agent.ok("grep_file", filename="f", regex="hit", start=start)).splitlines()
        found, start = found + lines, expected
        assert last == f"[Stopped: one call has at most 200 hits, 5 s and 100 MB. Go on with start={expected}.]"
    found += (await agent.ok("grep_file", filename="f", regex="hit", start=start)).splitlines()
    assert found == [f"{number}: hit" for number in range(1, 451)]


async def test_a_hit_in_a_long_line_shows_what_is_around_it(agent: Agent, base: Path) -> None:
    stored(agent, base, "f", b"one\n" + b"x" * 5_000_000 + b"needle" + b"y" * 500 + b"\nneedle\n")
    first, second = (await agent.ok("grep_file", filename="f", regex="needle")).splitlines()
    assert first.startswith("2: …xxx")
    assert "xneedley" in first
    assert first.endswith("yyy…")
    assert len(first) < 310
    assert second == "3: needle"


async def test_grep_stops_by_itself(agent: Agent, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(agent, base, "f", b"hit\n" + (b"x" * 999 + b"\n") * 200_000)
    monkeypatch.setattr(reading, "MAX_SECONDS", 0.05)
    began = time.monotonic()
    found = await agent.ok("grep_file", filename="f", regex="hit|.{1,1000}z")
    assert time.monotonic() - began < 2
    assert found.startswith("1: hit\n[Stopped: ")
    monkeypatch.setattr(reading, "MAX_SECONDS", 60)
    monkeypatch.setattr(reading, "MAX_SCAN", 100_000)
    assert (await agent.ok("grep_file", filename="f", regex="hit")).endswith("Go on with start=102.]")
    assert (await agent.ok("grep_file", filename="f", regex="x$", start=102)).startswith("102: …xxx")


async def test_a_grep_that_nobody_waits_for_ends(agent: Agent, base: Path) -> None:
    stored(agent, base, "f", (b"x" * 999 + b"\n") * 50_000)
    before = threading.active_count()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await agent.ok("grep_file", filename="f", regex=".{1,1000}z")
    began = time.monotonic()
    await asyncio.to_thread(lambda: None)
    loop: Any = asyncio.get_running_loop()
    loop._default_executor.shutdown(wait=True)
    loop._default_executor = None
    assert time.monotonic() - began < 1.5  # MAX_SECONDS is 5
    assert threading.active_count() <= before + 1


EVIL = [
    *["(a+)+$", "(a|a)*$", "(a|aa)+$", "(a|a?)+$", "(a*)*$", "(a*)*b", "(a+)*b", "([a-z]+)*$", "([a-z]+)+[A-Z]"],
    *["(.*)*x!", "(.*a){12}$", "(.*a){20}b", "(.+)+c", "(a?){30}a{30}$", "a?" * 40 + "a" * 40 + "$", "(x+x+)+y"],
    *["(aa|a)*c", "(aa|aab?)+c", "((a+)+)+$", "(((a*)*)*)*b", "(a+a+)+b", "a*a*a*a*a*a*b", "(a|b|ab)*c", "(ab|a|b)+$"],
    *[r"(\w+\s?)*$", r"(\w+\s*)+:", r"^(\w+)*$", r"(\d+)*x", r"^(\s+|\S+)*$", r"(\w|\W)*\d$", r"\s+$", r"(\S+\s+)*z"],
    *[r"^(([a-z])+.)+[A-Z]([a-z])+$", r"^([a-zA-Z0-9])(([\-.]|[_]+)?([a-zA-Z0-9]+))*(@){1}[a-z0-9]+[.]{1}$"],
    *[r"^(?:[\w.-]+)*@(?:[\w-]+\.)+\w+$", r"(?i)(<[^>]*>)*<!", r"<(.|\n)*?>$", r"(.*?,){11}P", r"^(.*?,){30}!$"],
    *[
        r"(\(([^()]|\([^()]*\))*)+$",
        r"([^x]*x?)*y",
        r"(?:a|[^b])*b$",
        "(a{1,9}){1,9}b",
        "(a{0,20}){0,20}b",
        ".{1,900}!!",
    ],
    *[
        "[ab]*a[ab]{200}c",
        "(a|b)*a(a|b){99}c",
        r"(\pL|\pN)*!!",
        r"(\b\w+\b ?)*!!",
        "(?s)(.|a)*?b$",
        "(|a)+$",
        "(|a|aa)*b",
    ],
]


def test_evil_patterns_take_linear_time(base: Path) -> None:
    """On each of these lines Python's own `re` takes exponential or cubic time for many of them."""
    assert len(set(EVIL)) == len(EVIL) >= 50
    agent = in_session()
    long = ["a" * 5000 + "!", "ab" * 2500 + "!", "a " * 2500 + "!", "a," * 2500, "<" * 5000, " " * 5000 + "x"]
    stored(agent, base, "f", "\n".join(long).encode())
    path, slowest = folder_of(agent, base) / "f", {}
    for regex in ["warm up", *EVIL]:
        with path.open("rb") as file:
            began = time.perf_counter()
            reading.hits(file, regex, 1, threading.Event())
            slowest[regex] = time.perf_counter() - began
    del slowest["warm up"]
    worst = max(slowest, key=lambda regex: slowest[regex])
    print(f"{len(EVIL)} patterns, the slowest {slowest[worst] * 1000:.1f} ms: {worst}")
    assert slowest[worst] < 0.5
    began = time.perf_counter()
    assert backtracking.search("(a+)+$", "a" * 22 + "!") is None
    assert time.perf_counter() - began > slowest["(a+)+$"]  # which has 227 times as much of it to read


async def test_the_list_is_bounded(agent: Agent, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_LISTED", 3)
    for number in range(5):
        stored(agent, base, f"many/{number}", b"")
    text = await agent.ok("list_files")
    assert await agent.names() == ["many/0", "many/1", "many/2"]
    assert "These are the first 3 files" in text


async def test_appends_at_once_are_all_kept(agent: Agent, base: Path) -> None:
    other = Agent(agent._context)
    calls = [
        each.ok("append_file", filename="log", content=f"{name} {number}\n")
        for number in range(25)
        for name, each in (("a", agent), ("b", other))
    ]
    await asyncio.gather(*calls)
    lines = (await agent.ok("read_lines", filename="log")).splitlines()
    assert sorted(lines) == sorted(f"{name} {number}" for number in range(25) for name in "ab")
    assert os.listdir(folder_of(agent, base)) == ["log"]


async def test_a_file_is_created_once(agent: Agent) -> None:
    answers = await asyncio.gather(
        *(agent.ask("create_file", f'{{"filename": "f", "content": "{n}"}}') for n in range(9))
    )
    assert len([answer for answer in answers if "exists already" in answer]) == 8


async def test_sessions_and_tenants_are_apart(base: Path, way: str) -> None:
    tenant, session = uuid7(), uuid7()
    one, again = in_session(tenant, session), in_session(tenant, session)
    others = [in_session(tenant), in_session(None, session), in_session(tenant, session, scope="tenant")]
    await one.ok("create_file", filename="private", content="mine")
    assert await again.ok("read_lines", filename="private") == "mine"  # another run of the session
    for other in others:
        assert await other.names() == []
        for tool, arguments in (("read_lines", {}), ("grep_file", {"regex": "."}), ("delete_file", {})):
            assert "has no 'private'" in await other.no(tool, filename="private", **arguments)
        await other.ok("create_file", filename="private", content="theirs")
    assert await one.ok("read_lines", filename="private") == "mine"


async def test_a_tenants_workspace_is_of_all_its_sessions_and_of_no_other_tenant(base: Path) -> None:
    tenant = uuid7()
    writer, reader = in_session(tenant, scope="tenant"), in_session(tenant, scope="tenant", read_only=True)
    await writer.ok("create_file", filename="f", content="shared")
    assert await reader.ok("read_lines", filename="f") == "shared"
    assert "no tool 'delete_file'" in await reader.no("delete_file", filename="f")
    assert await in_session(scope="tenant").names() == []


async def test_the_limits_of_the_config(base: Path) -> None:
    agent = in_session(quota_mb=2, max_file_mb=1)
    assert "may have 1 MB" in await agent.no("create_file", filename="f", content="x" * 1_000_001)
    await agent.ok("create_file", filename="f", content="x" * 1_000_000)
    assert "may have 1 MB" in await agent.no("append_file", filename="f", content="x")
    await agent.ok("create_file", filename="g", content="x" * 900_000)
    assert "quota_mb raises" in await agent.no("create_file", filename="h", content="x" * 100_001)
    assert await agent.names() == ["f", "g"]
