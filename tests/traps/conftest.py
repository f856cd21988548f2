"""A store of files for the traps of Python: what they leave has to be seen by other processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import turnlock
from turnlock.store import Store


@pytest.fixture
def store(state: Path) -> Iterator[Store]:
    with turnlock.open_store(state, durability="none") as store:
        yield store
