"""A sweep over many locks of other programs looks through the processes once, and stays right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import turnlock
from turnlock.backends.files import FilesBackend, process

_DEAD = 2**22 + 1  # above any pid_max


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An entry for each look through the processes of other namespaces; there are none."""
    made: list[str] = []

    def look() -> frozenset[int]:
        made.append("look")
        return frozenset()

    monkeypatch.setattr(process, "_pids_elsewhere", look)
    return made


def plant(state: Path, name: str, pid: int = _DEAD) -> Path:
    sessions = state / "agents/main/sessions"
    sessions.mkdir(parents=True, exist_ok=True)
    lock = sessions / f"{name}.jsonl.lock"
    lock.write_text(json.dumps({"pid": pid, "createdAt": "2026-11-23T10:00:00.000Z"}))
    return lock


def test_many_dead_claims_cost_one_look(state: Path, looks: list[str]) -> None:
    for number in range(20):
        plant(state, f"s{number}")
    with turnlock.open_store(state) as store:
        cleaned = store.clean_stale()
    assert [lock.removed for lock in cleaned] == [True] * 20
    assert len(looks) == 1


def test_a_claim_that_came_after_the_look_is_looked_up(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = plant(state, "a")
    with turnlock.open_store(state) as store:
        (seen,) = store.locks()
        assert seen.stale
        # Another container's process writes its claim between the look and the deed.
        plant(state, "a", _DEAD + 1)
        monkeypatch.setattr(process, "_pids_elsewhere", lambda: frozenset({_DEAD + 1}))
        assert not store.clean(seen).removed
    assert lock.exists()


def test_an_error_of_one_session_stops_no_sweep(
    state: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it is: a lock that clean-up fails on is logged and left, and the gateway starts."""
    for name in ("a", "b", "c"):
        plant(state, name)
    reclaim = FilesBackend.reclaim

    def fail_on_b(backend: FilesBackend, record: Any, *args: Any, **kw: Any) -> Any:
        if record.session == "main/b":
            raise TypeError("unhashable type: 'list'")
        return reclaim(backend, record, *args, **kw)

    monkeypatch.setattr(FilesBackend, "reclaim", fail_on_b)
    with turnlock.open_store(state) as store:
        cleaned = store.clean_stale()
    assert [lock.removed for lock in cleaned] == [True, False, True]
    assert "b.jsonl.lock: TypeError" in caplog.text
