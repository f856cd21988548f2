"""A model over HTTP, and the practice server behind it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from turnlock.practice import PracticeServer


def openai(url: str, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(base_url=url, api_key=SecretStr("any"), model="practice", **options)


@contextmanager
def practice(**options: Any) -> Iterator[PracticeServer]:
    """A practice server on a loop and thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="practice")
    thread.start()
    server = PracticeServer(**options)
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result()
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
