"""What counts as progress of a model, in the wire formats of the providers."""

from __future__ import annotations

import json

import pytest

from tests.helpers import child
from turnlock.integrations.content import Lines, pieces_of

SSE = {"content-type": "text/event-stream; charset=utf-8"}


def chat(**delta: object) -> dict[str, object]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]}


CONTENT = {
    "openai text": chat(content="Hi"),
    "openai reasoning": chat(reasoning_content="Hm"),
    "openai refusal": chat(refusal="No"),
    "openai tool's name": chat(
        tool_calls=[{"index": 0, "id": "c", "function": {"name": "ls", "arguments": ""}}]
    ),
    "openai tool's arguments": chat(tool_calls=[{"index": 0, "function": {"arguments": "{"}}]),
    "openai end": {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    "responses text": {"type": "response.output_text.delta", "delta": "Hi"},
    "responses arguments": {"type": "response.function_call_arguments.delta", "delta": "{"},
    "anthropic text": {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "H"}},
    "anthropic thinking": {"type": "content_block_delta", "delta": {"thinking": "Hm"}},
    "anthropic tool": {
        "type": "content_block_start",
        "content_block": {"type": "tool_use", "id": "t", "name": "ls", "input": {}},
    },
    "anthropic tool's input": {"delta": {"type": "input_json_delta", "partial_json": '{"a'}},
    "anthropic end": {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
    "google text": {"candidates": [{"content": {"parts": [{"text": "Hi"}], "role": "model"}}]},
    "google tool": {"candidates": [{"content": {"parts": [{"functionCall": {"name": "ls"}}]}}]},
    "google end": {"candidates": [{"finishReason": "STOP"}]},
    "google code": {
        "candidates": [{"content": {"parts": [{"executableCode": {"code": "1", "language": "P"}}]}}]
    },
    "google code's result": {
        "candidates": [{"content": {"parts": [{"codeExecutionResult": {"outcome": "OUTCOME_OK"}}]}}]
    },
    "google tool's arguments": {
        "candidates": [
            {"content": {"parts": [{"functionCall": {"partialArgs": [{"stringValue": "a"}]}}]}}
        ]
    },
    "responses image": {
        "type": "response.image_generation_call.partial_image",
        "partial_image_b64": "aGk=",
    },
    "responses tool of the provider's": {"type": "response.web_search_call.searching", "n": 1},
    "assistants text": {"delta": {"content": [{"text": {"annotations": [], "value": "Hi"}}]}},
    "anthropic result of its own tool": {
        "content_block": {"type": "web_search_tool_result", "tool_use_id": "t", "content": []}
    },
    "cohere plan": {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I will"}}},
    "copilot reasoning": chat(reasoning_text="Hm"),
    "a text with a key in it": chat(content='"content": ""'),
}
NONE = {
    "openai begins": chat(role="assistant", content=""),
    "openai empty": chat(),
    "openai usage": {"choices": [], "usage": {"total_tokens": 3}},
    "openai no end": {"choices": [{"delta": {"content": ""}, "finish_reason": "null"}]},
    "responses begins": {
        "type": "response.created",
        "response": {
            "output": [],
            "text": {"format": {"type": "text"}},
            "instructions": None,
            "metadata": {"value": "mine", "output": "mine"},
            "prompt": {"id": "p", "variables": {"code": "mine"}},
            "tools": [{"type": "function", "parameters": {"properties": {"code": {}}}}],
        },
    },
    "assistants empty": {"delta": {"content": [{"text": {"annotations": [], "value": ""}}]}},
    "responses empty": {"type": "response.output_text.delta", "delta": ""},
    "anthropic begins": {"type": "message_start", "message": {"content": [], "role": "assistant"}},
    "anthropic block begins": {"content_block": {"type": "text", "text": ""}},
    "anthropic ping": {"type": "ping"},
    "google nothing": {"candidates": [{"content": {"parts": [{"text": ""}]}}]},
    "tools of the request": {"tools": [{"type": "function", "name": "ls"}]},
}


@pytest.mark.parametrize("spaces", [True, False], ids=["spaces", "compact"])
@pytest.mark.parametrize("event", CONTENT.values(), ids=CONTENT.keys())
def test_an_event_with_content_counts(event: object, spaces: bool) -> None:
    data = json.dumps(event, separators=None if spaces else (",", ":"))
    assert pieces_of(SSE).counts(f"event: x\ndata: {data}\n\n".encode())


@pytest.mark.parametrize("event", NONE.values(), ids=NONE.keys())
def test_an_event_without_content_does_not(event: object) -> None:
    assert not pieces_of(SSE).counts(f"data: {json.dumps(event)}\n\n".encode())


@pytest.mark.parametrize("name", ["openai text", "anthropic end", "google text"])
def test_an_event_over_several_lines_counts_by_the_texts_in_it(name: str) -> None:
    assert pieces_of(SSE).counts(over_lines(CONTENT[name]))


@pytest.mark.parametrize("event", NONE.values(), ids=NONE.keys())
def test_so_does_one_without_content_not(event: object) -> None:
    assert not pieces_of(SSE).counts(over_lines(event))


def over_lines(event: object) -> bytes:
    lines = json.dumps(event, indent=2).splitlines()
    return "".join(f"data: {line}\n" for line in lines).encode() + b"\n"


def test_a_text_in_quotation_marks_is_one() -> None:
    assert pieces_of(SSE).counts(b'data: "Hi"\n\n')


@pytest.mark.parametrize(
    "line", [": ping", "", "event: ping", "id: 7", "retry: 10", "data:", "data: "]
)
def test_what_is_no_data_does_not_count(line: str) -> None:
    assert not pieces_of(SSE).counts(f"{line}\n\n".encode())


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_an_event_counts_once_it_is_whole_however_it_was_cut(end: str) -> None:
    pieces = pieces_of(SSE)
    data = f"data: {json.dumps(chat(content='Hi'))}{end}{end}".encode()
    counted = [pieces.counts(data[n : n + 1]) for n in range(len(data))]
    assert counted.count(True) == 1
    assert not any(counted[: len(data) - 2 * len(end)])


def test_the_end_of_a_stream_counts() -> None:
    assert pieces_of(SSE).counts(b"data: [DONE]\n\n")


def test_lines_of_json_are_events_too() -> None:
    pieces = pieces_of({"content-type": "application/x-ndjson"})
    assert not pieces.counts(b'{"message": {"role": "assistant", "content": ""}, "done": false}\n')
    assert pieces.counts(b'{"message": {"role": "assistant", "content": "Hi"}, "done": false}\n')


def test_an_answer_in_one_piece_is_no_progress_until_it_is_there() -> None:
    assert not pieces_of({"content-type": "application/json"}).counts(b'{"content": "Hi"')


@pytest.mark.parametrize(
    "headers",
    [{**SSE, "content-encoding": "br"}, {"content-type": "audio/mpeg"}, {}],
    ids=["compressed", "audio", "untold"],
)
def test_what_nobody_can_look_into_counts_as_it_comes(headers: dict[str, str]) -> None:
    assert pieces_of(headers).counts(b"\x01")


def test_a_chunk_that_passed_unseen_is_counted_by_no_later_one() -> None:
    """Or else a ping, much later, would be the progress that this one was."""
    pieces = pieces_of(SSE)
    pieces.passes(b'data: {"content": "Hi"}\n\n')
    assert not pieces.counts(b": ping\n\n")


@pytest.mark.parametrize("cut", [1, 6, 12, 22])
def test_an_event_of_which_the_beginning_passed_unseen_counts_once_it_is_whole(cut: int) -> None:
    pieces = pieces_of(SSE)
    event = b'data: {"content": "Hi"}\n\n'
    pieces.passes(b": ping\n\n" + event[:cut])
    pieces.passes(event[cut : cut + 1])
    assert pieces.counts(event[cut + 1 :])


def test_a_line_without_an_end_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnlock.integrations.content._LINE_MAX", 10)
    pieces = Lines(b"data:")
    assert pieces.counts(b"x" * 11)
    assert not pieces.counts(b"x" * 9)


HOSTILE = """
    import re
    from turnlock.integrations.content import _KEYS, pieces_of
    for word in {*re.findall(rb"[A-Za-z_.]+", _KEYS)}:
        for rest in (b'"', b'":', b'":[', b'":{', b'":{"name"', b'":{"name":', b'":{"value":'):
            line = b'data: {"' + word + rest + b" " * 300_000 + b"x\\n"
            pieces_of({"content-type": "text/event-stream"}).counts(line)
    print("looked through")
"""


def test_no_line_takes_longer_than_its_length() -> None:
    """While an expression looks, no other thread runs: not even the watchdog's."""
    with child(HOSTILE) as process:
        process.expect("looked through")
