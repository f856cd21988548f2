"""The practice model without the pauses that it makes for people, as a process: prints its url."""

from __future__ import annotations

import asyncio

from turnlock.practice import PracticeServer


async def _serve() -> None:
    async with PracticeServer() as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve())
