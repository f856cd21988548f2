"""What the model of the protocol found, each at the step at which it went wrong.

Every test puts another's steps between two of ours, where a process may be stopped.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.files.test_faults import FullDisk, a_store, assert_turns_are_whole
from turnlock.backends import Holder, TakeRequest
from turnlock.backends.files import FilesBackend, StateDirectory, guard
from turnlock.backends.files.fileops import FileOps, Handle
from turnlock.clock import SystemClock
from turnlock.session import parse_key
from turnlock.turns.runtime import Runtime
from turnlock.turns.taking import Attempt, wanted

KEY = parse_key("main/a")
FOREIGN = {"pid": 2**22 + 1, "createdAt": "2026-01-01T00:00:00.000Z"}


class Meanwhile(FileOps):
    """Lets somebody else act just before ``call`` on the lock path, or just after it; once."""

    def __init__(self, call: str, act: Callable[[], object], *, after: bool = False) -> None:
        self._call = call
        self._act: Callable[[], object] | None = act
        self._after = after

    def _around(self, call: str, path: str, go_on: Callable[[], None]) -> None:
        if call != self._call or not path.endswith(".jsonl.lock") or self._act is None:
            go_on()
            return
        act, self._act = self._act, None
        if self._after:
            go_on()
        act()
        if not self._after:
            go_on()

    def rename(self, source: str, target: str) -> None:  # type: ignore[override]
        self._around("rename", target, lambda: super(Meanwhile, self).rename(source, target))

    def unlink(self, path: str) -> None:  # type: ignore[override]
        self._around("unlink", path, lambda: super(Meanwhile, self).unlink(path))

    def link_unnamed(self, handle: Handle, path: str, proc: Handle) -> None:
        go_on = super().link_unnamed
        self._around("link", path, lambda: go_on(handle, path, proc))


def a_backend(state: Path, files: FileOps | None = None) -> FilesBackend:
    return FilesBackend(StateDirectory(str(state)), files=files, guard_timeout=0.05)


def a_dead_lock(state: Path, claim: dict[str, Any] | None = None) -> Path:
    """A lock without transcript; of OpenClaw, or of a turn of ours that wrote nothing."""
    lock = state / "agents/main/sessions/a.jsonl.lock"
    lock.parent.mkdir(parents=True, mode=0o700)
    if claim is not None:
        lock.write_text(json.dumps(claim))
        return lock
    backend = a_backend(state)
    lease = backend.take(KEY, TakeRequest("dead", 60.0))
    assert not isinstance(lease, Holder)
    backend.leave_owing(lease)
    return lock


def marked(state: Path) -> list[tuple[str, str]]:
    """(turn, reason) of the error markers in the transcript."""
    found = (entry.get("data", {}) for entry in a_store(state).read("main/a"))
    return [(data["turnId"], data["reason"]) for data in found if "reason" in data]


def test_of_two_that_take_a_lock_without_transcript_one_loses(state: Path) -> None:
    """Check and rename are one step where no transcript is, too: the flock is a living holder's."""
    holds = a_backend(state).take(KEY, TakeRequest("hung", 60.0))
    assert not isinstance(holds, Holder)
    (state / "agents/main/sessions/a.jsonl").unlink()
    other = a_backend(state)
    got: list[Any] = []

    def take() -> None:
        try:
            got.append(other.supersede(KEY, TakeRequest("other", 60.0), lease=None, reason="x"))
        except turnlock.StoreError:
            got.append(None)

    backend = a_backend(state, Meanwhile("rename", take))
    lease = backend.supersede(KEY, TakeRequest("mine", 60.0), lease=None, reason="operator")
    assert lease is not None
    assert got == [None]
    assert backend.holds(lease)


def test_clean_up_that_is_stopped_in_its_release_removes_no_successors_lock(state: Path) -> None:
    """The release of a lease without transcript is guarded as well."""
    a_dead_lock(state, FOREIGN)
    other = a_backend(state)
    got: list[Any] = []

    def take() -> None:
        try:
            got.append(other.supersede(KEY, TakeRequest("next", 60.0), lease=None, reason="x"))
        except turnlock.StoreError:
            got.append(None)

    backend = a_backend(state, Meanwhile("unlink", take))
    (record,) = backend.locks()
    lease = backend.reclaim(record, TakeRequest(None, 2.0, header=False))
    assert lease is not None
    backend.release(lease)
    assert got == [None]
    assert not (state / "agents/main/sessions/a.jsonl").exists()


def test_a_lease_whose_directory_is_gone_is_released(state: Path) -> None:
    """Where nothing is, nothing has to be guarded; its holder is told that it lost its session."""
    with pytest.raises(turnlock.LeaseRevoked), a_store(state).turn("main/a", wait=0):
        shutil.rmtree(state / "agents")
    assert not (state / "agents").exists()


def test_a_waiter_takes_a_session_whose_directory_was_removed(state: Path) -> None:
    """As whoever comes new does; what it had ready for its claim went with the directory."""
    backend = a_backend(state)
    before = backend.take(KEY, TakeRequest("before", 60.0))
    assert not isinstance(before, Holder)
    backend.release(before)
    holds = a_backend(state).take(KEY, TakeRequest("hung", 60.0))
    assert not isinstance(holds, Holder)
    standing = backend.line_up(KEY)
    found = backend.take(KEY, TakeRequest("next", 60.0), standing=standing)
    assert isinstance(found, Holder)
    standing.prepare(backend._claims.prepare)
    shutil.rmtree(state / "agents")
    lease = backend.take(KEY, TakeRequest("next", 60.0), standing=standing)
    assert not isinstance(lease, Holder)
    assert backend.holds(lease)
    standing.close()


def test_a_take_that_was_revoked_before_it_began_does_not_begin(state: Path) -> None:
    """Revocation is final: the turn has its marker, and nothing of it comes after that."""
    operator = a_store(state)
    files = Meanwhile("link", lambda: operator.revoke("main/a"), after=True)
    store = a_store(state, files)
    with (
        pytest.raises(turnlock.LeaseRevoked) as caught,
        store.turn("main/a", turn_id="T1") as turn,
    ):
        turn.append(turnlock.user("late"))
    assert (caught.value.turn_id, caught.value.reason) == ("T1", "operator")
    assert marked(state) == [("T1", "operator")]
    assert not [entry for entry in operator.read("main/a") if "message" in entry]
    with store.turn("main/a", wait=0):
        pass


def test_a_task_learns_that_its_take_was_revoked_before_it_began(state: Path) -> None:
    import asyncio

    operator = a_store(state)
    store = a_store(state, Meanwhile("link", lambda: operator.revoke("main/a"), after=True))

    async def take() -> None:
        async with store.turn("main/a", turn_id="T1"):
            pass

    with pytest.raises(turnlock.LeaseRevoked):
        asyncio.run(take())
    assert marked(state) == [("T1", "operator")]


def test_a_waiter_that_gives_up_as_it_gets_the_session_pays_what_it_took_over(state: Path) -> None:
    """Of a turn that wrote nothing the claim is the only record: it is not dropped unread."""
    a_dead_lock(state)
    backend = a_backend(state)
    want = wanted(KEY, wait=0.0, max_hold=60.0)
    attempt = Attempt(Runtime(clock=SystemClock()), backend, want, started=0.0)
    attempt.give_up()
    assert attempt.run() is None
    assert marked(state) == [("dead", "interrupted")]
    assert os.listdir(state / "agents/main/sessions") == ["a.jsonl"]


class UnreadableTail(FileOps):
    """The end of the transcript cannot be read, for a while."""

    broken = False

    def read_at(self, handle: Handle, offset: int, length: int) -> bytes:
        if self.broken and os.readlink(f"/proc/self/fd/{handle.fd}").endswith(".jsonl"):
            raise OSError(errno.EIO, "Input/output error")
        return super().read_at(handle, offset, length)


def test_a_take_that_fails_after_it_superseded_owes_on(state: Path) -> None:
    a_dead_lock(state)
    files = UnreadableTail()
    store = a_store(state, files)
    files.broken = True
    with pytest.raises(turnlock.StoreError), store.turn("main/a", wait=0, turn_id="T2"):
        pass
    files.broken = False
    with store.turn("main/a", wait=0) as turn:
        turn.append(turnlock.user("next"))
    assert ("dead", "interrupted") in marked(state)
    assert_turns_are_whole(store)


def test_a_turn_that_cannot_write_what_it_owes_leaves_it_to_the_next(state: Path) -> None:
    """A full disk delays a marker. It does not drop it."""
    a_dead_lock(state)
    files = FullDisk()
    store = a_store(state, files)
    files.room = 0
    with pytest.raises(turnlock.StoreError), store.turn("main/a", wait=0, turn_id="T2"):
        pass
    files.room = 10**9
    with store.turn("main/a", wait=0) as turn:
        turn.append(turnlock.user("next"))
    assert ("dead", "interrupted") in marked(state)
    assert_turns_are_whole(store)


def test_who_has_the_guard_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of /proc/locks may be passed over while the table changes."""
    looks = iter([None, 4711])
    monkeypatch.setattr(guard, "_holder_in_table", lambda wanted: next(looks))
    assert guard.flock_holder(tmp_path.stat()) == 4711
