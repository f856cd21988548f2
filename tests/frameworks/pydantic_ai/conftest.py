"""A store in a directory, and the practice model server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import turnlock

from .models import Practice, practice


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(state: Path) -> Iterator[turnlock.Store]:
    with turnlock.open_store(state) as store:
        yield store


@pytest.fixture
def server() -> Iterator[Practice]:
    with practice() as server:
        yield server


@pytest.fixture
def loop() -> Iterator[None]:
    """For ``run_sync``, which leaves the loop that it makes for itself."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()
