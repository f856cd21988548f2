"""What the processes of `test_processes` do: runs on one session, each told of by its text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from pathlib import Path

from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse

import turnlock

from .scripted import ask, asked, calls, runner_of, said, says


def main(peer: Connection, state: Path, max_hold: float) -> None:
    """Run once for each text that comes, and send what came of it."""

    async def script(request: LlmRequest) -> AsyncIterator[LlmResponse]:
        match said(request)[-1].removeprefix("user:"):
            case "hang":
                peer.send("asked")
                await asyncio.Event().wait()
            case "block":
                peer.send("asked")
                # In the thread of the loop: nothing in this process can end it.
                peer.recv()
            case "work":
                yield calls("work", "work")
                return
        yield says(f"re {asked(request)}")

    async def work() -> str:
        peer.send("working")
        await asyncio.Event().wait()
        return ""

    runner = runner_of(turnlock.open_store(state), script, [work], max_hold=max_hold)
    while True:
        try:
            peer.send(asyncio.run(ask(runner, peer.recv())))
        except turnlock.LeaseRevoked as error:
            peer.send(f"revoked {error.reason}")
        except EOFError:
            return


# What ADK imports at the first run only takes longer than the limits of the tests.
asyncio.run(ask(runner_of(turnlock.open_store("memory:")), "hello"))
