"""The last byte of an answer comes after the turn's terminal entry and after its lease is free."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from turnlock import LeaseRevoked, Limits
from turnlock.errors import StoreError
from turnlock.events import TurnRevoked
from turnlock.gateway.errors import Explainer, Refusal
from turnlock.gateway.exchange import Exchange, Exchanges, Phase, Reply
from turnlock.turns.aio import AsyncTurn

from .raw import chat, line, request
from .serving import Scripted, echo, run, served

RUNS = 8


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("text", ["hello", "/cut", "/hang"])
def test_nothing_is_left_to_do_when_an_answer_ends(tmp_path: Path, text: str, stream: bool) -> None:
    limits = f"first_token = {0.05 if text == '/hang' else 5.0}"

    async def test() -> None:
        async with served(tmp_path, limits=limits) as gateway:
            for number in range(RUNS):
                async with line(gateway) as connection:
                    body = chat(text, stream=stream, user="a")
                    await connection.send(request(gateway, body=body))
                    answer = await connection.answer()
                    claimed = gateway.claim().exists()
                assert not claimed
                assert len(gateway.terminals()) == number + 1
                assert (b"[DONE]" in answer.body) == (stream and text == "hello")

    run(test())


def test_the_claim_is_there_while_the_answer_is_not(tmp_path: Path) -> None:
    """The control for the test above: it looks at a file that a turn does have."""

    async def test() -> None:
        async with served(tmp_path) as gateway, line(gateway) as connection:
            await connection.send(request(gateway, body=chat("/stall", stream=True, user="a")))
            await connection.head()
            assert gateway.claim().exists()
            assert gateway.terminals() == []

    run(test())


def test_a_revoked_turn_is_over_when_its_store_says_so() -> None:
    """The holder is told when the fence is up, and its marker comes after that."""

    async def revoked() -> Reply:
        raise LeaseRevoked("main/a", turn_id="t", held=1.0, reason="model-limit")

    async def test() -> None:
        exchanges = Exchanges()
        exchange: Exchange[Reply] = Exchange(
            "t", "main/a", Explainer(Limits(), str), hand_over=60.0
        )
        exchanges.start(exchange, revoked())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not exchange.outcome.done()
        exchanges.on_event(TurnRevoked("main/a", "t", "model-limit", 1.0, "model", 0.0, ()))
        outcome = await exchange.outcome
        assert isinstance(outcome, Refusal)
        assert (outcome.status, outcome.code) == (504, "model_limit")

    run(test())


def test_a_marker_that_hangs_on_a_disk_does_not_keep_the_client(tmp_path: Path) -> None:
    async def revoked() -> Reply:
        raise LeaseRevoked("main/a", turn_id="t", held=1.0, reason="hold-limit")

    async def test() -> None:
        exchange: Exchange[Reply] = Exchange(
            "t", "main/a", Explainer(Limits(), str), hand_over=0.01
        )
        Exchanges().start(exchange, revoked())
        outcome = await exchange.outcome
        assert isinstance(outcome, Refusal)
        assert outcome.code == "turn_limit"

    run(test())


def test_a_full_disk_is_a_typed_error(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path, Scripted(echo)) as gateway:
            gateway.claim().parent.parent.mkdir(parents=True)
            gateway.claim().parent.write_text("a file where a directory has to be")
            async with line(gateway) as connection:
                await connection.send(request(gateway, body=chat("hello", user="a")))
                answer = await connection.answer()
            assert (answer.status, answer.error()["code"]) == (503, "storage_error")
            assert "x-should-retry" not in answer.headers
            gateway.claim().parent.unlink()
            async with line(gateway) as connection:
                await connection.send(request(gateway, body=chat("hello", user="a")))
                assert (await connection.answer()).status == 200

    run(test())


def test_a_message_that_could_not_be_stored_may_be_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(turn: AsyncTurn, *entries: object) -> list[str]:
        raise StoreError(turn.session, "append", "No space left on device")

    async def test() -> None:
        async with served(tmp_path, Scripted(echo)) as gateway:
            with monkeypatch.context() as full:
                full.setattr(AsyncTurn, "append", fail)
                async with line(gateway) as connection:
                    await connection.send(request(gateway, body=chat("hello", user="a")))
                    answer = await connection.answer()
            assert (answer.status, answer.error()["code"]) == (503, "storage_error")
            assert "x-should-retry" not in answer.headers

    run(test())


@pytest.mark.parametrize("phase", Phase)
def test_a_complete_reply_is_stored_whoever_leaves(phase: Phase) -> None:
    async def finish(exchange: Exchange[Reply]) -> Reply:
        exchange.phase = phase
        await asyncio.sleep(0.01)
        return Reply("text", "stop", None)

    async def test() -> None:
        exchange: Exchange[Reply] = Exchange(
            "t", "main/a", Explainer(Limits(), str), hand_over=60.0
        )
        Exchanges().start(exchange, finish(exchange))
        await asyncio.sleep(0)
        exchange.client_left()
        outcome = await exchange.outcome
        assert isinstance(outcome, Reply) == (phase is Phase.FINISHING)

    run(test())
