"""A revocation on its way: what the marker says, who is told, and what comes in between."""

from __future__ import annotations

import asyncio
import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.files.test_faults import FullDisk, a_store, assert_turns_are_whole
from tests.helpers import PATIENCE, eventually, holder, kinds
from turnlock import LeaseRevoked
from turnlock.backends import Backend
from turnlock.backends.files.fileops import FileOps
from turnlock.events import Event, RevocationFailed
from turnlock.session import parse_key
from turnlock.store import Store
from turnlock.turns import revoking
from turnlock.turns.lease import State
from turnlock.turns.queue import queues
from turnlock.turns.revoking import Markers, Settlement
from turnlock.turns.runtime import Runtime


def test_the_marker_says_what_the_turn_was_at(store: Store) -> None:
    with pytest.raises(LeaseRevoked), store.turn("main/a", turn_id="T1") as turn:
        turn.describe_model(provider="practice", model="small", api="openai-completions")
        turn.progress("thinking")
        store.revoke("main/a")
    (data,) = [entry["data"] for entry in store.read("main/a") if "reason" in entry["data"]]
    said = {name: data[name] for name in ("turnId", "reason", "phase", "provider", "model")}
    assert said == {
        "turnId": "T1",
        "reason": "operator",
        "phase": "thinking",
        "provider": "practice",
        "model": "small",
    }
    assert data["heldMs"] >= 0


def superseded(state: Path, files: FileOps | None = None) -> Settlement:
    """By another store, as by another process."""
    with holder(state, "T1"):
        settlement = a_store(state, files).supersede("main/a", turn_id="T1")
    assert settlement is not None
    return settlement


@pytest.mark.processes
def test_who_supersedes_a_holder_learns_what_became_of_its_marker(state: Path) -> None:
    assert superseded(state) == Settlement(Markers.WRITTEN, released=True)
    assert a_store(state).supersede("main/a") is None


@pytest.mark.processes
def test_a_marker_that_could_not_be_written_is_owed_and_it_says_why(state: Path) -> None:
    files = FullDisk()
    files.room = 0
    settlement = superseded(state, files)
    assert (settlement.markers, settlement.released) == (Markers.OWED, False)
    assert settlement.why.startswith("No space left on device")


@contextmanager
def somebody_in_the_guard(state: Path) -> Iterator[None]:
    """As a process that was stopped there."""
    with (state / "agents/main/sessions/a.jsonl").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_a_holder_that_cannot_be_fenced_yet_is_told_and_fenced_when_it_can_be(state: Path) -> None:
    store = a_store(state)
    failed = threading.Event()

    def note(event: Event) -> None:
        if isinstance(event, RevocationFailed):
            failed.set()

    store.subscribe(note)

    async def hang(inside: asyncio.Event) -> None:
        async with store.turn("main/a", turn_id="T1") as turn:
            await turn.append(turnlock.user("1"))
            inside.set()
            await asyncio.Event().wait()

    async def main() -> None:
        inside = asyncio.Event()
        task = asyncio.create_task(hang(inside))
        await inside.wait()
        with somebody_in_the_guard(state):
            await asyncio.to_thread(store.revoke, "main/a")
            assert failed.is_set()
            with pytest.raises(LeaseRevoked):
                async with asyncio.timeout(PATIENCE):
                    await task
            assert kinds(store) == ["turn", "user:1"]

    asyncio.run(main())
    with store.turn("main/a", wait=PATIENCE) as turn:
        turn.append(turnlock.user("2"))
    assert kinds(store) == ["turn", "user:1", "operator", "turn", "user:2", "end"]
    assert_turns_are_whole(store)


def test_a_revoked_block_ends_when_its_revoker_is_through(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not when the longest is over that it would wait for one that hangs."""
    monkeypatch.setattr("turnlock.turns.turn.HAND_OVER_TIMEOUT", 1000.0)
    over = threading.Event()

    def work() -> None:
        with pytest.raises(LeaseRevoked), store.turn("main/a"):
            store.revoke("main/a")
        over.set()

    threading.Thread(target=work, daemon=True).start()
    eventually(over.is_set)


def test_a_holder_is_never_told_a_reason_before_it_is_known(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever took the session says why in its marker; the holder may write while that is read."""
    states: list[State] = []

    def reason(*_: object) -> str:
        states.extend(lease.state for one in Runtime.all() for lease in one.leases())
        return "hold-limit"

    monkeypatch.setattr(revoking, "reason_in_transcript", reason)
    with pytest.raises(LeaseRevoked) as caught, a_store(state).turn("main/a") as turn:
        turn.append(turnlock.user("1"))
        (state / "agents/main/sessions/a.jsonl.lock").unlink()
        turn.append(turnlock.user("2"))
    assert caught.value.reason == "hold-limit"
    assert states == [State.HELD]


class TestWhateverFailsOnTheWay:
    """No memory, a bug: what no error of storage is must not leave the lease half revoked."""

    def test_a_fence_is_tried_again(
        self, backend: Backend[Any], store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            monkeypatch.undo()
            raise MemoryError

        monkeypatch.setattr(backend, "supersede", fail)
        with pytest.raises(LeaseRevoked), store.turn("main/a"):
            store.revoke("main/a")
            eventually(lambda: store.statistics().revoked)
        # The holder waits for a moment only until the revoker is through.
        eventually(lambda: kinds(store) == ["turn", "operator"])

    def test_the_claim_of_the_revoker_does_not_stay(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise MemoryError

        monkeypatch.setattr("turnlock.turns.writer.Writer.settle", fail)
        with pytest.raises(LeaseRevoked), store.turn("main/a"):
            store.revoke("main/a")
        monkeypatch.undo()
        assert [one for one in store.locks() if not one.stale] == []

    def test_the_queue_goes_on(
        self, backend: Backend[Any], store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise MemoryError

        # A revoked block waits for its revoker to be through.
        monkeypatch.setattr("turnlock.turns.turn.HAND_OVER_TIMEOUT", 1000.0)
        monkeypatch.setattr(revoking, "settle_and_release", fail)
        with pytest.raises(LeaseRevoked), store.turn("main/a"):
            with pytest.raises(MemoryError):
                store.revoke("main/a")
            assert queues.head(backend.identity(parse_key("main/a"))) is None


def unverified(state: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store whose watchdog does not come round to asking for its leases."""
    store = turnlock.open_store(state)
    monkeypatch.setattr(store._runtime.watchdog, "_verify", lambda leases: None)
    return store


def test_who_holds_is_revoked_and_not_a_turn_here_that_lost_its_claim(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has found out yet that a person removed the lock file; another turn holds."""
    store = unverified(state, monkeypatch)
    with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a", turn_id="MINE"):
        (state / "agents/main/sessions/a.jsonl.lock").unlink()
        with holder(state, "OTHER") as process:
            did = [store.revoke("main/a", turn_id=one) for one in ("MINE", "OTHER")]
            process.tell("late")
            said = process.line()
    # Not in the block: what it raised would be taken for a consequence.
    assert (did, said) == ([False, True], "revoked operator")


def test_nobody_holds_where_the_claim_of_a_turn_here_is_gone(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = unverified(state, monkeypatch)
    with pytest.raises(turnlock.LeaseRevoked) as caught, store.turn("main/a"):
        (state / "agents/main/sessions/a.jsonl.lock").unlink()
        did = store.revoke("main/a")
    assert (did, caught.value.reason) == (False, "superseded")
