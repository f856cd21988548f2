"""One turn at a time on a session: who comes later waits, for as long as is said, and no longer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import openai

from turnlock.models import Delta, Finished, Message

from ..helpers import holder
from .raw import get
from .serving import (
    FAST,
    QUICK,
    Scripted,
    Served,
    ask,
    echo,
    eventually,
    facts,
    failure,
    last_text,
    run,
    served,
)
from .test_gateway_failures import SOON

PATIENT = "first_token = 5\nidle = 5\nturn = 6\ndrain = 0.2"
# For a crowd on a busy machine.
LONG = "first_token = 40\nidle = 40\nturn = 45\ndrain = 0.2"


class Gate:
    """A model that answers ``hold`` only once it is opened, and all else at once."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.model = Scripted(self._script)

    async def _script(self, messages: Sequence[Message]) -> AsyncGenerator[Delta | Finished, None]:
        if last_text(messages) == "hold":
            await self.opened.wait()
        async for item in echo(messages):
            yield item


async def held(gateway: Served, client: openai.AsyncOpenAI, gate: Gate) -> asyncio.Task[str]:
    """A turn that holds session ``a`` and is with its model."""
    turn = asyncio.create_task(ask(client, "hold"))
    await eventually(lambda: gate.model.calls)
    assert gateway.claim().exists()
    return turn


def test_a_second_message_waits_and_is_answered(tmp_path: Path) -> None:
    async def test() -> None:
        gate = Gate()
        async with (
            served(tmp_path, gate.model, limits=PATIENT) as gateway,
            gateway.client() as client,
        ):
            first = await held(gateway, client, gate)
            rest = [asyncio.create_task(ask(client, text)) for text in ("b", "c")]
            done, _ = await asyncio.wait(rest, timeout=0.1)
            assert not done
            gate.opened.set()
            assert await first == "re: hold"
            assert await asyncio.gather(*rest) == ["re: b", "re: c"]
            roles = [role for role, _ in gateway.said()]
            assert roles == ["user", "assistant"] * 3

    run(test())


def test_a_busy_session_is_said_to_be_busy_with_its_holder(tmp_path: Path) -> None:
    async def test() -> None:
        gate = Gate()
        async with (
            # The stream's head would be due in the middle of the wait: it has to hold that back.
            served(
                tmp_path,
                gate.model,
                limits=f"wait = 0.2\n{PATIENT}",
                pace=QUICK._replace(headers=0.05),
            ) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            first = await held(gateway, client, gate)
            began = time.monotonic()
            error = await failure(client, "b", stream=True)
            assert 0.2 <= time.monotonic() - began < 0.2 + SOON
            assert isinstance(error, openai.ConflictError)
            assert error.code == "conversation_locked"
            assert int(error.response.headers["retry-after"]) >= 1
            assert "x-should-retry" not in error.response.headers
            told = facts(error)
            holder = next(e["data"]["turnId"] for e in gateway.transcript() if "data" in e)
            assert (told["turn"], told["limit"]) == (holder, 6.0)
            assert 0 < told["age"] < 6
            assert 0.2 <= told["waited"] < 0.2 + SOON
            gate.opened.set()
            assert await first == "re: hold"
            assert gateway.said() == [("user", "hold"), ("assistant", "re: hold")]

    run(test())


def test_the_clients_own_retry_gets_through_a_busy_session(tmp_path: Path) -> None:
    async def test() -> None:
        gate = Gate()
        limits = "wait = 0.1\nfirst_token = 1.5\nidle = 1.5\nturn = 1.5"  # told to retry in 1 s
        async with (
            served(tmp_path, gate.model, limits=limits) as gateway,
            gateway.client() as client,
        ):
            first = await held(gateway, client, gate)
            second = asyncio.create_task(ask(client, "b"))
            await asyncio.wait({second}, timeout=0.4)
            gate.opened.set()
            assert await first == "re: hold"
            assert await second == "re: b"
            assert gateway.said()[2:] == [("user", "b"), ("assistant", "re: b")]

    run(test())


def test_only_so_many_wait(tmp_path: Path) -> None:
    async def test() -> None:
        gate = Gate()
        async with (
            served(tmp_path, gate.model, limits=PATIENT, gateway="max_waiting = 2") as gateway,
            gateway.client(max_retries=0) as client,
        ):
            first = await held(gateway, client, gate)
            rest = [asyncio.create_task(ask(client, text)) for text in ("b", "c")]
            done, _ = await asyncio.wait(rest, timeout=0.2)
            assert not done
            error = await failure(client, "d")
            assert isinstance(error, openai.InternalServerError)
            assert (error.status_code, error.code) == (503, "queue_full")
            gate.opened.set()
            await asyncio.gather(first, *rest)
            assert await ask(client, "e") == "re: e"

    run(test())


def test_health_is_told_while_hundred_turns_hang(tmp_path: Path) -> None:
    async def test() -> None:
        gate = Gate()
        async with (
            served(tmp_path, gate.model, limits=LONG) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            turns = [
                asyncio.create_task(ask(client, "hold", session=f"s{number}"))
                for number in range(100)
            ]
            await eventually(lambda: len(gate.model.calls) == 100)
            for _ in range(20):
                assert (await get(gateway, "/healthz")).status == 200
            assert not any(turn.done() for turn in turns)
            gate.opened.set()
            await asyncio.gather(*turns)

    run(test())


def test_a_lock_of_another_process_is_waited_for_and_named(tmp_path: Path) -> None:
    async def test() -> None:
        with holder(tmp_path / "state", "T9") as other:
            async with (
                served(tmp_path, Scripted(echo), limits=f"wait = 0.2\n{FAST}") as gateway,
                gateway.client(max_retries=0) as client,
            ):
                error = await failure(client, "b")
                assert (error.code, facts(error)["turn"]) == ("conversation_locked", "T9")
                other.kill()
                assert await ask(client, "c") == "re: c"
                assert [m["reason"] for m in gateway.markers()] == ["interrupted"]

    run(test())
