"""The parser of provider streams: whatever the cut, the same deltas."""

from collections import deque

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.decoding import StreamReader, decode_chunk
from llm.exceptions import BadAnswer, ProviderError
from llm.sse import MAX_EVENT, SSEParser
from llm.wire import Accumulator, Completion, Delta
from tests.llm.upstream import BODIES, GOOD, USAGE, WORDS


def read(*parts: bytes) -> list[Delta]:
    parser, reader, deltas = SSEParser(), StreamReader(), []
    events = [event for part in parts for event in parser.feed(part)] + parser.close()
    for _, data in events:
        if data != b"[DONE]" and (delta := reader.read(decode_chunk(data))):
            deltas.append(delta)
    return deltas


def answer(*parts: bytes) -> Completion:
    accumulator = Accumulator()
    for delta in read(*parts):
        accumulator.add(delta)
    return accumulator.completion()


def calls(*fragments: list[dict]) -> list[tuple[str, str]]:
    """The calls that come of streamed fragments, as (name, arguments)."""
    parts = [
        f"data: {orjson.dumps({'choices': [{'delta': {'tool_calls': f}}]}).decode()}\n\n".encode() for f in fragments
    ]
    return [(call.name, call.arguments) for call in answer(*parts).tool_calls]


@settings(max_examples=200, deadline=None)
@given(cuts=st.lists(st.integers(0, 2000), max_size=40), line_end=st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_cut_gives_the_same_deltas(cuts: list[int], line_end: bytes) -> None:
    stream = b"\xef\xbb\xbf: comment\n\n" + b"".join(GOOD)
    stream = stream.replace(b"\n", line_end)
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    parts = [stream[start:end] for start, end in zip(places, places[1:], strict=False)]
    assert read(*parts) == read(*GOOD)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300), cut=st.integers(0, 300))
def test_no_bytes_break_the_parser(data: bytes, cut: int) -> None:
    whole, parted = SSEParser(), SSEParser()
    expected = whole.feed(data) + whole.close()
    assert parted.feed(data[:cut]) + parted.feed(data[cut:]) + parted.close() == expected


def test_good_stream() -> None:
    deltas = read(*GOOD)
    assert [delta.text for delta in deltas[:5]] == WORDS
    assert deltas[5] == Delta(finish_reason="stop", model="mock-1")
    assert msgspec.to_builtins(deltas[6].usage) == USAGE
    assert answer(*GOOD).message() == {"role": "assistant", "content": "".join(WORDS)}


def test_multi_line_data_and_names() -> None:
    parser = SSEParser()
    assert parser.feed(b"event: error\ndata: a\ndata:b\n\ndata: c\n\n") == [(b"error", b"a\nb"), (b"", b"c")]


def test_last_event_without_a_blank_line_counts() -> None:
    parser = SSEParser()
    assert parser.feed(b"data: [DONE]") == []
    assert parser.close() == [(b"", b"[DONE]")]


@pytest.mark.parametrize("piece", [b"x" * 2**20, b"data: " + b"x" * 2**20 + b"\n"])
def test_endless_event_is_refused(piece: bytes) -> None:
    parser = SSEParser()
    with pytest.raises(BadAnswer):
        deque(map(parser.feed, [piece] * (MAX_EVENT // 2**20 + 1)), maxlen=0)


@pytest.mark.parametrize(
    ("name", "text", "reasoning"),
    [("parts", "Grüße", "hm"), ("broken-utf8", "a�", ""), ("half-surrogate", "a�", "")],
)
def test_bent_types_are_straightened(name: str, text: str, reasoning: str) -> None:
    found = answer(*BODIES[name])
    assert (found.text, found.reasoning, found.finish_reason) == (text, reasoning, "stop")


@pytest.mark.parametrize("name", ["groq", "usage-null"])
def test_usage_wherever_it_stands(name: str) -> None:
    usage = answer(*BODIES[name]).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (7, 5)


def test_the_last_usage_counts() -> None:
    parts = [
        f'data: {{"choices":[],"usage":{{"prompt_tokens":3,"completion_tokens":{n}}}}}\n\n'.encode() for n in (1, 2)
    ]
    usage = answer(*parts).usage
    assert usage is not None
    assert usage.completion_tokens == 2


@pytest.mark.parametrize("data", [b"{", b"[]", b'"x"', b"1", b'{"choices": [7]}', b'{"choices": {"a": 1}}', b"\xff"])
def test_garbage_is_a_bad_answer(data: bytes) -> None:
    with pytest.raises(BadAnswer):
        StreamReader().read(decode_chunk(data))


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("end_turn", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter"), ("whatever", "stop")],
)
def test_finish_reasons_are_openai_s(reason: str, expected: str) -> None:
    assert answer(f'data: {{"choices":[{{"finish_reason":"{reason}"}}]}}\n\n'.encode()).finish_reason == expected


def test_finish_comes_once_and_an_error_is_none() -> None:
    finish = b'data: {"choices":[{"finish_reason":"stop"}]}\n\n'
    assert read(finish, finish) == [Delta(finish_reason="stop")]
    with pytest.raises(ProviderError):
        read(b'data: {"choices":[{"finish_reason":"error"}]}\n\n')


def function(name: str | None, arguments: object, **more: object) -> dict:
    return {"function": {"name": name, "arguments": arguments}, **more}


def test_fragments_by_index() -> None:
    assert calls(
        [function("a", "", index=0, id="1")],
        [function(None, '{"x"', index=0)],
        [function("b", "", index=1, id="2"), function(None, ": 1}", index=0)],
        [function(None, "{}", index=1)],
    ) == [("a", '{"x": 1}'), ("b", "{}")]


def test_missing_index_follows_id_name_or_order() -> None:
    assert calls([function("a", "{", id="1")], [function(None, "}")], [function("b", "{}")]) == [
        ("a", "{}"),
        ("b", "{}"),
    ]
    assert calls([function("a", "{}", id="1"), function("b", "{}", id="2")]) == [("a", "{}"), ("b", "{}")]


def test_repeated_index_with_another_id_is_another_call() -> None:
    fragments = [[function("a", "{}", index=0, id="1")], [function("a", '{"x":2}', index=0, id="2")]]
    assert calls(*fragments) == [("a", "{}"), ("a", '{"x":2}')]


def test_repeated_index_without_ids_follows_the_name() -> None:
    assert calls([function("a", "{}", index=0)], [function("b", "{}", index=0)]) == [("a", "{}"), ("b", "{}")]


def test_repeated_id_and_name_are_one_call() -> None:
    fragments = [[function("a", part, index=0, id="1")] for part in ('{"x"', ":1}")]
    assert calls(*fragments) == [("a", '{"x":1}')]


def test_arguments_as_an_object_and_null_index() -> None:
    assert calls([function("a", {"x": [1]}, index=None, id=7)]) == [("a", '{"x":[1]}')]


def test_calls_decide_the_finish_and_get_ids() -> None:
    data = {"choices": [{"delta": {"tool_calls": [function("a", "{}")]}, "finish_reason": "stop"}]}
    found = answer(b"data: " + orjson.dumps(data) + b"\n\n")
    assert found.finish_reason == "tool_calls"
    assert found.tool_calls[0].id.startswith("call_")
    assert found.message()["content"] is None


def test_what_a_provider_wants_back_goes_back() -> None:
    extra = {"google": {"thought_signature": "s"}}
    data = {"choices": [{"delta": {"tool_calls": [function("a", "{}", id="1", extra_content=extra)]}}]}
    assert answer(b"data: " + orjson.dumps(data) + b"\n\n").message()["tool_calls"][0]["extra_content"] == extra


def test_refusal_and_reasoning() -> None:
    data = {"choices": [{"delta": {"refusal": "No.", "reasoning": "bad"}, "finish_reason": "refusal"}]}
    found = answer(b"data: " + orjson.dumps(data) + b"\n\n")
    assert (found.refusal, found.reasoning, found.finish_reason) == ("No.", "bad", "content_filter")
    assert found.message()["refusal"] == "No."
