"""Items and entries: nothing is lost for the SDK, and others read what was said."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

import turnlock
from turnlock.integrations.openai_agents import TurnSession
from turnlock.integrations.openai_agents.items import NO_RESULT, Item, items_of

from .conftest import KEY, said

CALL: Item = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"at":"it"}'}
OUTPUT: Item = {"type": "function_call_output", "call_id": "c1", "output": "seen"}
USER: Item = {"role": "user", "content": "hello"}
ITEMS: dict[str, Item] = {
    "text": USER,
    "parts": {
        "type": "message",
        "role": "user",
        "content": [
            {"type": "input_text", "text": "what is this?"},
            {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "auto"},
        ],
    },
    "developer": {"role": "developer", "content": "be kind"},
    "system": {"role": "system", "content": "be kind"},
    "answer": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [
            {"type": "output_text", "text": "hi", "annotations": [], "logprobs": []},
            {"type": "refusal", "refusal": "but no"},
        ],
    },
    "reasoning": {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "hm"}],
        "encrypted_content": "gAAA",
    },
    "image": {"type": "image_generation_call", "id": "ig_1", "result": "AA==", "status": "done"},
    "computer": {
        "type": "computer_call",
        "id": "cu_1",
        "call_id": "c9",
        "action": {"type": "click", "x": 1, "y": 2, "button": "left"},
        "pending_safety_checks": [],
        "status": "completed",
    },
    "unknown": {"type": "of tomorrow", "any": [1, None, {"thing": True}]},
    "odd text": {"role": "user", "content": "NUL \0 in it"},
    "empty": {"role": "assistant", "content": ""},
}
PAIRS: dict[str, list[Item]] = {
    "call": [CALL, OUTPUT],
    "call of the SDK": [CALL | {"id": "__fake_id__", "provider_data": {"model": "m"}}, OUTPUT],
    "no arguments": [CALL | {"arguments": ""}, OUTPUT],
    "arguments that are none": [CALL | {"arguments": '{"at": NaN, "x": 1e999'}, OUTPUT],
    "infinite arguments": [CALL | {"arguments": '{"at": 1e999}'}, OUTPUT],
    "parts": [CALL, OUTPUT | {"output": [{"type": "input_text", "text": "seen"}]}],
    "parallel": [
        ITEMS["reasoning"],
        CALL,
        CALL | {"call_id": "c2"},
        OUTPUT,
        OUTPUT | {"call_id": "c2"},
    ],
}
CASES = {name: [item] for name, item in ITEMS.items()} | PAIRS


def in_turn(store: turnlock.Store, work: Any) -> Any:
    async def test() -> Any:
        async with store.turn(KEY) as turn:
            return await work(TurnSession(turn), turn)

    return asyncio.run(test())


@pytest.mark.parametrize("items", CASES.values(), ids=CASES.keys())
def test_items_come_back_as_they_were(store: turnlock.Store, items: list[Any]) -> None:
    async def add(session: TurnSession, _: Any) -> None:
        await session.add_items(items)

    in_turn(store, add)
    assert in_turn(store, lambda session, _: session.get_items()) == items


def test_other_readers_see_what_was_said(store: turnlock.Store) -> None:
    async def add(session: TurnSession, _: Any) -> None:
        added: list[Any] = [*ITEMS.values(), *PAIRS["parallel"], USER]
        await session.add_items(added)

    in_turn(store, add)
    messages = in_turn(store, lambda _, turn: turn.messages())
    called = {"type": "function", "function": {"name": "look", "arguments": '{"at": "it"}'}}
    assert messages == [
        {"role": "user", "content": "hello"},
        {"role": "user", "content": "what is this?(input_image)"},
        {"role": "system", "content": "be kind"},
        {"role": "system", "content": "be kind"},
        {"role": "assistant", "content": "hibut no"},
        {"role": "user", "content": "NUL \ufffd in it"},
        {"role": "assistant", "content": None, "tool_calls": [called | {"id": "c1"}]},
        {"role": "tool", "tool_call_id": "c1", "content": "seen"},
        {"role": "assistant", "content": None, "tool_calls": [called | {"id": "c2"}]},
        {"role": "tool", "tool_call_id": "c2", "content": "seen"},
        {"role": "user", "content": "hello"},
    ]


def test_what_others_wrote_is_read_as_items(store: turnlock.Store) -> None:
    call = {"type": "toolCall", "id": "toolu|1", "name": "ls -l", "arguments": {"path": "/"}}
    nameless = {"type": "toolCall", "id": "n", "name": "", "arguments": {}}
    text = {"type": "text", "text": "let me see"}
    answer = {"role": "assistant", "content": [text, call, nameless], "stopReason": "toolUse"}
    result = {"role": "toolResult", "toolCallId": "toolu|1", "content": [text]}
    with store.turn(KEY) as turn:
        turn.append(
            turnlock.user("hello"),
            {"type": "message", "message": answer},
            {"type": "message", "message": result},
            turnlock.assistant("well"),
            {"type": "model_change", "modelId": "m"},
        )
    user, said, called, returned, last = in_turn(store, lambda session, _: session.get_items())
    assert (user, said, last) == (
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "let me see"},
        {"role": "assistant", "content": "well"},
    )
    assert called["name"] == "ls_-l"
    assert called["arguments"] == '{"path": "/"}'
    assert returned["call_id"] == called["call_id"]
    assert returned["output"] == "let me see"


def entries(*items: Item) -> list[dict[str, Any]]:
    return [
        {"type": "custom", "native": {"format": "openai-agents", "item": item}} for item in items
    ]


def no_result(call_id: str) -> Item:
    return OUTPUT | {"call_id": call_id, "output": NO_RESULT}


C2, O2 = CALL | {"call_id": "c2"}, OUTPUT | {"call_id": "c2"}


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ([CALL], [CALL, no_result("c1")]),
        ([CALL, USER], [CALL, no_result("c1"), USER]),
        ([CALL, USER, OUTPUT], [CALL, OUTPUT, USER]),
        ([CALL, C2, USER, O2], [CALL, C2, no_result("c1"), O2, USER]),
        ([OUTPUT, USER], [USER]),
        ([CALL, OUTPUT, OUTPUT], [CALL, OUTPUT]),
        ([CALL, USER, CALL, OUTPUT], [CALL, no_result("c1"), USER, CALL, OUTPUT]),
        ([CALL, USER, OUTPUT, CALL, OUTPUT], [CALL, OUTPUT, USER, CALL, OUTPUT]),
        ([CALL, USER, OUTPUT, CALL], [CALL, OUTPUT, USER, CALL, no_result("c1")]),
    ],
)
def test_each_call_is_followed_by_one_result(given: list[Item], made: list[Item]) -> None:
    assert items_of(entries(*given)) == made


@pytest.mark.parametrize(
    "kind", ["function_call", "custom_tool_call", "shell_call", "apply_patch_call", "computer_call"]
)
def test_a_call_that_is_added_again_with_its_result_is_there_once(
    store: turnlock.Store, kind: str
) -> None:
    """As the SDK does when it goes on after an approval; it may have changed the call's status."""
    call = {"type": kind, "call_id": "c1", "name": "look", "arguments": "{}"}
    output = {"type": f"{kind}_output", "call_id": "c1", "output": "seen"}

    async def test() -> None:
        async with store.turn(KEY) as turn:
            session = TurnSession(turn)
            await session.add_items(cast("Any", [call]))
            await session.before_tool([call])
            await session.add_items(cast("Any", [call | {"status": "completed"}, output]))
            assert await session.get_items() == [call, output]
            # An id that is free again may name another call.
            await session.add_items(cast("Any", [call, output]))
            assert await session.get_items() == [call, output] * 2

    asyncio.run(test())


@pytest.mark.parametrize(
    ("limit", "made"),
    [
        (1, []),
        (2, []),
        (3, [C2, O2]),
        (4, [CALL, C2, OUTPUT, O2]),
    ],
)
def test_of_the_latest_items_none_is_a_result_without_its_call(
    store: turnlock.Store, limit: int, made: list[Item]
) -> None:
    """An endpoint would refuse them."""

    async def read(session: TurnSession, _: Any) -> list[Any]:
        await session.add_items(cast("Any", [USER, CALL, C2, OUTPUT, O2]))
        return cast("list[Any]", await session.get_items(limit))

    assert in_turn(store, read) == made


def test_an_open_call_that_was_popped_may_be_added_again(store: turnlock.Store) -> None:
    async def test() -> None:
        async with store.turn(KEY) as turn:
            session = TurnSession(turn)
            await session.add_items(cast("Any", [USER, CALL]))
            assert await session.pop_item() == CALL
            await session.add_items(cast("Any", [CALL, OUTPUT]))
            assert await session.get_items() == [USER, CALL, OUTPUT]

    asyncio.run(test())


def test_an_item_that_is_no_json_is_refused_and_nothing_is_written(store: turnlock.Store) -> None:
    async def add(session: TurnSession, _: Any) -> None:
        odd: Any = {"role": "user", "content": "x", "extra": {1, 2}}
        with pytest.raises(turnlock.TranscriptError, match="JSON"):
            await session.add_items([odd, {"role": "user", "content": "y"}])

    in_turn(store, add)
    assert said(store) == []


# Taking back


async def adding(session: TurnSession, *texts: str) -> None:
    await session.add_items([{"role": "user", "content": text} for text in texts])


def contents(items: list[Any]) -> list[Any]:
    return [item["content"] for item in items]


def test_what_is_popped_is_out_of_the_history_and_still_in_the_transcript(
    store: turnlock.Store,
) -> None:
    async def pop(session: TurnSession, turn: Any) -> None:
        await adding(session, "one", "two", "three")
        assert contents([await session.pop_item(), await session.pop_item()]) == ["three", "two"]
        await adding(session, "four")
        assert contents(await session.get_items()) == ["one", "four"]
        assert [one["content"] for one in await turn.messages()] == ["one", "four"]
        assert contents([await session.pop_item(), await session.pop_item()]) == ["four", "one"]
        assert await session.pop_item() is None
        await adding(session, "five")

    in_turn(store, pop)
    assert contents(in_turn(store, lambda session, _: session.get_items())) == ["five"]
    assert [word for word in said(store) if word.startswith("user")] == [
        *("user one", "user two", "user three", "user four", "user five"),
    ]


def test_a_cleared_session_begins_anew(store: turnlock.Store) -> None:
    async def clear(session: TurnSession, turn: Any) -> None:
        await session.clear_session()
        await adding(session, "one", "two")
        await session.clear_session()
        assert await session.get_items() == []
        assert await turn.messages() == []
        assert await session.pop_item() is None
        await adding(session, "three")
        assert contents(await session.get_items()) == ["three"]

    in_turn(store, clear)
    assert "user one" in said(store)


def test_of_a_message_of_several_items_the_last_alone_is_popped(store: turnlock.Store) -> None:
    call = {"type": "toolCall", "id": "c1", "name": "look", "arguments": {}}
    content = [{"type": "text", "text": "let me see"}, call]
    with store.turn(KEY) as turn:
        turn.append({"type": "message", "message": {"role": "assistant", "content": content}})

    async def pop(session: TurnSession, _: Any) -> Any:
        return await session.pop_item(), await session.get_items()

    popped, left = in_turn(store, pop)
    assert popped["type"] == "function_call"
    assert left == [{"role": "assistant", "content": "let me see"}]


def test_the_first_entry_of_a_foreign_transcript_can_be_popped(
    store: turnlock.Store, state: Any
) -> None:
    """There is no entry before it to go on from."""
    path = state / "agents/main/sessions/alice.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(
        '{"type":"session","version":3,"id":"s"}\n'
        '{"type":"message","id":"a","parentId":null,'
        '"message":{"role":"user","content":[{"type":"text","text":"hello"}]}}\n'
    )

    async def pop(session: TurnSession, _: Any) -> Any:
        return await session.pop_item(), await session.get_items()

    assert in_turn(store, pop) == ({"role": "user", "content": "hello"}, [])


def test_what_was_compacted_is_not_popped_one_by_one(store: turnlock.Store) -> None:
    with store.turn(KEY) as turn:
        turn.append(turnlock.user("hello"), {"type": "compaction", "summary": "they met"})

    async def pop(session: TurnSession, _: Any) -> None:
        (summary,) = contents(await session.get_items())
        assert "they met" in summary
        with pytest.raises(turnlock.TranscriptError, match="clear_session"):
            await session.pop_item()

    in_turn(store, pop)


@pytest.mark.parametrize("reason", [["error"], {"error": 1}, None, 1])
def test_a_reply_of_others_is_read_whatever_its_stop_reason_is(
    store: turnlock.Store, reason: object
) -> None:
    """A list there must not make a session that no agent can go on with."""
    said = {"role": "assistant", "content": [{"type": "text", "text": "x"}], "stopReason": reason}
    with store.turn(KEY) as turn:
        turn.append({"type": "message", "message": said})
    items = in_turn(store, lambda session, _: session.get_items())
    assert items == [{"role": "assistant", "content": "x"}]
