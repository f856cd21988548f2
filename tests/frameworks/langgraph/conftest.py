"""One event loop for all tests of the folder.

Models of langchain-openai share their HTTP clients, and a connection belongs to its loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.frameworks.langgraph import graphs


@pytest.fixture(scope="session", autouse=True)
def one_loop() -> Iterator[None]:
    with asyncio.Runner() as runner:
        graphs.runner.append(runner)
        yield
        graphs.runner.clear()
