"""Entries appended over HTTP: as one, once, in a turn of their own, and nothing forged."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import turnlock
from turnlock.transcript.entries import END, MARKER, OPENING, header, opening

from ..helpers import holder
from .raw import Answer, line, post_to, request
from .serving import Scripted, Served, echo, eventually, run, served
from .test_gateway_waiting import PATIENT, Gate, held
from .test_native_sessions import page, transcript

HELLO = turnlock.user("hello")


def target(name: str = "a") -> str:
    return f"/sessions/main/{name}/entries"


async def append(
    gateway: Served, *entries: object, name: str = "a", query: str = "", **headers: str
) -> Answer:
    body = json.dumps({"entries": entries}).encode()
    return await post_to(gateway, target(name) + query, body, **headers)


async def appended(gateway: Served, *entries: object, **how: Any) -> Any:
    answer = await append(gateway, *entries, **how)
    assert answer.status == 200, answer.body
    assert answer.headers["cache-control"] == "no-store"
    return json.loads(answer.body)


def test_entries_are_appended_in_one_turn(gateway: Served) -> None:
    async def test() -> None:
        mine = {"id": "mine", "type": "note", "text": "\x1b[2J\u2028"}
        answer = await append(gateway, HELLO, mine, name="one")
        done = json.loads(answer.body)
        assert answer.headers["x-turnlock-session"] == done["session"] == "main/one"
        assert answer.headers["x-turnlock-turn"] == done["turn_id"]
        first, second = done["entries"]
        assert second == {"id": "mine", "epoch": 1, "repeated": False}
        stored = gateway.transcript("one")
        assert [e.get("customType", e["type"]) for e in stored] == [
            "session",
            OPENING,
            "message",
            "note",
            END,
        ]
        assert [e["id"] for e in stored[2:4]] == [first["id"], "mine"]
        assert {e["epoch"] for e in stored[1:]} == {1}
        assert stored[1]["data"]["turnId"] == done["turn_id"]
        assert not gateway.claim("one").exists()

    run(test())


def test_an_entry_with_an_id_is_stored_once(gateway: Served) -> None:
    async def test() -> None:
        entry = {**HELLO, "id": "x1"}
        first = await appended(gateway, entry, entry, name="once")
        assert [one["repeated"] for one in first["entries"]] == [False, True]
        again = await appended(gateway, entry, name="once")
        assert again["entries"] == [{"id": "x1", "epoch": 1, "repeated": True}]
        mixed = await appended(gateway, entry, HELLO, name="once")
        assert [one["epoch"] for one in mixed["entries"]] == [1, 2]
        assert gateway.said("once") == [("user", "hello")] * 2

    run(test())


def test_an_idempotency_key_makes_a_request_one(gateway: Served) -> None:
    async def test() -> None:
        key = {"idempotency_key": "k1", "name": "key"}
        first = await appended(gateway, HELLO, turnlock.user("b"), **key)
        again = await appended(gateway, HELLO, turnlock.user("b"), **key)
        assert [e["id"] for e in again["entries"]] == [e["id"] for e in first["entries"]]
        assert all(one["repeated"] for one in again["entries"])
        # Another message under the same key is not swallowed.
        other = await appended(gateway, turnlock.user("c"), **key)
        assert not other["entries"][0]["repeated"]
        assert [text for _, text in gateway.said("key")] == ["hello", "b", "c"]
        for bad in ("x" * 256, "", "a\r\nidempotency-key: b"):
            assert (await append(gateway, HELLO, name="key", idempotency_key=bad)).status == 400

    run(test())


FORGED: list[object] = [
    {"type": "session", "id": "x"},
    header("x", cwd="/", wall=0.0),
    opening("T1"),
    {"type": "custom", "customType": END, "data": {"turnId": "T1"}},
    {"type": "custom", "customType": MARKER, "data": {"turnId": "T1", "reason": "error"}},
    {**HELLO, "epoch": 7},
    {**HELLO, "epoch": None},
    {"type": ""},
    {"type": 7},
    {"type": "x" * 0, "id": "a"},
    {},
    "text",
    None,
    [],
    {"type": "message"},
    {"type": "message", "message": "hello"},
    {"type": "message", "message": {"role": ["user"]}},
    {**HELLO, "id": "no space"},
    {**HELLO, "id": ""},
    {**HELLO, "id": "x" * 129},
    {**HELLO, "id": 7},
    {"type": ["y" * 100_000]},
]


@pytest.mark.parametrize("entry", FORGED, ids=range(len(FORGED)))
def test_what_is_not_yours_to_write_is_refused_and_leaves_no_trace(
    gateway: Served, entry: object
) -> None:
    async def test() -> None:
        answer = await append(gateway, HELLO, entry, name="forged")
        assert (answer.status, answer.error()["code"]) == (400, "invalid_request")
        assert answer.error()["param"] == "entries[1]"
        assert len(answer.body) < 1000
        assert gateway.transcript("forged") == []

    run(test())


BODIES: list[object] = [
    {},
    {"entries": None},
    {"entries": []},
    {"entries": {}},
    {"entries": [HELLO] * 1001},
    {"entries": [HELLO], "wait": 5},
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_a_body_that_cannot_be_meant_is_refused(gateway: Served, body: object) -> None:
    async def test() -> None:
        answer = await post_to(gateway, target("bodies"), json.dumps(body).encode())
        assert (answer.status, answer.error()["code"]) == (400, "invalid_request")
        assert gateway.transcript("bodies") == []

    run(test())


def test_an_entry_nested_as_deeply_as_json_allows_is_stored_or_refused(gateway: Served) -> None:
    async def test() -> None:
        statuses = set()
        for depth in (10, 500, 900, 990, 1000, 5000):
            deep = "[" * depth + "]" * depth
            body = f'{{"entries":[{{"type":"note","x":{deep}}}]}}'.encode()
            statuses.add((await post_to(gateway, target("deep"), body)).status)
        assert statuses <= {200, 400}
        stored = await page(gateway, transcript("deep"))
        assert stored["damaged"] == []

    run(test())


@pytest.mark.parametrize("wait", ["-1", "3601", "nan", "inf", "1_0", "", "x", "1e999"])
def test_a_wait_that_is_none_is_refused(gateway: Served, wait: str) -> None:
    async def test() -> None:
        answer = await append(gateway, HELLO, query=f"?wait={wait}")
        assert (answer.status, answer.error()["param"]) == (400, "wait")

    run(test())


def test_a_busy_session_is_said_to_be_busy_as_for_a_message(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path, Scripted(echo), limits=f"wait = 30\n{PATIENT}") as gateway:
            with holder(gateway.state):
                for wait in ("0", "0.01"):
                    answer = await append(gateway, HELLO, query=f"?wait={wait}")
                    assert (answer.status, answer.error()["code"]) == (409, "conversation_locked")
                    assert int(answer.headers["retry-after"]) >= 1
                    told = answer.error()
                    assert (told["turn"], told["limit"], told["session"]) == ("T1", 300, "main/a")
                    assert told["waited"] < told["limit"]
                entries = [e for e in gateway.transcript() if e["type"] == "message"]
                assert len(entries) == 1

    run(test())


def test_entries_wait_for_a_turn_and_come_after_it(tmp_path: Path) -> None:
    async def test() -> None:
        gate = Gate()
        async with (
            served(tmp_path, gate.model, limits=PATIENT) as gateway,
            gateway.client() as client,
        ):
            first = await held(gateway, client, gate)
            second = asyncio.create_task(appended(gateway, turnlock.user("later")))
            done, _ = await asyncio.wait({second}, timeout=0.1)
            assert not done
            gate.opened.set()
            assert await first == "re: hold"
            assert (await second)["entries"][0]["epoch"] == 2
            assert [text for _, text in gateway.said()] == ["hold", "re: hold", "later"]

    run(test())


def test_waiting_entries_count_as_waiting_turns(tmp_path: Path) -> None:
    async def test() -> None:
        gate = Gate()
        async with (
            served(tmp_path, gate.model, limits=PATIENT, gateway="max_waiting = 1") as gateway,
            gateway.client() as client,
        ):
            first = await held(gateway, client, gate)
            second = asyncio.create_task(append(gateway, turnlock.user("second")))
            await asyncio.wait({second}, timeout=0.1)
            third = await append(gateway, turnlock.user("third"))
            assert (third.status, third.error()["code"]) == (503, "queue_full")
            assert int(third.headers["retry-after"]) > 0
            gate.opened.set()
            assert await first == "re: hold"
            assert (await second).status == 200

    run(test())


def test_who_leaves_while_waiting_appends_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        gate = Gate()
        async with (
            served(tmp_path, gate.model, limits=PATIENT) as gateway,
            gateway.client() as client,
        ):
            first = await held(gateway, client, gate)
            body = json.dumps({"entries": [turnlock.user("never")]}).encode()
            async with line(gateway) as connection:
                await connection.send(request(gateway, target(), body=body))
                store = turnlock.open_store(gateway.state)
                await eventually(lambda: store.waiters(["main/a"])["main/a"])
            await eventually(lambda: not store.waiters(["main/a"])["main/a"])
            gate.opened.set()
            assert await first == "re: hold"
            assert [text for _, text in gateway.said()] == ["hold", "re: hold"]

    run(test())


def test_no_entries_are_taken_in_while_it_drains(tmp_path: Path) -> None:
    async def test() -> None:
        gate = Gate()
        async with (
            served(tmp_path, gate.model, limits=f"{PATIENT[:-3]}8.0") as gateway,
            gateway.client() as client,
        ):
            first = await held(gateway, client, gate)
            waiting = asyncio.create_task(append(gateway, turnlock.user("waits")))
            store = turnlock.open_store(gateway.state)
            await eventually(lambda: store.waiters(["main/a"])["main/a"])
            gateway.stop.wish()
            told = await waiting
            assert (told.status, told.error()["code"]) == (503, "shutting_down")
            new = await append(gateway, HELLO)
            assert (new.status, new.error()["code"]) == (503, "shutting_down")
            gate.opened.set()
            assert await first == "re: hold"
        assert [text for _, text in gateway.said()] == ["hold", "re: hold"]

    run(test())
