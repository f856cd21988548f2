from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import turnlock


def pytest_configure(config: pytest.Config) -> None:
    # LiteLlm's library asks the network for prices, three times, and waits in between.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    # What ADK says of its own parts, at some of its versions.
    config.addinivalue_line("filterwarnings", r"ignore:\[EXPERIMENTAL\]:UserWarning")
    # Its own tool that is an agent does so.
    config.addinivalue_line("filterwarnings", "ignore:The `plugins` argument:DeprecationWarning")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(state: Path) -> Iterator[turnlock.Store]:
    with turnlock.open_store(state) as store:
        yield store
