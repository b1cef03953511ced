import asyncio
import time
from typing import Any

import pytest

from core.ids import uuid7
from core.validation import parse_config
from tests.toolsets.tools import Amount, Recorded, crash, granted, hang, made, refuse
from toolsets.base import Risk, ToolCallContext
from toolsets.events import ToolResult
from toolsets.ledger import Answer, Call, NoLedger
from toolsets.registry import toolset_kinds
from toolsets.toolbox import MAX_CONTENT, Toolbox, tool_index


async def test_a_call_answers_json_and_tells_how_long_it_took() -> None:
    toolbox = Recorded(granted("maths", made("double")))
    assert await toolbox.ask("double") == '{"doubled":42}'
    (result,) = toolbox.results
    assert (result.tool_call_id, result.name, result.is_error) == ("call_1", "double", False)
    assert 0 <= result.ms < 1000


def test_the_model_is_told_name_description_and_schema() -> None:
    (definition,) = tool_index([granted("maths", made("double"))]).definitions
    assert definition["type"] == "function"
    assert definition["function"]["name"] == "double"
    assert definition["function"]["parameters"]["properties"]["amount"]["type"] == "integer"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("{", "Invalid JSON"),
        ("[]", "arguments: "),
        ("null", "arguments: "),
        ("", "amount: Field required"),
        ("{}", "amount: Field required"),
        ('{"amount": "many"}', "amount: "),
        ('{"amount": 1, "colour": "red"}', "colour: Extra inputs"),
        ({"amount": "x"}, "amount: "),
        (None, "amount: Field required"),
        (7, "arguments: "),
    ],
)
async def test_wrong_arguments_are_explained_to_the_model(arguments: Any, words: str) -> None:
    toolbox = Recorded(granted("maths", made("double")))
    text = await toolbox.ask("double", arguments)
    assert text.startswith("The arguments are wrong.")
    assert words in text
    assert toolbox.results[0].is_error


async def test_a_number_in_quotes_is_understood() -> None:
    assert await Recorded(granted("maths", made("double"))).ask("double", '{"amount": "21"}') == '{"doubled":42}'


async def test_a_tools_own_error_is_its_text() -> None:
    toolbox = Recorded(granted("shop", made("buy", refuse)))
    assert await toolbox.ask("buy") == "The shop is closed."
    assert toolbox.results[0].is_error


async def test_a_crash_is_logged_and_tells_the_model_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    text = await Recorded(granted("shop", made("buy", crash))).ask("buy")
    assert text == "The tool failed on the server."
    assert "A tool failed" in caplog.text


async def test_a_tool_that_hangs_is_stopped() -> None:
    began = time.monotonic()
    text = await Recorded(granted("shop", made("buy", hang, timeout=0.05))).ask("buy")
    assert text == "The tool did not finish within 0.05 s."
    assert time.monotonic() - began < 1


async def test_a_cancelled_run_cancels_its_tool() -> None:
    task = asyncio.ensure_future(Recorded(granted("shop", made("buy", hang))).ask("buy"))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("call", [{}, {"id": None, "function": None}, {"id": "x", "function": {"name": "no"}}])
async def test_a_call_of_no_tool_is_explained(call: dict[str, Any]) -> None:
    message = await Recorded(granted("maths", made("double"))).call(call)
    assert message["content"].startswith("There is no tool")
    assert "double" in message["content"]


async def test_a_result_is_storable_and_bounded() -> None:
    async def odd(arguments: Amount, context: ToolCallContext) -> str:
        return "a\0b\ud800" + "x" * MAX_CONTENT

    text = await Recorded(granted("odd", made("odd", odd))).ask("odd")
    assert "\0" not in text
    assert text.encode()
    assert f"[cut: {MAX_CONTENT + 4} characters in all;" in text


def test_tools_of_one_name_are_prefixed_by_their_toolsets() -> None:
    index = tool_index([granted("shop", made("find"), made("buy")), granted("library", made("find"))])
    assert list(index.tools) == ["shop_find", "buy", "library_find"]
    assert index.clashes == []


def test_a_name_that_stays_ambiguous_or_too_long_is_left_out() -> None:
    twice = tool_index([granted("a", made("b_c"), made("c")), granted("a_b", made("c")), granted("z", made("b_c"))])
    assert twice.clashes == ["a_b_c"]
    long = "x" * 60
    assert tool_index([granted("slug-a", made(long)), granted("slug-b", made(long))]).clashes == [
        f"slug-a_{long}",
        f"slug-b_{long}",
    ]


async def test_a_tool_that_takes_no_company_runs_one_after_the_other() -> None:
    told: list[str] = []

    async def note(arguments: Amount, context: ToolCallContext) -> str:
        told.append(f"{arguments.amount} begins")
        await asyncio.sleep(0.01)
        told.append(f"{arguments.amount} ends")
        return str(arguments.amount)

    def calls(name: str) -> list[dict[str, Any]]:
        wanted = [{"name": name, "arguments": {"amount": number}} for number in range(3)]
        return [{"id": f"c{number}", "function": function} for number, function in enumerate(wanted)]

    toolbox = Recorded(granted("notes", made("alone", note, parallel=False), made("beside", note)))
    answers = await asyncio.gather(*(toolbox.call(call) for call in calls("alone")))
    assert [answer["content"] for answer in answers] == ["0", "1", "2"]
    assert told == [f"{number} {what}" for number in range(3) for what in ("begins", "ends")]
    told.clear()
    await asyncio.gather(*(toolbox.call(call) for call in calls("beside")))
    assert told[:3] == ["0 begins", "1 begins", "2 begins"]


class Counted(NoLedger):
    """A ledger that notes what was begun."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.keys: set[str] = set()

    async def begin(self, call: Call, *, once: bool) -> Answer | None:
        self.begun += [call.tool] if once else []
        return None

    async def finish(self, call: Call, answer: Answer, *, begun: bool) -> None:
        self.keys.add(call.key)


async def test_only_what_must_not_be_repeated_is_begun_beforehand() -> None:
    tools = [
        made("looks"),
        made("fetches", risk=Risk.EGRESS, repeatable=True),
        made("sends", risk=Risk.EGRESS),
        made("writes", risk=Risk.WRITE),
        made("runs", risk=Risk.CODE),
    ]
    ledger = Counted()

    async def emit(result: ToolResult) -> None:
        """Nobody listens."""

    index = tool_index([granted("all", *tools)])
    toolbox = Toolbox(index, emit=emit, context=ToolCallContext(uuid7()), ledger=ledger)
    for _ in range(2):
        for name in index.tools:
            await toolbox.call({"id": "c", "function": {"name": name, "arguments": {"amount": 1}}})
    assert ledger.begun == ["sends", "writes", "runs"] * 2
    assert len(ledger.keys) == 10  # the same call twice is two calls


async def test_a_call_that_is_told_again_counts_as_the_one_that_was_made() -> None:
    """Another attempt of a run gives the calls that follow it the same keys."""
    call = {"id": "c", "function": {"name": "writes", "arguments": {"amount": 1}}}

    async def emit(result: ToolResult) -> None:
        """Nobody listens."""

    async def keys(*, told: int, made_now: int) -> set[str]:
        ledger, index = Counted(), tool_index([granted("all", made("writes", risk=Risk.WRITE))])
        toolbox = Toolbox(index, emit=emit, context=ToolCallContext(uuid7()), ledger=ledger)
        for _ in range(told):
            await toolbox.answer(call, "written")
        for _ in range(made_now):
            await toolbox.call(call)
        return ledger.keys

    first, both = await keys(told=0, made_now=1), await keys(told=0, made_now=2)
    assert await keys(told=1, made_now=1) == both - first


def test_our_kinds_say_what_may_be_repeated() -> None:
    config = {"smtp": {"host": "a.example", "from_address": "a@a.example"}, "imap": {"host": "a.example", "user": "a"}}
    mail = toolset_kinds()["email"]
    once = {tool.name: tool.once for tool in mail.tools(parse_config(mail.Config, config))}
    assert once == {"search_mail": False, "read_mail": False, "read_attachment_text": False, "send_mail": True}
    web = toolset_kinds()["web"]
    assert [tool.once for tool in web.tools(web.Config())] == [False]
    files = toolset_kinds()["files"]
    once = {tool.name: tool.once for tool in files.tools(files.Config())}
    assert {name for name, value in once.items() if value} == {"create_file", "edit_file", "append_file", "delete_file"}
