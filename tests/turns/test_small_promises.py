"""What a turn promises in passing: its limits, its queue, its stream, what it finds when it begins.

On files where it matters what another process sees, else in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.files.test_faults import FullDisk, a_store
from tests.files.test_protocol import KEY, a_backend, a_dead_lock, marked
from tests.helpers import PATIENCE, eventually, holder, kinds
from turnlock import LeaseRevoked
from turnlock.backends import Holder, TakeRequest
from turnlock.backends.files import FilesBackend, StateDirectory
from turnlock.backends.files.fileops import FileOps, Handle
from turnlock.store import Store
from turnlock.turns.queue import Queues, Ticket, queues
from turnlock.turns.sync import Turn


class TestTheQueue:
    def test_who_was_granted_cannot_give_up_any_more(self) -> None:
        """It takes the session, or leaves: whoever only gave up would wake nobody behind it."""
        queues = Queues()
        first, second, third = (
            Ticket("session", number, str(number), lambda: None) for number in range(3)
        )
        for ticket in (first, second, third):
            queues.enter(ticket)
        assert queues.give_up(third)
        queues.leave(first)
        assert second.granted
        assert not queues.give_up(second)
        assert queues.head("session") is second

    @pytest.mark.parametrize("is_async", [False, True])
    def test_who_waits_behind_another_waiter_is_told_who_holds(
        self, is_async: bool, state: Path
    ) -> None:
        store = turnlock.open_store(state)

        def take(wait: float) -> None:
            with contextlib.suppress(LeaseRevoked), store.turn("main/a", wait=wait):
                pass

        async def take_in_task(wait: float) -> None:
            async with store.turn("main/a", wait=wait):
                pass

        with holder(state, "T1", max_hold=77.0) as process:
            first = threading.Thread(target=take, args=[PATIENCE])
            first.start()
            head = eventually(lambda: queues.head(store.identity("main/a")))
            eventually(lambda: head.awaits)
            with pytest.raises(turnlock.SessionBusy) as caught:
                if is_async:
                    asyncio.run(take_in_task(0.01))
                take(0.01)
            busy = caught.value
            pid = process.pid
        first.join()
        assert (busy.holder_pid, busy.holder_turn, busy.limit) == (pid, "T1", 77.0)
        assert busy.age is not None
        assert busy.age > 0

    def test_who_waits_is_told_of_its_own_session_although_another_has_a_turn_of_that_name(
        self,
    ) -> None:
        store = turnlock.open_store("memory:")

        def wait() -> None:
            with pytest.raises(turnlock.SessionBusy) as caught, store.turn("main/b", wait=0):
                pass
            limits.append(caught.value.limit)

        limits: list[float | None] = []
        with (
            store.turn("main/a", turn_id="T1", max_hold=11),
            store.turn("main/b", turn_id="T1", max_hold=22),
        ):
            waiter = threading.Thread(target=wait)
            waiter.start()
            waiter.join()
        assert limits == [22]

    def test_a_task_that_gives_up_leaves_the_line_while_another_process_holds(
        self, state: Path
    ) -> None:
        other, store = a_backend(state), a_store(state)
        held = other.take(KEY, TakeRequest("T1", 60.0))
        assert not isinstance(held, Holder)

        def waiters() -> int:
            return a_store(state).waiters(["main/b", "main/a"])["main/a"]

        async def wait() -> None:
            async with store.turn("main/a", wait=None):
                raise AssertionError("it had given up")

        async def main() -> None:
            task = asyncio.create_task(wait())
            # In the line, and not in this process's queue alone: now something has to wake it.
            await asyncio.to_thread(eventually, lambda: other.in_line([KEY])[KEY] == 1)
            assert waiters() == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(eventually, lambda: waiters() == 0)

        asyncio.run(main())
        assert other.release(held)

    def test_a_busy_session_says_who_holds_it_since_when_and_for_how_long(
        self, state: Path
    ) -> None:
        held = a_backend(state).take(KEY, TakeRequest("T1", 60.0))
        assert not isinstance(held, Holder)
        with pytest.raises(turnlock.SessionBusy) as caught, a_store(state).turn("main/a", wait=0):
            pass
        busy = caught.value
        assert (busy.holder_pid, busy.holder_turn, busy.limit) == (os.getpid(), "T1", 60.0)
        assert busy.age is not None
        assert 0.0 <= busy.age < 60.0


def progressed(turn: Turn) -> float:
    """When it did last, without what the watchdog gave back for standing still."""
    lease = turn._core.lease
    return lease.progressed - lease.given_back


class TestLimits:
    def test_an_append_is_progress(self, store: Store) -> None:
        with store.turn("main/a", max_hold=7200.0, max_stall=60.0) as turn:
            before = progressed(turn)
            turn.append(turnlock.user("1"))
            assert progressed(turn) > before

    def test_asking_is_no_progress(self, store: Store) -> None:
        with store.turn("main/a", max_hold=7200.0, max_stall=60.0) as turn:
            before = progressed(turn)
            turn.check()
            assert turn.messages() == []
            assert progressed(turn) == pytest.approx(before, rel=0, abs=1e-7)

    def test_a_function_that_failed_has_no_limit_any_more(self, store: Store) -> None:
        def fail() -> None:
            raise ConnectionError

        with store.turn("main/a") as turn:
            with pytest.raises(ConnectionError):
                turn.watch(fail, first=60)
            assert turn.watch(lambda: 1, first=60) == 1
            assert list(turn.watch(iter([1]), first=60)) == [1]
            assert turn._core.lease.calls == {}

    def test_a_stream_gives_nothing_once_the_session_is_taken(self, store: Store) -> None:
        with pytest.raises(LeaseRevoked), store.turn("main/a") as turn:
            stream = turn.watch(iter([1, 2, 3]))
            assert next(stream) == 1
            store.revoke("main/a")
            with pytest.raises(LeaseRevoked):
                next(stream)

    def test_a_check_asks_the_storage(self, state: Path) -> None:
        with pytest.raises(LeaseRevoked), a_store(state).turn("main/a") as turn:
            turn.check()
            (state / "agents/main/sessions/a.jsonl.lock").unlink()
            with pytest.raises(LeaseRevoked):
                turn.check()


class TestTheBeginning:
    def test_what_predecessors_owe_is_there_before_the_block_begins(self, state: Path) -> None:
        a_dead_lock(state)
        with a_store(state).turn("main/a", wait=0):
            assert marked(state) == [("dead", "interrupted")]

    def test_a_full_disk_does_not_keep_a_turn_from_beginning(self, state: Path) -> None:
        a_dead_lock(state)
        files = FullDisk()
        store = a_store(state, files)
        files.room = 0
        begun = False
        with pytest.raises(turnlock.StoreError), store.turn("main/a", wait=0) as turn:
            begun = turn.messages() == []
        assert begun
        assert store.statistics().markers_owed > 0

    def test_a_lock_without_turns_writes_nothing_whatever_its_block_raises(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "a.jsonl"
        with pytest.raises(ValueError, match="mine"), turnlock.SessionLock(path):
            raise ValueError("mine")
        assert path.read_bytes() == b""

    def test_a_transcript_that_a_bare_lock_made_gets_its_header_from_the_first_turn(
        self, state: Path
    ) -> None:
        path = state / "agents/main/sessions/a.jsonl"
        path.parent.mkdir(parents=True)
        with turnlock.SessionLock(path):
            pass
        assert path.read_bytes() == b""
        with a_store(state).turn("main/a") as turn:
            turn.append(turnlock.user("1"))
        assert path.read_bytes().startswith(b'{"type":"session"')

    def test_a_transcript_that_may_not_be_written_is_said_to_be_so(self, state: Path) -> None:
        store = a_store(state, Forbidden())
        with pytest.raises(turnlock.TranscriptError, match="permission"), store.turn("main/a"):
            pass
        assert store.locks() == []


class Forbidden(FileOps):
    def open(self, path: str, flags: int, mode: int = 0o600) -> Handle:
        if path.endswith(".jsonl") and flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return super().open(path, flags, mode)


class Marking(FileOps):
    """Gives a revoked holder time to end before its marker is written."""

    def __init__(self, over: threading.Event) -> None:
        self._over = over
        self.was_over: bool | None = None

    def write(self, handle: Handle, data: bytes | memoryview) -> int:
        if b"openclaw:prompt-error" in bytes(data):
            self.was_over = self._over.wait(0.2)
        return super().write(handle, data)


def test_who_catches_a_revocation_finds_the_marker(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnlock.turns.turn.HAND_OVER_TIMEOUT", PATIENCE)
    over = threading.Event()
    files = Marking(over)
    # Without fsync, as the queue waits a second for a marker and no longer.
    backend = FilesBackend(StateDirectory(str(state)), files=files, durability="none")
    store = Store(backend, location="test")
    revoker: list[threading.Thread] = []
    with pytest.raises(LeaseRevoked), store.turn("main/a") as turn:
        turn.append(turnlock.user("1"))
        revoker.append(threading.Thread(target=lambda: store.revoke("main/a")))
        revoker[0].start()
        eventually(lambda: turn.revoked)
    over.set()
    assert kinds(store) == ["turn", "user:1", "operator"]
    revoker[0].join()
    assert files.was_over is False


class NoRenameOf(FileOps):
    def __init__(self, name: str) -> None:
        self._name = name

    def rename(self, source: str, target: str) -> None:  # type: ignore[override]
        if os.path.basename(target) == self._name:
            raise OSError(errno.EIO, "Input/output error")
        os.rename(source, target)


def test_one_lock_that_cannot_be_removed_stops_no_clean_up_and_both_are_logged(
    state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = a_dead_lock(state)
    gone = kept.with_name("b.jsonl.lock")
    gone.write_bytes(kept.read_bytes().replace(b"main/a", b"main/b"))
    with caplog.at_level(logging.WARNING, "turnlock"):
        records = a_store(state, NoRenameOf(kept.name)).clean_stale()
    assert [(record.session, record.removed) for record in records] == [
        ("main/a", False),
        ("main/b", True),
    ]
    assert (kept.exists(), gone.exists()) == (True, False)
    said = [record.getMessage() for record in caplog.records]
    assert any(text.startswith(f"stale lock left in place: path={kept}") for text in said)
    (removed,) = [text for text in said if text.startswith("removed stale lock")]
    for fact in (f"path={gone}", "session=main/b", f"pid={os.getpid()}", "reasons=dead-pid"):
        assert fact in removed
    assert "age=" in removed


class TestWhatIsNoText:
    """It is refused where it is said, and not when a marker is written of it."""

    @pytest.mark.parametrize("said", ["provider", "model", "api"])
    def test_of_a_model(self, said: str, store: Store) -> None:
        named: dict[str, Any] = {said: 42}
        with pytest.raises(TypeError, match=f"{said} is text"), store.turn("main/a") as turn:
            turn.describe_model(**named)
        assert kinds(store) == ["turn", "error"]

    @pytest.mark.parametrize("what", [b"x", 5, ["x"]])
    def test_of_what_a_turn_is_at(self, what: Any, store: Store) -> None:
        with pytest.raises(TypeError, match="what is text"), store.turn("main/a") as turn:
            turn.progress(what)
        with pytest.raises(TypeError, match="what is text"), store.turn("main/a") as turn:
            turn.watch([1], what=what)
        assert kinds(store) == ["turn", "error", "turn", "error"]
