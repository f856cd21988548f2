"""A client that leaves ends what it asked for, down to the model's connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from turnlock.practice import PracticeServer

from .raw import Line, chat, line, request
from .serving import Served, ask, eventually, run, served
from .test_gateway_waiting import PATIENT, Gate, held

PROMPT = 1.0  # the model's endpoint has to see its caller gone within this


@asynccontextmanager
async def over_practice(tmp_path: Path) -> AsyncIterator[tuple[Served, PracticeServer]]:
    """A gateway whose model is an endpoint that the test can look into."""
    async with PracticeServer(pulse=0.01) as practice:
        rest = f'[models.p]\nbase_url = "{practice.url}"\n[agents.main]\nmodel = "p"'
        async with served(tmp_path, limits=PATIENT, rest=rest) as gateway:
            yield gateway, practice


async def leave(
    gateway: Served,
    practice: PracticeServer,
    body: bytes,
    *,
    before: bytes = b"",
    behind: bytes = b"",
) -> None:
    """Ask, see the model called, go away, and see the model's connection closed.

    ``behind`` is what is sent while the model is at it, ``before`` the beginning of it all.
    """
    async with line(gateway) as connection:
        await connection.send(before + request(gateway, body=body))
        if before:
            await connection.answer()
        async with asyncio.timeout(PROMPT):
            await practice.wait_for(lambda seen: seen.requests == 1)
        if behind:
            await connection.send(behind)
        await no_answer(connection)
    async with asyncio.timeout(PROMPT):
        await practice.wait_for(lambda seen: seen.open_connections == 0)
    assert len(practice.statistics().peer_closes) == 1


async def no_answer(connection: Line) -> None:
    reading = asyncio.create_task(connection.reader.read(1))
    done, _ = await asyncio.wait({reading}, timeout=0.05)
    assert not done
    reading.cancel()


@pytest.mark.parametrize("stream", [True, False])
def test_a_turn_whose_client_leaves_is_cancelled(tmp_path: Path, stream: bool) -> None:
    async def test() -> None:
        async with over_practice(tmp_path) as (gateway, practice), gateway.client() as client:
            await leave(gateway, practice, chat("/hang", stream=stream, user="a"))
            (marker,) = await eventually(gateway.markers)
            assert marker["reason"] == "cancelled"
            assert await ask(client, "hello") == "practice reply 2 to: hello"

    run(test())


@pytest.mark.parametrize("behind", ["a request", "a line", "with it"])
def test_a_client_that_leaves_is_seen_whatever_came_behind_its_request(
    tmp_path: Path, behind: str
) -> None:
    async def test() -> None:
        async with over_practice(tmp_path) as (gateway, practice):
            next_one = request(gateway, "/healthz", method="GET")
            body = chat("/hang", user="a")
            if behind == "with it":
                # Three in one piece: the next one is behind a request that was behind another.
                await leave(gateway, practice, body, before=next_one, behind=next_one)
            else:
                last = next_one if behind == "a request" else b"\r\n"
                await leave(gateway, practice, body, behind=last)
            (marker,) = await eventually(gateway.markers)
            assert marker["reason"] == "cancelled"

    run(test())


@pytest.mark.parametrize("stream", [True, False])
def test_a_call_without_session_whose_client_leaves_is_cancelled(
    tmp_path: Path, stream: bool
) -> None:
    async def test() -> None:
        async with over_practice(tmp_path) as (gateway, practice):
            await leave(gateway, practice, chat("/hang", stream=stream))

    run(test())


def test_a_client_that_leaves_in_mid_stream_ends_the_turn(tmp_path: Path) -> None:
    async def test() -> None:
        async with over_practice(tmp_path) as (gateway, practice), line(gateway) as connection:
            await connection.send(request(gateway, body=chat("/dribble", stream=True, user="a")))
            assert (await connection.head()).status == 200
            connection.writer.transport.abort()
            async with asyncio.timeout(PROMPT):
                await practice.wait_for(lambda seen: len(seen.peer_closes) == 1)
            (marker,) = await eventually(gateway.markers)
            assert marker["reason"] == "cancelled"
            assert gateway.said() == [("user", "/dribble")]

    run(test())


def test_a_waiting_client_that_leaves_has_said_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        gate = Gate()
        async with (
            served(tmp_path, gate.model, limits=PATIENT) as gateway,
            gateway.client() as client,
        ):
            first = await held(gateway, client, gate)
            async with line(gateway) as connection:
                await connection.send(request(gateway, body=chat("never mind", user="a")))
                await no_answer(connection)
            gate.opened.set()
            assert await first == "re: hold"
            assert await ask(client, "b") == "re: b"
            assert [text for role, text in gateway.said() if role == "user"] == ["hold", "b"]
            assert gateway.markers() == []

    run(test())
