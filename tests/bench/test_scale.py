"""The plan past one database: its page is that of its numbers, and the model does what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bench.measure import a_directory
from bench.scale.__main__ import as_json, numbers_of, page_of
from bench.scale.measuring import Effort, measured
from bench.scale.model import Host, Load, Usage, load, shares

from tests.postgres.fixtures import NO_SERVER
from tests.postgres.server import programs

DOCS = Path(__file__).parent.parent.parent / "docs"
TINY = Effort(20, 2, (50, 100))


def kept() -> dict[str, Any]:
    found = json.loads((DOCS / "benchmarks/scale.json").read_text())
    assert isinstance(found, dict)
    return found


def test_the_page_is_that_of_its_numbers() -> None:
    """Nobody edited docs/design/scale.md, and no text changed without it."""
    assert (DOCS / "design/scale.md").read_text() == page_of(kept()), (
        "write it anew: .venv/bin/python -m bench.scale --page"
    )


@pytest.mark.postgres
def test_everything_is_measured_and_kept() -> None:
    if programs() is None:
        pytest.skip(NO_SERVER)
    with a_directory() as directory:
        found = measured(directory, TINY, lambda text: None)
    assert all(cost.processor > 0 for cost in found.costs.values())
    # A header came with the making; a turn has its opening, a message and its end.
    assert found.changed.inserted == pytest.approx(3, abs=0.5)
    numbers = json.loads(json.dumps(as_json(found)))
    assert set(numbers) == set(kept()["measured"])
    assert "What breaks first" in page_of({"machine": {}, "warning": "", "measured": numbers})


def loaded(sessions: float, **usage: float) -> Load:
    return load(numbers_of(kept()), Usage(**usage), sessions)


def test_what_grows_with_the_sessions_does() -> None:
    small, large = loaded(1e5), loaded(1e7)
    assert large.turns == pytest.approx(100 * small.turns)
    assert large.held == pytest.approx(100 * small.held)
    assert large.wal == pytest.approx(100 * small.wal)
    assert loaded(1e5, turns_a_day=20.0).turns == pytest.approx(2 * small.turns)


def test_what_breaks_first_is_named_first() -> None:
    found = loaded(1e7)
    parts = list(shares(found, Host(connections=1.0)))
    assert parts[0][0] == "connections that gateways may open"
    assert [share for _, share in parts] == sorted((share for _, share in parts), reverse=True)
