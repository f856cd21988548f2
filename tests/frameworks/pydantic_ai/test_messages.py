"""Messages come back as they were, others can read them, and what others wrote can be read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import (
    BinaryContent,
    ImageUrl,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    NativeToolCallPart,
    NativeToolReturnPart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.usage import RequestUsage

import turnlock
from turnlock.integrations.pydantic_ai import TurnlockSession
from turnlock.integrations.pydantic_ai.healing import healed
from turnlock.integrations.pydantic_ai.messages import NATIVE, entries_of, messages_of
from turnlock.transcript.entries import Entry
from turnlock.transcript.history import messages as plain_messages

from .models import Scripted, check_acceptable, said

WHEN = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
IMAGE = BinaryContent(b"\x89PNG\0\xff", media_type="image/png")

RICH: list[ModelMessage] = [
    ModelRequest(
        parts=[
            SystemPromptPart("be brief", timestamp=WHEN),
            UserPromptPart(
                ["look at", IMAGE, ImageUrl("https://example.com/a.png")], timestamp=WHEN
            ),
        ],
        timestamp=WHEN,
        instructions="always",
        run_id="r1",
        metadata={"mine": [1, None]},
    ),
    ModelResponse(
        parts=[
            ThinkingPart("hm", signature="sig", id="t1", provider_name="openai"),
            TextPart("I look."),
            ToolCallPart("look", '{"at": null}', tool_call_id="c1"),
            ToolCallPart("zoom", {"by": 2.5, "deep": {"a": None}}, tool_call_id="c2"),
        ],
        usage=RequestUsage(input_tokens=7, output_tokens=3),
        model_name="gpt-x",
        provider_name="openai",
        timestamp=WHEN,
        provider_details={"finish_reason": "tool_calls"},
        provider_response_id="resp-1",
        finish_reason="tool_call",
        run_id="r1",
    ),
    ModelRequest(
        parts=[
            ToolReturnPart("look", {"seen": ["a", None]}, tool_call_id="c1", timestamp=WHEN),
            ToolReturnPart("zoom", "no", tool_call_id="c2", timestamp=WHEN, metadata={"k": 1}),
            UserPromptPart("and?", timestamp=WHEN),
        ],
        timestamp=WHEN,
        run_id="r1",
    ),
]


def through_json(messages: Sequence[ModelMessage]) -> list[Entry]:
    made = [entry for message in messages for entry in entries_of(message)]
    return [json.loads(json.dumps(entry)) for entry in made]


def without_stamps(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    for message in messages:
        stamps = dict(message.metadata or {})
        assert stamps.pop("turnlock")
        message.metadata = stamps or None
    return list(messages)


def test_a_message_comes_back_as_it_was() -> None:
    # Their own form makes an image of bytes that are one.
    as_they_store_it = ModelMessagesTypeAdapter.validate_json(
        ModelMessagesTypeAdapter.dump_json(RICH)
    )
    assert without_stamps(messages_of(through_json(RICH))) == as_they_store_it


def test_every_other_reader_finds_the_same_in_the_common_form() -> None:
    assert plain_messages(through_json(RICH)) == [
        {"role": "user", "content": "look at\n[image/png]\n[https://example.com/a.png]"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "look", "arguments": '{"at": null}'},
                },
                {
                    "id": "c2",
                    "type": "function",
                    "function": {"name": "zoom", "arguments": '{"by": 2.5, "deep": {"a": null}}'},
                },
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": '{"seen":["a",null]}'},
        {"role": "tool", "tool_call_id": "c2", "content": "no"},
        {"role": "user", "content": "and?"},
    ]


def test_a_form_that_this_version_does_not_know_is_read_from_the_common_one() -> None:
    """As a newer pydantic-ai may have written it. Nothing is told twice."""
    entries = through_json(RICH)
    for entry in entries:
        if isinstance(entry[NATIVE], dict):
            entry[NATIVE] = {"kind": "of the future"}
    assert said(messages_of(entries)) == [
        "user:look at\n[image/png]\n[https://example.com/a.png]",
        "model:I look.",
        *("call:c1", "call:c2", 'result:c1={"seen":["a",null]}', "result:c2=no", "user:and?"),
    ]


def test_what_other_programs_wrote_is_read(store: turnlock.Store) -> None:
    """A session that the gateway, or a loop of one's own, began."""
    with store.turn("main/a") as turn:
        turn.append(turnlock.user("hello"), turnlock.assistant("hi", model="m"))
    model = Scripted()
    agent: Agent[None, str] = Agent(model.model, capabilities=[TurnlockSession(store, "main/a")])
    asyncio.run(agent.run("again"))
    assert model.heard == [["user:hello", "model:hi", "user:again"]]
    with store.turn("main/a") as turn:
        assert [message["content"] for message in turn.messages()] == [
            *("hello", "hi", "again", "re: again")
        ]


def test_white_space_that_other_programs_wrote_is_not_sent(store: turnlock.Store) -> None:
    """Anthropic refuses it, and with it every later run."""
    with store.turn("main/a") as turn:
        turn.append(
            turnlock.user(" \n"), turnlock.assistant("\t", model="m"), turnlock.user("hello")
        )
    assert said(messages_of(list(store.read("main/a")))) == ["user:hello"]


def test_a_message_that_only_pydantic_ai_knows_is_kept() -> None:
    only: list[ModelMessage] = [ModelRequest(parts=[SystemPromptPart("be brief")])]
    entries = through_json(only)
    assert [entry["type"] for entry in entries] == ["custom"]
    assert plain_messages(entries) == []
    assert without_stamps(messages_of(entries)) == only


# Healing


def request(*parts: Any) -> ModelRequest:
    return ModelRequest(parts=list(parts))


def response(*parts: Any, **fields: Any) -> ModelResponse:
    return ModelResponse(parts=list(parts), **fields)


ASK, TOLD = UserPromptPart("ask"), TextPart("told")
CALL1, CALL2 = ToolCallPart("t", {}, "c1"), ToolCallPart("t", {}, "c2")
BACK1, BACK2 = ToolReturnPart("t", "b1", "c1"), ToolReturnPart("t", "b2", "c2")


@pytest.mark.parametrize(
    ("history", "told"),
    [
        ([], []),
        ([request(ASK), response(TOLD)], ["user:ask", "model:told"]),
        ([request(ASK), response(CALL1)], ["user:ask", "call:c1", "result:c1=…"]),
        (
            [request(ASK), response(CALL1, CALL2), request(BACK2), request(ASK)],
            ["user:ask", "call:c1", "call:c2", "result:c2=b2", "result:c1=…", "user:ask"],
        ),
        ([request(BACK1), request(ASK)], ["user:ask"]),
        (
            [response(CALL1), request(BACK1), request(BACK1), response(TOLD)],
            ["call:c1", "result:c1=b1", "model:told"],
        ),
        ([response(CALL1), response(TOLD)], ["call:c1", "result:c1=…", "model:told"]),
        (
            [response(CALL1), request(ASK, BACK1)],
            ["call:c1", "result:c1=b1", "user:ask"],
        ),
    ],
    ids=lambda value: "" if value else "empty",
)
def test_a_history_is_made_acceptable(history: list[ModelMessage], told: list[str]) -> None:
    made = healed(history)
    check_acceptable(made)
    found = [line if "There is no result" not in line else f"{line[:9]}=…" for line in said(made)]
    assert found == told


def test_half_of_a_reply_has_no_calls() -> None:
    half = response(TOLD, CALL1)
    half.state = "interrupted"
    empty = response(CALL1)
    empty.state = "interrupted"
    assert said(healed([request(ASK), half, request(ASK), empty])) == [
        *("user:ask", "model:told", "user:ask")
    ]


THOUGHT = ThinkingPart("hm", signature="sig", provider_name="anthropic")
SEARCH = NativeToolCallPart("web_search", {"query": "x"}, tool_call_id="n1")
FOUND = NativeToolReturnPart("web_search", ["y"], tool_call_id="n1")
SEARCH2 = NativeToolCallPart("web_search", {"query": "z"}, tool_call_id="n2")


@pytest.mark.parametrize(
    ("parts", "left"),
    [
        ([THOUGHT, CALL1], []),
        ([TOLD, THOUGHT], [TOLD]),
        ([THOUGHT, TOLD, CALL1], [THOUGHT, TOLD]),
        ([THOUGHT, SEARCH], []),
        ([SEARCH, FOUND, THOUGHT, SEARCH2], [SEARCH, FOUND]),
    ],
    ids=["call", "thought", "text", "search", "second search"],
)
def test_half_of_a_reply_ends_with_what_a_provider_takes_for_an_end(
    parts: list[Any], left: list[Any]
) -> None:
    """A thought is none, which leads to nothing; nor is a search that never came back."""
    half = response(*parts)
    half.state = "interrupted"
    made = healed([request(ASK), half, request(ASK)])
    check_acceptable(made)
    assert [part for reply in made[1:-1] for part in reply.parts] == left


def test_a_reply_that_came_to_no_more_than_a_thought_is_left_out() -> None:
    """As one whose tokens were used up before it said anything."""
    assert said(healed([request(ASK), response(THOUGHT), request(ASK)])) == ["user:ask"] * 2


def test_a_reply_that_its_continuation_follows_is_said_once() -> None:
    begun = response(TextPart("to"))
    begun.state = "suspended"
    assert said(healed([request(ASK), begun, response(TOLD)])) == ["user:ask", "model:told"]


def test_open_calls_of_the_last_reply_may_stay_open() -> None:
    history: list[ModelMessage] = [response(CALL1), response(TOLD, CALL2)]
    assert said(healed(history, leave_open=True))[-2:] == ["model:told", "call:c2"]


def test_what_needs_no_healing_stays_the_object_that_it_was() -> None:
    assert all(one is other for one, other in zip(healed(RICH), RICH, strict=True))
