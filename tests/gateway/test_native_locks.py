"""What an operator sees of the locks, and how a session is taken from one turn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest

from turnlock.models import Delta, Finished, Message
from turnlock.transcript.entries import OPENING

from ..cli.running import run as run_command
from ..helpers import holder
from .raw import Answer, get, post_to
from .serving import Scripted, Served, ask, deaf_sleep, echo, eventually, failure, run, served
from .test_gateway_waiting import PATIENT, Gate, held

RELEASE = "/sessions/main/a/release"


async def locks(gateway: Served) -> Any:
    answer = await get(gateway, "/locks")
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    return json.loads(answer.body)


async def release(gateway: Served, turn_id: str | None, **more: object) -> Answer:
    return await post_to(gateway, RELEASE, json.dumps({"turn_id": turn_id, **more}).encode())


def test_a_lock_is_shown_with_what_its_turn_is_at(tmp_path: Path) -> None:
    async def test() -> None:
        gate = Gate()
        async with (
            served(tmp_path, gate.model, limits=PATIENT) as gateway,
            gateway.client() as client,
        ):
            assert await locks(gateway) == {"locks": [], "zombies": []}
            first = await held(gateway, client, gate)
            second = asyncio.create_task(ask(client, "b"))
            (lock,) = await eventually_waiters(gateway, 1)
            assert lock["path"] == str(gateway.claim())
            assert (lock["session"], lock["phase"], lock["stale"]) == ("main/a", "model", False)
            assert lock["client"].startswith("127.0.0.1:")
            assert lock["progress_age_seconds"] >= 0
            gate.opened.set()
            assert [await first, await second] == ["re: hold", "re: b"]

    run(test())


async def eventually_waiters(gateway: Served, number: int) -> list[Any]:
    while True:
        listed: list[Any] = (await locks(gateway))["locks"]
        if [lock["waiters"] for lock in listed] == [number]:
            return listed


def test_what_another_process_holds_is_shown_without_what_is_not_known(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path, Scripted(echo)) as gateway:
            with holder(gateway.state) as other:
                (lock,) = (await locks(gateway))["locks"]
                assert (lock["pid"], lock["turn_id"]) == (other.pid, "T1")
                assert (lock["phase"], lock["client"], lock["waiters"]) == (None, None, 0)

    run(test())


def test_the_session_goes_to_who_waits_and_the_answer_says_to_whom(tmp_path: Path) -> None:
    async def test() -> None:
        gate = Gate()
        async with (
            served(tmp_path, gate.model, limits=PATIENT) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            first = asyncio.create_task(failure(client, "hold"))
            await eventually(lambda: gate.model.calls)
            (lock,) = (await locks(gateway))["locks"]
            second = asyncio.create_task(ask(client, "hold"))
            await eventually_waiters(gateway, 1)
            answer = await release(gateway, lock["turn_id"], reason="operator")
            fate = json.loads(answer.body)
            assert (answer.status, fate["released"], fate["marker"]) == (200, True, "written")
            assert (fate["fenced"], fate["process"], fate["zombie"]) == (True, "alive", False)
            assert (await first).code == "operator"
            turns = [e["data"]["turnId"] for e in gateway.transcript() if is_opening(e)]
            assert fate["next"] is None or fate["next"]["turn_id"] != lock["turn_id"]
            assert turns[0] == lock["turn_id"]
            # The turn that was shown is over; who asks for it again takes nothing from the next.
            await eventually(lambda: len(gate.model.calls) == 2)
            again = await release(gateway, lock["turn_id"])
            assert (again.status, again.error()["code"]) == (409, "turn_changed")
            assert again.error()["turn"] not in (None, lock["turn_id"])
            unnamed = await release(gateway, None)
            assert "and not by a holder that names no turn any more" in unnamed.error()["message"]
            gate.opened.set()
            assert await second == "re: hold"
            free = json.loads((await release(gateway, lock["turn_id"])).body)
            assert (free["released"], free["holder"], free["next"]) == (False, None, None)

    run(test())


def is_opening(entry: dict[str, Any]) -> bool:
    return entry.get("customType") == OPENING


def test_code_that_ignores_its_cancellation_is_told_as_a_zombie(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def deaf(messages: Sequence[Message]) -> AsyncGenerator[Delta | Finished, None]:
        if messages[-1]["content"] == "deaf":
            await deaf_sleep(go_on)
        async for item in echo(messages):
            yield item

    async def test() -> None:
        model = Scripted(deaf)
        async with (
            served(tmp_path, model, limits=PATIENT) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            first = asyncio.create_task(failure(client, "deaf"))
            await eventually(lambda: model.calls)
            (lock,) = (await locks(gateway))["locks"]
            fate = json.loads((await release(gateway, lock["turn_id"])).body)
            assert (fate["zombie"], fate["fenced"], fate["marker"]) == (True, True, "written")
            assert (await first).code == "operator"
            (zombie,) = (await locks(gateway))["zombies"]
            assert (zombie["session"], zombie["reason"]) == ("main/a", "operator")
            assert zombie["turn_id"] == lock["turn_id"]
            assert any("deaf_sleep" in frame for frame in zombie["stack"])
            assert await ask(client, "next") == "re: next"
            go_on.set()
            await gone(gateway)
            assert gateway.said() == [("user", "deaf"), ("user", "next"), ("assistant", "re: next")]

    run(test())


async def gone(gateway: Served) -> None:
    while (await locks(gateway))["zombies"]:
        pass


def test_what_another_process_holds_is_taken_from_that_turn_only(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path, Scripted(echo)) as gateway:
            with holder(gateway.state) as other:
                for turn_id in ("T2", None):
                    answer = await release(gateway, turn_id)
                    assert (answer.status, answer.error()["code"]) == (409, "turn_changed")
                    assert answer.error()["turn"] == "T1"
                fate = json.loads((await release(gateway, "T1")).body)
                assert (fate["released"], fate["fenced"], fate["zombie"]) == (True, True, False)
                assert (fate["process"], fate["marker"]) == ("alive", "written")
                # Fenced, and not signalled.
                other.tell("late")
                other.expect("revoked operator")

    run(test())


FOREIGN = {"pid": 1, "createdAt": "2026-01-01T00:00:00.000Z"}


def test_no_process_is_signalled_whatever_a_lock_says(tmp_path: Path) -> None:
    """Neither is a live program's lock taken that nobody can fence, nor does a number overflow."""
    hostile: list[dict[str, object]] = [
        {"pid": 1},
        {"pid": -1},
        {"pid": 0},
        {"pid": 2**63},
        {"pid": 1, "maxHoldMs": 1e308},
        {"v": 1, "pid": 1, "turnId": "\x1b[2J\u202e\ud800\x7f", "maxHoldMs": -1},
        {"v": 2, "pid": 1, "turnId": "x"},
    ]

    async def test() -> None:
        async with served(tmp_path, Scripted(echo)) as gateway:
            claim = gateway.claim()
            claim.parent.mkdir(parents=True)
            for content in hostile:
                claim.write_text(json.dumps(FOREIGN | content))
                answer = await get(gateway, "/locks")
                assert answer.status == 200
                assert answer.body.isascii()
                assert not any(byte < 0x20 or byte == 0x7F for byte in answer.body)
                (lock,) = json.loads(answer.body)["locks"]
                assert b"\\ud800" not in answer.body
                answer = await release(gateway, lock["turn_id"])
                assert answer.status in (200, 409), answer.body
            for raw in ('{"pid": 1, "maxHoldMs": NaN}', '{"pid": 1, "maxHoldMs": 1e999}', "["):
                claim.write_text(raw)
                assert (await get(gateway, "/locks")).status == 200
                assert (await release(gateway, None)).status in (200, 409, 503)

    run(test())


@pytest.mark.parametrize("body", [b"", b"{}", b'{"reason": "operator"}'])
def test_a_release_that_names_no_turn_is_of_the_one_that_holds(tmp_path: Path, body: bytes) -> None:
    """Who is woken at night has a key, and no patience to look for more."""

    async def test() -> None:
        gate = Gate()
        async with (
            served(tmp_path, gate.model, limits=PATIENT) as gateway,
            gateway.client() as client,
        ):
            free = await post_to(gateway, RELEASE, body)
            assert (free.status, json.loads(free.body)["released"]) == (200, False)
            first = asyncio.create_task(failure(client, "hold"))
            await eventually(lambda: gate.model.calls)
            (lock,) = (await locks(gateway))["locks"]
            fate = json.loads((await post_to(gateway, RELEASE, body)).body)
            assert (fate["released"], fate["fenced"], fate["marker"]) == (True, True, "written")
            assert fate["holder"]["turn_id"] == lock["turn_id"]
            assert (await first).code == "operator"

    run(test())


BAD = [
    {"turn_id": 7},
    {"turn_id": ""},
    {"turn_id": "x" * 201},
    {"turn_id": "x", "reason": "because"},
    {"turn_id": "x", "reason": None},
    {"turn_id": "x", "reason": ["operator"]},
    {"turn_id": "x", "force": True},
]


@pytest.mark.parametrize("body", BAD, ids=str)
def test_a_release_that_cannot_be_meant_is_refused(gateway: Served, body: object) -> None:
    async def test() -> None:
        answer = await post_to(gateway, RELEASE, json.dumps(body).encode())
        assert (answer.status, answer.error()["code"]) == (400, "invalid_request")
        assert answer.error()["param"] in ("turn_id", "reason", "force")

    run(test())


def test_an_operator_can_look_and_release_during_a_drain(tmp_path: Path) -> None:
    async def test() -> None:
        gate = Gate()
        async with (
            served(tmp_path, gate.model, limits=f"{PATIENT[:-3]}8.0") as gateway,
            gateway.client(max_retries=0) as client,
        ):
            turn = asyncio.create_task(failure(client, "hold"))
            await eventually(lambda: gate.model.calls)
            gateway.stop.wish()
            while (await get(gateway, "/healthz")).status == 200:
                pass
            (lock,) = (await locks(gateway))["locks"]
            assert (await get(gateway, "/v1/models")).status == 200
            fate = json.loads((await release(gateway, lock["turn_id"])).body)
            assert (fate["released"], fate["marker"]) == (True, "written")
            assert (await turn).code == "operator"
        assert [marker["reason"] for marker in gateway.markers()] == ["operator"]
        assert run_command(gateway.state, "doctor").code == 0

    run(test())
