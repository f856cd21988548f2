"""The session service by itself: ADK's sessions, their events and their state, in a store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions, EventCompaction
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.sessions import Session
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.tools.tool_context import ToolContext
from google.genai import types
from pydantic import BaseModel

import turnlock
from tests.helpers import PATIENCE, eventually
from turnlock.integrations.google_adk import StaleSessionError, TurnlockSessionService
from turnlock.integrations.google_adk.events import entries_of_event
from turnlock.integrations.google_adk.keys import default_key

from .scripted import (
    APP,
    KEY,
    NAME,
    USER,
    answering,
    ask,
    calls,
    runner_of,
    said,
    says,
    told,
    user_says,
)


def event(text: str = "hello", author: str = "user", **given: Any) -> Event:
    return Event(author=author, invocation_id="i1", content=user_says(text), **given)


def changing(**delta: Any) -> Event:
    return Event(author="system", invocation_id="i1", actions=EventActions(state_delta=delta))


async def got(service: TurnlockSessionService, **name: str) -> Session:
    session = await service.get_session(**(NAME | name))
    assert session is not None
    return session


def test_a_session_is_found_as_it_was_made(store: turnlock.Store) -> None:
    async def main() -> None:
        service = TurnlockSessionService(store)
        made = await service.create_session(**NAME, state={"x": {"y": [1, None]}})
        found = await got(TurnlockSessionService(store))
        assert (found.id, found.app_name, found.user_id) == ("s1", APP, USER)
        assert made.state == found.state == {"x": {"y": [1, None]}}
        assert found.events == []
        assert found.last_update_time > 0

    asyncio.run(main())


def test_a_session_without_a_name_gets_one_of_its_own(store: turnlock.Store) -> None:
    async def main() -> None:
        service = TurnlockSessionService(store)
        names = [
            (await service.create_session(app_name=APP, user_id=USER, session_id=given)).id
            for given in (None, "  ")
        ]
        assert len(set(names)) == 2
        assert all(names)

    asyncio.run(main())


def test_a_session_is_not_made_twice_and_the_first_one_stays(store: turnlock.Store) -> None:
    async def main() -> None:
        service = TurnlockSessionService(store)
        await service.create_session(**NAME, state={"x": 1})
        before = list(store.read(KEY))
        with pytest.raises(AlreadyExistsError):
            await service.create_session(**NAME, state={"x": 2})
        assert list(store.read(KEY)) == before

    asyncio.run(main())


def test_that_a_session_is_there_is_told_at_once_whoever_holds_it(store: turnlock.Store) -> None:
    async def main() -> None:
        service = TurnlockSessionService(store, wait=0.0)
        await service.create_session(**NAME)
        held, over = threading.Event(), threading.Event()

        def hold() -> None:
            with store.turn(KEY):
                held.set()
                over.wait(PATIENCE)

        holding = asyncio.create_task(asyncio.to_thread(hold))
        assert await asyncio.to_thread(held.wait, PATIENCE)
        with pytest.raises(AlreadyExistsError):
            await service.create_session(**NAME)
        over.set()
        await holding

    asyncio.run(main())


def test_of_two_that_make_a_session_at_one_time_one_is_refused(store: turnlock.Store) -> None:
    async def main() -> None:
        barrier = asyncio.Barrier(4)

        async def make() -> object:
            await barrier.wait()
            return await TurnlockSessionService(store).create_session(**NAME)

        outcomes = await asyncio.gather(*[make() for _ in range(4)], return_exceptions=True)
        assert sum(isinstance(one, Session) for one in outcomes) == 1
        assert sum(isinstance(one, AlreadyExistsError) for one in outcomes) == 3

    asyncio.run(main())


def test_there_is_no_session_where_none_was_made(store: turnlock.Store) -> None:
    async def main() -> None:
        service = TurnlockSessionService(store)
        assert await service.get_session(**NAME) is None
        await service.delete_session(**NAME)
        with pytest.raises(SessionNotFoundError):
            await service.append_event(Session(id="s1", app_name=APP, user_id=USER), event())
        assert told(store) == []

    asyncio.run(main())


def test_state_is_shared_by_its_prefix_and_temporary_state_is_not_stored(
    store: turnlock.Store,
) -> None:
    async def main() -> None:
        service = TurnlockSessionService(store)
        session = await service.create_session(**NAME, state={"a": 1, "app:b": 1, "user:c": 1})
        await service.append_event(session, changing(**{"a": 2, "user:c": 2, "temp:d": 2}))
        assert session.state == {"a": 2, "app:b": 1, "user:c": 2, "temp:d": 2}
        assert (await got(service)).state == {"a": 2, "app:b": 1, "user:c": 2}
        same_user = await service.create_session(app_name=APP, user_id=USER)
        assert same_user.state == {"app:b": 1, "user:c": 2}
        other_user = await service.create_session(app_name=APP, user_id="bob")
        assert other_user.state == {"app:b": 1}
        other_app = await service.create_session(app_name="news", user_id=USER)
        assert other_app.state == {}
        assert await service.get_user_state(app_name=APP, user_id=USER) == {"c": 2}
        assert b"temp:" not in b"".join(p.read_bytes() for p in files(store))

    asyncio.run(main())


class Liking(BaseModel):
    colour: str = "red"


STATES: dict[str, tuple[Any, Any]] = {
    "a time": (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00Z"),
    "a model, its defaults too": (Liking(), {"colour": "red"}),
    "a set": ({1}, [1]),
    "no number": ([float("nan"), float("inf")], [None, None]),
    "bytes": (b"\xff\x00", "_wA="),
    "a thing of Python's": (int, "<class 'int'>"),
}


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("prefix", ["", "user:", "app:"])
def test_state_that_is_no_json_is_stored_as_what_comes_nearest(
    store: turnlock.Store, name: str, prefix: str
) -> None:
    """Whoever's it is, and from wherever it comes: no run ends for it after the model was paid."""
    value, stored = STATES[name]

    def remember(tool_context: ToolContext) -> str:
        tool_context.state[f"{prefix}x"] = value
        return "done"

    async def script(request: LlmRequest) -> AsyncIterator[LlmResponse]:
        yield says("well") if said(request)[-1].startswith("result:") else calls("remember")

    async def main() -> None:
        runner = runner_of(store, script, [remember])
        service = runner.session_service
        made = await service.create_session(**NAME, state={f"{prefix}y": value})
        assert made.state == {f"{prefix}y": stored}
        assert (await ask(runner, "go"))[-1] == "well"
        found = await service.get_session(**NAME)
        assert found is not None
        assert found.state == {f"{prefix}x": stored, f"{prefix}y": stored}

    asyncio.run(main())


def test_of_state_that_cannot_be_stored_at_all_nothing_is(store: turnlock.Store) -> None:
    async def main() -> None:
        service = TurnlockSessionService(store)
        with pytest.raises(turnlock.TranscriptError, match="state"):
            await service.create_session(**NAME, state={"a": 1, "user:x": "\ud800"})
        assert await service.get_session(**NAME) is None
        session = await service.create_session(**NAME)
        with pytest.raises(turnlock.TranscriptError, match="state"):
            await service.append_event(session, changing(**{"user:x": "\ud800"}))
        assert (await got(service)).events == []

    asyncio.run(main())


def test_a_run_that_does_not_wait_for_its_session_waits_for_state_that_is_shared(
    store: turnlock.Store,
) -> None:
    """Its model call was paid for, and whoever writes there has done so in a moment."""
    shared = "weather/app-state"

    def remember(tool_context: ToolContext) -> str:
        tool_context.state["app:x"] = 1
        return "done"

    async def script(request: LlmRequest) -> AsyncIterator[LlmResponse]:
        yield says("well") if said(request)[-1].startswith("result:") else calls("remember")

    async def main() -> None:
        runner = runner_of(store, script, [remember], wait=0.0)
        async with store.turn(shared):
            task = asyncio.create_task(ask(runner, "go"))
            await asyncio.to_thread(eventually, lambda: store.waiters([shared])[shared] == 1)
        assert (await task)[-1] == "well"
        made = await runner.session_service.create_session(app_name=APP, user_id="bob")
        assert made.state == {"app:x": 1}

    asyncio.run(main())


def files(store: turnlock.Store) -> list[Path]:
    return [Path(record.path) for record in store.sessions()]


EVENTS = {
    "text": event("ä \U0001f600  "),
    "unnamed": event(id="not an id of ours / ü"),
    "several parts": Event(
        author="root",
        invocation_id="i1",
        branch="a.b",
        partial=False,
        turn_complete=True,
        custom_metadata={"k": [None, 1.5]},
        usage_metadata=types.GenerateContentResponseUsageMetadata(total_token_count=7),
        content=types.Content(
            role="model",
            parts=[
                types.Part(text="hm", thought=True, thought_signature=b"\x00\xff\xfe sig"),
                types.Part(text="so"),
                types.Part(function_call=types.FunctionCall(id="c1", name="f", args={"n": None})),
                types.Part(function_call=types.FunctionCall(id="c2", name="g", args={})),
                types.Part(inline_data=types.Blob(data=b"\x89PNG\xff\x00", mime_type="image/png")),
            ],
        ),
        long_running_tool_ids={"c2"},
    ),
    "results": Event(
        author="root",
        invocation_id="i1",
        content=types.Content(
            role="user",
            parts=[
                types.Part(
                    function_response=types.FunctionResponse(
                        id=name, name=name, response={"result": {"n": None}}
                    )
                )
                for name in ("c1", "c2")
            ],
        ),
        actions=EventActions(skip_summarization=True, artifact_delta={"a.txt": 2}),
    ),
    "state": changing(a=None, b={"c": [1, {"d": None}]}),
    "error": Event(author="root", invocation_id="i1", error_code="500", error_message="no"),
    "compaction": Event(
        author="user",
        invocation_id="i1",
        actions=EventActions(
            compaction=EventCompaction(
                start_timestamp=1.25, end_timestamp=2.5, compacted_content=user_says("in short")
            )
        ),
    ),
}


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_comes_back_as_it_was(store: turnlock.Store, name: str) -> None:
    async def main() -> None:
        service = TurnlockSessionService(store)
        session = await service.create_session(**NAME)
        given = EVENTS[name].model_copy(deep=True)
        await service.append_event(session, given)
        found = await got(service)
        assert found.events == [given] == session.events
        assert found.last_update_time == session.last_update_time == given.timestamp

    asyncio.run(main())


def test_a_partial_event_is_not_stored(store: turnlock.Store) -> None:
    async def main() -> None:
        service = TurnlockSessionService(store)
        session = await service.create_session(**NAME)
        await service.append_event(session, event(partial=True))
        assert session.events == (await got(service)).events == []

    asyncio.run(main())


def test_the_same_event_again_is_one_event(store: turnlock.Store) -> None:
    async def main() -> None:
        service = TurnlockSessionService(store)
        session = await service.create_session(**NAME)
        given = EVENTS["results"].model_copy(deep=True)
        for _ in range(2):
            await service.append_event(session, given)
        assert (await got(service)).events == [given]

    asyncio.run(main())


def test_events_are_given_as_many_and_as_late_as_wanted(store: turnlock.Store) -> None:
    async def main() -> None:
        service = TurnlockSessionService(store)
        session = await service.create_session(**NAME)
        for number in range(1, 4):
            made = event(str(number), timestamp=float(number))
            made.actions.state_delta = {"n": number}
            await service.append_event(session, made)

        async def seen(**wanted: Any) -> list[float]:
            config = GetSessionConfig(**wanted)
            found = await service.get_session(**NAME, config=config)
            assert found is not None
            assert found.state == {"n": 3}
            return [one.timestamp for one in found.events]

        assert await seen(num_recent_events=2) == [2.0, 3.0]
        assert await seen(num_recent_events=0) == []
        assert await seen(after_timestamp=2.0) == [2.0, 3.0]
        assert await seen(num_recent_events=1, after_timestamp=9.0) == []

    asyncio.run(main())


def test_sessions_are_listed_by_app_and_user_oldest_first(store: turnlock.Store) -> None:
    async def main() -> None:
        service = TurnlockSessionService(store)
        for app, user, name in (("weather", "alice", "1"), ("weather", "bob", "2"), ("news",) * 3):
            await service.create_session(
                app_name=app, user_id=user, session_id=name, state={"n": name, "user:u": user}
            )
        async with store.turn("weather/others") as turn:
            await turn.append(turnlock.user("not of ADK"))
        first = await got(service, session_id="1")
        await service.append_event(first, event())
        listed = (await service.list_sessions(app_name=APP)).sessions
        assert [(one.user_id, one.id, one.events) for one in listed] == [
            ("bob", "2", []),
            ("alice", "1", []),
        ]
        assert listed[0].state == {"n": "2", "user:u": "bob"}
        of_alice = await service.list_sessions(app_name=APP, user_id="alice")
        assert [one.id for one in of_alice.sessions] == ["1"]

    asyncio.run(main())


def test_a_deleted_session_is_gone_and_its_name_is_free(store: turnlock.Store) -> None:
    async def main() -> None:
        service = TurnlockSessionService(store)
        session = await service.create_session(**NAME, state={"x": 1})
        await service.append_event(session, event())
        await service.delete_session(**NAME)
        assert await service.get_session(**NAME) is None
        assert (await service.list_sessions(app_name=APP)).sessions == []
        assert (await service.create_session(**NAME)).state == {}
        with pytest.raises(StaleSessionError):
            await service.append_event(session, event())
        assert (await got(service)).events == []

    asyncio.run(main())


def test_saved_events_may_be_put_back_into_a_session_that_was_deleted(
    store: turnlock.Store,
) -> None:
    """The transcript has entries of these ids already: they are not those of this session."""

    async def main() -> None:
        service = TurnlockSessionService(store)
        session = await service.create_session(**NAME)
        saved = [event(), EVENTS["several parts"], EVENTS["results"], changing(a=1)]
        for one in saved:
            await service.append_event(session, one.model_copy(deep=True))
        await service.delete_session(**NAME)
        await service.create_session(**NAME)
        # Nor is one there twice that is put back twice.
        for one in [each for each in saved for _ in range(2)]:
            unread = GetSessionConfig(num_recent_events=0)
            now = await service.get_session(**NAME, config=unread)
            assert now is not None
            await service.append_event(now, one.model_copy(deep=True))
        found = await got(service)
        assert found.events == saved
        assert found.state == {"a": 1}

    asyncio.run(main())


def test_a_session_object_that_others_wrote_behind_is_refused(store: turnlock.Store) -> None:
    """So appends outside of a run are never mixed with others unnoticed."""

    async def main() -> None:
        service = TurnlockSessionService(store)
        mine = await service.create_session(**NAME)
        theirs = await got(TurnlockSessionService(store))
        for _ in range(2):
            await service.append_event(theirs, event("theirs"))
        before = told(store)
        with pytest.raises(StaleSessionError, match="get it again"):
            await service.append_event(mine, event("mine"))
        assert told(store) == before
        assert mine.events == []
        await service.append_event(await got(service), event("mine"))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("app", "a:b", "c"), ("app", "a", "b:c")),
        (("app", "a/b", "c"), ("app", "a", "b:c")),
        (("app", "a%3Ab", "c"), ("app", "a:b", "c")),
        (("my app", "a", "b"), ("my=20app", "a", "b")),
    ],
)
def test_no_two_sessions_have_one_key(
    store: turnlock.Store, one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    async def main() -> None:
        assert default_key(*one) != default_key(*other)
        service = TurnlockSessionService(store)
        for app, user, name in (one, other):
            await service.create_session(app_name=app, user_id=user, session_id=name)
            found = await got(service, app_name=app, user_id=user, session_id=name)
            assert (found.app_name, found.user_id, found.id) == (app, user, name)

    asyncio.run(main())


def test_limits_that_are_none_are_refused_where_the_service_is_made(store: turnlock.Store) -> None:
    with pytest.raises(turnlock.LimitsError, match="max_hold"):
        TurnlockSessionService(store, max_hold=-1.0)


def test_what_others_wrote_into_a_session_is_read_as_events(store: turnlock.Store) -> None:
    """A session of the gateway, or of another framework, goes on with ADK: calls and all."""
    call = {"type": "toolCall", "id": "c1", "name": "look", "arguments": {"at": "it"}}
    result = {
        "role": "toolResult",
        "toolCallId": "c1",
        "toolName": "look",
        "content": [{"type": "text", "text": "seen"}],
    }
    reply = turnlock.assistant("one moment")
    reply["message"]["content"].append(call)
    with store.turn("main/s1") as turn:
        turn.append(turnlock.user("hello"), reply, {"type": "message", "message": result})
        turn.append(turnlock.assistant("done"))
    requests: list[list[str]] = []

    async def script(request: Any) -> Any:
        requests.append(said(request))
        async for response in answering(request):
            yield response

    def key(app_name: str, user_id: str, session_id: str) -> str:
        return f"main/{session_id}"

    runner = runner_of(store, script, key=key)
    assert asyncio.run(ask(runner, "and?")) == ["re and?"]
    assert requests == [
        ["user:hello", "model:one moment", "call:look", "result:look", "model:done", "user:and?"]
    ]
    listed = asyncio.run(runner.session_service.list_sessions(app_name=APP, user_id=USER))
    assert [one.id for one in listed.sessions] == ["s1"]


def test_what_adk_wrote_is_read_by_others(store: turnlock.Store) -> None:
    async def main() -> None:
        service = TurnlockSessionService(store)
        session = await service.create_session(**NAME)
        await service.append_event(session, event("hello"))
        for name in ("several parts", "results"):
            await service.append_event(session, EVENTS[name].model_copy(deep=True))
        async with store.turn(KEY) as turn:
            messages = await turn.messages()
        assert [one["role"] for one in messages] == ["user", "assistant", "tool", "tool"]
        assert messages[1]["content"] == "so"
        assert [one["id"] for one in messages[1]["tool_calls"]] == ["c1", "c2"]
        assert [one["tool_call_id"] for one in messages[2:]] == ["c1", "c2"]
        assert messages[2]["content"] == '{"result": {"n": null}}'

    asyncio.run(main())


def test_shared_state_that_a_process_died_before_it_wrote_is_written_by_the_next_run(
    store: turnlock.Store,
) -> None:
    """The event is durable first: under the fence of its session, which shared state has not."""

    async def main() -> None:
        runner = runner_of(store)
        await ask(runner, "begin")
        with pytest.raises(KeyboardInterrupt):
            async with store.turn(KEY) as turn:
                await turn.append(*entries_of_event(changing(**{"user:x": 1, "app:y": 2}), KEY))
                raise KeyboardInterrupt
        service = runner.session_service
        assert (await service.get_user_state(app_name=APP, user_id=USER)) == {}
        await ask(runner, "go on")
        found = await service.get_session(**NAME)
        assert found is not None
        assert found.state == {"user:x": 1, "app:y": 2}
        before = told(store, "weather/app-state")
        await ask(runner, "and on")
        assert told(store, "weather/app-state") == before

    asyncio.run(main())


def test_an_event_of_an_unknown_kind_is_told_of_and_not_left_out(store: turnlock.Store) -> None:
    async def main() -> None:
        service = TurnlockSessionService(store)
        await service.create_session(**NAME)
        async with store.turn(KEY) as turn:
            dumped = {"author": "root", "actions": {"ofTheFuture": 1}}
            await turn.append(
                {"type": "custom", "customType": "x", "googleAdk": {"event": dumped}, "id": "e9"}
            )
        with pytest.raises(turnlock.TranscriptError, match=r"e9.*ofTheFuture"):
            await service.get_session(**NAME)

    asyncio.run(main())
