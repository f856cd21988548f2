"""Endpoints whose template refuses two messages of one side in a row: a failed turn leaves them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from turnlock.errors import ModelError
from turnlock.models import alternating, complete
from turnlock.models.openai import OpenAIModel

from .endpoint import head, run, user
from .wires import WIRES, Line, ScriptedServer, reply, scripted

SAID = "Conversation roles must alternate user/assistant/user/assistant/..."
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "seen"}


def said(*texts: str) -> list[dict[str, Any]]:
    """Messages, written as `u:text`."""
    roles = {"u": "user", "a": "assistant", "s": "system"}
    return [{"role": roles[one[0]], "content": one[2:]} for one in texts]


@pytest.mark.parametrize(
    ("history", "sent"),
    [
        (said("u:1", "u:2", "a:3", "a:4", "u:5"), said("u:1\n\n2", "a:3\n\n4", "u:5")),
        (said("s:0", "u:1", "a:2", "u:3"), said("s:0", "u:1", "a:2", "u:3")),
        (
            said("s:0", "a:1", "u:2"),
            said("s:0", "u:(The beginning of this conversation is not shown.)", "a:1", "u:2"),
        ),
        (
            [*said("u:1", "a:2"), CALL, RESULT, *said("a:3")],
            [*said("u:1"), {**CALL, "content": "2"}, RESULT, *said("a:3")],
        ),
        (
            [*said("u:1"), CALL, RESULT, *said("u:2")],
            [*said("u:1"), CALL, RESULT, *said("a:(There was no reply.)", "u:2")],
        ),
    ],
)
def test_sides_take_turns_and_the_user_begins(
    history: list[dict[str, Any]], sent: list[dict[str, Any]]
) -> None:
    assert alternating(history) == sent
    assert alternating(sent) == sent


def sent_to(server: ScriptedServer) -> list[int]:
    return [len(body["messages"]) for _, _, body in server.requests]


def test_who_refuses_two_in_a_row_is_asked_without_and_from_then_on_at_once() -> None:
    history = said("u:/hang", "u:still there?")
    servers: list[ScriptedServer] = []

    async def strict(line: Line) -> None:
        roles = [message["role"] for message in servers[0].requests[-1][2]["messages"]]
        if any(one == other for one, other in itertools.pairwise(roles)):
            await line.send(head(400, "application/json"), line.wire.refusal(400, SAID))
        else:
            await reply(line)

    async def test() -> None:
        async with scripted(WIRES["openai"], strict) as server:
            servers.append(server)
            model = OpenAIModel(server.url, "m")
            assert (await complete(model, user("hello")))[0] == "hello"
            assert (await complete(model, history))[0] == "hello"
            assert (await complete(model, history))[0] == "hello"
            assert sent_to(server) == [1, 2, 1, 1]

    run(test())


@pytest.mark.parametrize("words", [SAID, "the prompt is too long"])
def test_nobody_is_asked_a_third_time_and_for_other_reasons_no_second(words: str) -> None:
    async def refuse(line: Line) -> None:
        await line.send(head(400, "application/json"), line.wire.refusal(400, words))

    async def test() -> None:
        async with scripted(WIRES["openai"], refuse) as server:
            with pytest.raises(ModelError, match=words[:10]):
                await complete(OpenAIModel(server.url, "m"), user("hello"))
            assert len(server.requests) == (2 if words == SAID else 1)

    run(test())
