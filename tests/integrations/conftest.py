from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import turnlock


@pytest.fixture
def store(state: Path) -> Iterator[turnlock.Store]:
    with turnlock.open_store(state) as store:
        yield store
