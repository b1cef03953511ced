"""How many tokens something takes, guessed from above and as likely, and counted within reason."""

import pytest

from llm.tokens import MOST, Said, asked_at_most, asked_likely, counted
from llm.wire import Delta, ToolCallDelta, Usage


def test_what_a_provider_claims_is_kept_within_reason() -> None:
    absurd = counted(Usage(10**15, -5, prompt_tokens_details={"cached_tokens": 10**16}))
    assert (absurd.input, absurd.output, absurd.cached) == (MOST, 0, MOST)
    odd = {"cached_tokens": "7", "cache_creation_tokens": 95}
    parts = counted(Usage(100, 50, prompt_tokens_details=odd, completion_tokens_details={"reasoning_tokens": 60}))
    assert (parts.cached, parts.cache_write, parts.reasoning) == (0, 95, 50)


@pytest.mark.parametrize("text", ["a a a a a a", "some plain English words", "这是一个句子", "🌊🌊🌊"])
def test_the_upper_guess_is_above_the_likely_one(text: str) -> None:
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]
    assert asked_at_most(messages, {}) > asked_likely(messages) > 0
    assert asked_at_most(messages, {"tools": [{"type": "function"}]}) > asked_at_most(messages, {})


def test_what_is_attached_counts_by_its_kind_and_size() -> None:
    def asked(part: dict[str, object]) -> int:
        return asked_at_most([{"role": "user", "content": [{"type": "text", "text": "Read"}, part]}], {})

    small, large = ("x" * 100, "x" * 1_000_000)
    assert asked({"type": "file", "file": {"file_data": large}}) > 240_000
    assert 20_000 <= asked({"type": "file", "file": {"file_data": small}}) < 21_000
    assert 2_500 <= asked({"type": "image_url", "image_url": {"url": large}}) < 3_000
    assert 2_500 <= asked({"type": "input_audio", "input_audio": {"data": large}}) < 5_000


def test_an_answer_is_counted_as_it_comes() -> None:
    said = Said()
    said.add(Delta())
    assert (said.anything, said.likely) == (False, 0)
    for _ in range(30):
        said.add(Delta(text="a "))
    said.add(Delta(tool_calls=[ToolCallDelta(0, "1", "name", '{"a": 1}')]))
    assert said.anything
    assert said.at_most >= said.likely >= 30
