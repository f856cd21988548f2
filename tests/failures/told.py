"""Gateways as processes, whose model does what a test says, and what their clients get."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.serving import PROCESS, Served, process_of
from tests.helpers import PATIENCE, Child

# The model answers at once; ``hang`` never, and ``hold`` after half of it, when told to.
TOLD = """
    import asyncio
    from turnlock.gateway import Agent, process, server
    from turnlock.models import Delta, Finished
    class Told:
        provider = model = api = "told"
        async def stream(self, messages):
            text = messages[-1]["content"]
            print("asked", text, flush=True)
            if text == "hang":
                await asyncio.Event().wait()
            if text == "hold":
                yield Delta("half of it, ")
                await asyncio.to_thread(sys.stdin.readline)
            yield Delta(f"re: {text}")
            yield Finished("stop", None, "told")
        async def aclose(self):
            pass
    agents = {"main": Agent("main", Told(), "")}
    serve = server.serve
    process.serve = lambda *given, **named: serve(*given, agents=agents, **named)
"""


@contextmanager
def told(tmp_path: Path, more: str = "", **settings: str) -> Iterator[tuple[Served, Child]]:
    """A gateway in a process of its own, with that model; ``more`` is run before it serves."""
    with process_of(TOLD + more + PROCESS, tmp_path, **settings) as served:
        yield served


def run(test: Coroutine[Any, Any, None], patience: float = PATIENCE) -> None:
    """Run a test in a loop. That it does not come to an end is what it shows then."""

    async def bounded() -> None:
        try:
            async with asyncio.timeout(patience):
                await test
        except TimeoutError:
            pytest.fail("it did not come to an end")

    asyncio.run(bounded())
