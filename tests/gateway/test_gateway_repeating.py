"""A message that a client sends again is one message."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from turnlock.clock import iso
from turnlock.gateway import answering, conversation
from turnlock.gateway.chat import NewInSession
from turnlock.gateway.conversation import Plan, Repetition, plan, repetition, reply_id
from turnlock.gateway.errors import Refusal
from turnlock.models import Delta, Finished, Message
from turnlock.session import SessionKey
from turnlock.transcript.entries import assistant, user
from turnlock.transcript.history import text_of

from .raw import chat, get, line, post, request
from .serving import BOUND, Scripted, ask, echo, eventually, run, served
from .serving import user as messages_of_user
from .test_gateway_waiting import PATIENT

NOW = 1_800_000_000.0
SESSION = SessionKey("main", "a")
KEY = {"idempotency_key": "k-1"}
AGAIN = {"x_stainless_retry_count": "1"}


def said(*texts: str, age: float = 1.0) -> list[dict[str, Any]]:
    """A transcript, ``age`` seconds old: ``a`` from the user, ``A`` the reply to the last ``a``."""
    made: list[dict[str, Any]] = []
    for place, text in enumerate(texts):
        question = next((e["id"] for e in reversed(made) if e["text"] == text.lower()), None)
        is_reply = text.isupper()
        made.append(
            {
                "id": reply_id(str(question)) if is_reply else f"e{place}",
                "timestamp": iso(NOW - age),
                "epoch": place + 1,
                "text": text,
                **(assistant(text) if is_reply else user(text)),
            }
        )
    return made


def planned(
    entries: list[dict[str, Any]],
    *texts: str,
    seen: str | None = None,
    retries: int = 0,
    key: str | None = None,
    lost: tuple[str, ...] = (),
) -> Plan:
    new = NewInSession((), texts, seen)
    repeated = Repetition(key, retries)
    return plan(entries, new, session=SESSION, repeated=repeated, now=NOW, lost=lost)


@pytest.mark.parametrize("how", [{"key": "k"}, {"retries": 1}])
def test_ids_that_are_no_texts_are_nobodys(how: dict[str, Any]) -> None:
    """Another program's, or edited by hand; the request would fail at each repetition."""
    odd = [{**entry, "id": ["x"]} for entry in said("q")]
    (first,) = planned([], "m", key="k").entries
    entries = [*odd, {**said("m")[0], "id": first["id"]}]
    again = planned(entries, "m", lost=(str(first["id"]),), **how)
    assert (again.question, again.answer) == (first["id"], None)
    assert [message["content"] for message in again.history] == ["q", "m"]


def contents(made: Plan) -> list[str]:
    return [message["content"] for message in made.history]


class Looks:
    """Counts how often the texts of entries are put together, and their ids compared or hashed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.text = self.id = 0

        def counted(content: object) -> str:
            self.text += 1
            return text_of(content)

        monkeypatch.setattr(conversation, "text_of", counted)

    def counted(self, entry: dict[str, Any]) -> dict[str, Any]:
        looks = self

        class Identity(str):
            def __eq__(self, other: object) -> bool:
                looks.id += 1
                return str.__eq__(self, other)

            def __hash__(self) -> int:
                looks.id += 1
                return str.__hash__(self)

        return {**entry, "id": Identity(entry["id"])}


class TestPlan:
    def test_a_new_message_is_stored_and_asked(self) -> None:
        made = planned(said("a", "A"), "b")
        assert (len(made.entries), contents(made)) == (1, ["a", "A", "b"])

    def test_the_same_words_again_are_a_new_message(self) -> None:
        made = planned(said("yes", "YES"), "yes")
        assert contents(made) == ["yes", "YES", "yes"]
        assert made.answer is None

    def test_a_repetition_of_an_unanswered_message_is_asked_and_not_stored(self) -> None:
        made = planned(said("a", "A", "b"), "b", retries=1)
        assert (made.entries, contents(made), made.question) == ((), ["a", "A", "b"], "e2")

    def test_a_repetition_of_an_answered_message_gets_its_answer(self) -> None:
        made = planned(said("a", "A"), "a", retries=2)
        assert (made.entries, made.answer) == ((), "A")

    def test_a_repetition_is_known_when_others_have_spoken_since(self) -> None:
        made = planned(said("a", "b", "B"), "a", retries=1)
        assert (made.entries, contents(made)) == ((), ["b", "B", "a"])

    def test_an_answer_to_another_message_is_none(self) -> None:
        made = planned(said("a", "b", "A"), "b", retries=1)
        assert (made.answer, contents(made)) == (None, ["a", "A", "b"])

    @pytest.mark.parametrize("since", [("b",), ("b", "B")])
    def test_an_answer_is_not_given_again_once_more_was_said(self, since: tuple[str, ...]) -> None:
        entries = said("yes", "YES", *since)
        made = planned(entries, "yes", retries=1)
        assert (len(made.entries), made.answer) == (1, None)
        assert planned(entries, "yes", retries=1, lost=("e0",)).answer == "YES"

    def test_an_answer_from_long_ago_is_not_given_again(self) -> None:
        made = planned(said("yes", "YES", age=1000), "yes", retries=1)
        assert (len(made.entries), made.answer) == (1, None)

    def test_a_message_from_long_ago_is_not_this_one(self) -> None:
        assert len(planned(said("a", age=10_000), "a", retries=1).entries) == 1

    def test_an_answer_that_the_client_has_seen_is_not_given_again(self) -> None:
        made = planned(said("yes", "YES"), "yes", seen="YES", retries=1)
        assert (len(made.entries), made.answer) == (1, None)

    def test_a_repetition_of_what_never_arrived_is_new(self) -> None:
        made = planned(said("a", "A"), "b", retries=1)
        assert (len(made.entries), contents(made)) == (1, ["a", "A", "b"])

    def test_several_messages_are_repeated_together(self) -> None:
        assert planned(said("a", "b"), "a", "b", retries=1).question == "e1"
        assert len(planned(said("a", "b"), "x", "b", retries=1).entries) == 2

    def test_a_key_knows_its_message_wherever_and_whenever_it_was(self) -> None:
        (mine,) = planned([], "a", key="k").entries
        stored = {"timestamp": iso(NOW - 10_000), **mine}
        assert contents(planned([stored], "a", key="k")) == ["a"]
        assert contents(planned([stored, *said("b", "B")], "a", key="k")) == ["b", "B", "a"]
        reply = {**said("a", "A")[1], "id": reply_id(mine["id"])}
        assert planned([stored, *said("b", "B"), reply], "a", key="k").answer == "A"

    def test_a_key_does_not_swallow_another_text_or_session(self) -> None:
        stored = list(planned([], "a", key="k").entries)
        assert len(planned(stored, "b", key="k").entries) == 1
        new = NewInSession((), ("a",), None)
        other = plan(
            stored, new, session=SessionKey("main", "b"), repeated=Repetition("k"), now=NOW
        )
        assert len(other.entries) == 1

    @pytest.mark.parametrize(
        ("again", "looked_up"), [({"retries": 1}, "text"), ({"key": "k"}, "id")]
    )
    def test_looking_for_long_ones_in_a_long_session_looks_at_each_once(
        self, again: dict[str, Any], looked_up: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looks = Looks(monkeypatch)
        long = [looks.counted(entry) for entry in said(*["m"] * 300)]
        made = planned(long, *["m"] * 100, "x", **again)
        assert len(made.entries) == 101
        assert 300 <= getattr(looks, looked_up) <= 1000

    def test_the_last_of_several_places_is_found(self) -> None:
        assert planned(said("a", "b", "a", "b", "c"), "a", "b", retries=1).question == "e3"
        assert planned(said("b", "b", "b"), "b", "b", retries=1).question == "e2"
        assert planned(said("a", "b"), "a", "b", retries=1).question == "e1"
        assert len(planned(said("b"), "a", "b", retries=1).entries) == 2

    @pytest.mark.parametrize("count", ["", "-1", "1e3", "x", "9" * 50, "²"])
    def test_a_counter_that_is_none_counts_nothing(self, count: str) -> None:
        assert repetition(None, count) == Repetition(None, 0)

    def test_a_key_has_a_length(self) -> None:
        with pytest.raises(Refusal):
            repetition("k" * 256, None)


def test_the_clients_retry_after_its_time_out_stores_the_message_once(tmp_path: Path) -> None:
    async def slow_at_first(
        messages: Sequence[Message],
    ) -> AsyncGenerator[Delta | Finished, None]:
        if len(model.calls) == 1:
            await asyncio.Event().wait()
        async for item in echo(messages):
            yield item

    model = Scripted(slow_at_first)

    async def test() -> None:
        limits = "first_token = 5\nidle = 5\nturn = 6\ndrain = 0.2"
        async with (
            served(tmp_path, model, limits=limits) as gateway,
            gateway.client(timeout=0.4) as client,
        ):
            assert await ask(client, "once") == "re: once"
            assert gateway.said() == [("user", "once"), ("assistant", "re: once")]
            assert [m["reason"] for m in gateway.markers()] == ["cancelled"]
            assert model.calls[1] == messages_of_user("once")

    run(test())


@pytest.mark.parametrize("again", [KEY, AGAIN])
@pytest.mark.parametrize("stream", [False, True])
def test_a_repeated_body_is_answered_again_and_not_asked_again(
    tmp_path: Path, again: dict[str, str], stream: bool
) -> None:
    async def test() -> None:
        model = Scripted(echo)
        async with served(tmp_path, model) as gateway:
            body = chat("once", user="a", stream=stream)
            first_time = KEY if again is KEY else {}
            first = await post(gateway, body, **first_time)
            second = await post(gateway, body, **again)
            assert (first.status, second.status, len(model.calls)) == (200, 200, 1)
            assert b"once" in second.body
            assert "x-turnlock-repeated" not in first.headers
            assert second.headers["x-turnlock-repeated"] == "true"
            assert gateway.said() == [("user", "once"), ("assistant", "re: once")]
            # The control: the same body without a sign of being a repetition is a new message.
            await post(gateway, body)
            assert len(gateway.said()) == 4

    run(test())


def test_a_key_sent_twice_at_once_is_one_message(tmp_path: Path) -> None:
    async def test() -> None:
        model = Scripted(echo)
        async with served(tmp_path, model) as gateway:
            body = chat("once", user="a")
            answers = await asyncio.gather(*(post(gateway, body, **KEY) for _ in range(5)))
            assert [answer.status for answer in answers] == [200] * 5
            assert len(model.calls) == 1
            assert gateway.said() == [("user", "once"), ("assistant", "re: once")]

    run(test())


def test_others_are_answered_while_a_repetition_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, go_on = threading.Event(), threading.Event()

    def slow(*args: Any, **options: Any) -> Plan:
        looking.set()
        assert go_on.wait(BOUND)
        return plan(*args, **options)

    monkeypatch.setattr(answering, "plan", slow)

    async def test() -> None:
        async with served(tmp_path, Scripted(echo), limits=PATIENT) as gateway:
            first = asyncio.create_task(post(gateway, chat("a", user="a"), **AGAIN))
            await eventually(looking.is_set)
            assert (await get(gateway, "/healthz")).status == 200
            assert not go_on.is_set()
            go_on.set()
            assert (await first).status == 200

    run(test())


def test_a_reply_that_its_client_did_not_wait_for_is_given_to_its_retry(tmp_path: Path) -> None:
    leave: list[Callable[[], None]] = []

    async def reply_and_see_the_client_leave(
        messages: Sequence[Message],
    ) -> AsyncGenerator[Delta | Finished, None]:
        async for item in echo(messages):
            yield item
        while leave:
            leave.pop()()

    async def test() -> None:
        model = Scripted(reply_and_see_the_client_leave)
        async with served(tmp_path, model) as gateway:
            async with line(gateway) as connection:
                leave.append(connection.writer.transport.abort)
                await connection.send(request(gateway, body=chat("once", user="a")))
                await eventually(gateway.terminals)
            assert (await post(gateway, chat("b", user="a"))).status == 200
            answer = await post(gateway, chat("once", user="a"), **AGAIN)
            assert b"re: once" in answer.body
            assert answer.headers["x-turnlock-repeated"] == "true"
            assert [m[-1]["content"] for m in model.calls] == ["once", "b"]
            assert gateway.markers() == []

    run(test())
